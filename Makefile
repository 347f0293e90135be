# Everything runs in .venv; both targets set it up first.
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: demo test check format clean

demo: $(STAMP)
	$(VENV)/bin/gaprune demo --out demo-output --overwrite

test: $(STAMP) check
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile

check: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(STAMP)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

$(STAMP): pyproject.toml constraints.txt
	test -x $(PY) || python3 -m venv $(VENV)
	$(PY) -m pip install --quiet torch==2.13.0
	$(PY) -m pip install --quiet -c constraints.txt -e '.[demo,lora,mteb,plots,vocabulary,onnx,openvino,dev]'
	touch $@

clean:
	rm -rf $(VENV) demo-output build dist src/*.egg-info
