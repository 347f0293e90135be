# Everything runs in .venv; all targets set it up first, with the versions that CONSTRAINTS pins.
VENV := .venv
CONSTRAINTS ?= constraints.txt
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: demo quick test readers check docs dist format clean

demo: $(STAMP)
	$(VENV)/bin/gaprune demo --out demo-output --overwrite

# The inner loop: about a minute on two cores.
quick: $(STAMP)
	GAPRUNE_QUICK=1 OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --no-loadscope-reorder -m "not slow"

test: $(STAMP) check
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --no-loadscope-reorder

# Children of all families in other readers, old and new, each in an environment of its own in READERS_HOME; needs npm.
readers: $(STAMP)
	OMP_NUM_THREADS=1 $(PY) tests/readers/check.py

check: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# The site, strictly and without the network, into site/.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

# The wheel and the source distribution, into dist/: the wheel is built from the source distribution.
dist: $(STAMP)
	$(PY) -c "from setuptools.build_meta import build_sdist; build_sdist('dist')"
	$(PY) -m pip wheel --quiet --no-deps --wheel-dir dist dist/*.tar.gz

format: $(STAMP)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

$(STAMP): pyproject.toml $(CONSTRAINTS)
	test -x $(PY) || python3 -m venv $(VENV)
	$(PY) -m pip install --quiet $$(grep '^torch==' $(CONSTRAINTS))
	$(PY) -m pip install --quiet -c $(CONSTRAINTS) -e '.[demo,gguf,lora,mteb,pdf,vocabulary,onnx,openvino,docs,dev]'
	touch $@

clean:
	rm -rf $(VENV) .readers demo-output build dist site src/*.egg-info
