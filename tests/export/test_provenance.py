"""What identifies a parent, and reading it back."""

from __future__ import annotations

import json
import platform

import pytest
import torch

from gaprune.errors import ModelError
from gaprune.export.provenance import parent_identity, read_provenance, versions
from gaprune.models.fingerprints import weights_fingerprint
from gaprune.models.load import load_model


class TestFingerprint:
    def test_is_of_the_weights_not_of_the_object(self, family_folder):
        first, second = (load_model(family_folder, device="cpu") for _ in range(2))
        assert weights_fingerprint(first) == weights_fingerprint(second)
        assert len(weights_fingerprint(first)) == 64

    def test_one_bit_tells(self, bert):
        before = weights_fingerprint(bert)
        with torch.no_grad():
            weight = bert.get_parameter("0.model.encoder.layer.0.output.dense.weight")
            weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(torch.inf))
        assert weights_fingerprint(bert) != before

    def test_a_negative_zero_tells(self, bert):
        weight = bert.get_parameter("0.model.encoder.layer.0.output.dense.bias")
        with torch.no_grad():
            weight[0] = 0.0
            before = weights_fingerprint(bert)
            weight[0] = -0.0
        assert weights_fingerprint(bert) != before

    def test_the_type_tells(self, bert):
        before = weights_fingerprint(bert)
        assert weights_fingerprint(bert.half()) != before

    def test_training_mode_does_not(self, bert):
        assert weights_fingerprint(bert.train()) == weights_fingerprint(bert.eval())


def test_identity(bert):
    assert parent_identity(bert, "org/model", "main") == {
        "name": "org/model",
        "revision": "main",
        "commit": None,
        "weights_sha256": weights_fingerprint(bert),
    }


def test_versions():
    said = versions()
    assert said["python"] == platform.python_version()
    assert said["torch"].startswith(torch.__version__.split("+", maxsplit=1)[0])
    assert {"gaprune", "transformers", "sentence-transformers", "tokenizers", "safetensors", "numpy"} < said.keys()


class TestReading:
    def test_what_was_written(self, tmp_path):
        content = {"made": "today", "parent": {}, "method": {}, "sparsity": {}}
        (tmp_path / "gaprune.json").write_text(json.dumps(content), encoding="utf-8")
        assert read_provenance(tmp_path) == content

    def test_a_model_that_is_not_ours(self, folder_of):
        assert read_provenance(folder_of("bert")) is None
        assert read_provenance("some-organisation/some-model") is None

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"{", "cannot be read"),
            (b"\xff\xfe", "cannot be read"),
            (b"[1]", "is not what"),
            (b'{"made": 1}', "is not what"),
        ],
    )
    def test_a_broken_file(self, tmp_path, content, reason):
        (tmp_path / "gaprune.json").write_bytes(content)
        with pytest.raises(ModelError, match=rf"gaprune\.json {reason}") as caught:
            read_provenance(tmp_path)
        assert caught.value.remedy == "Delete it, or restore the folder."
