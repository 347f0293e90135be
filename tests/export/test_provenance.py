"""The file gaprune.json: typed, versioned, refused with a reason, and without paths of the user's machine."""

from __future__ import annotations

import json
import platform

import pytest
import torch
from sentence_transformers import SentenceTransformer

import gaprune
import provenances
from gaprune.errors import ModelError
from gaprune.export.portable import Parent, portable
from gaprune.export.provenance import Provenance, versions
from gaprune.models.fingerprints import weights_fingerprint
from gaprune.models.load import load_model
from gaprune.util.records import SCHEMA
from toys import triplets_file


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


def test_a_reader_can_make_the_digests_again(folder_of, tmp_path, toy_triplets):
    """As docs/usage.md says: of the texts of the file, and of the weights of the parent."""
    file = triplets_file(tmp_path / "mine.jsonl", toy_triplets)
    gaprune.prune(folder_of("bert"), domain=file, criterion="wanda", reconstruct=False, out=tmp_path / "out")
    said = Provenance.read(tmp_path / "out")
    assert said.calibration.domain.sha256 == gaprune.read_triplets(file).fingerprint
    assert said.parent.weights_sha256 == weights_fingerprint(SentenceTransformer(str(folder_of("bert"))))
    assert "SHA-256 of the texts" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_versions():
    said = versions()
    assert said["python"] == platform.python_version()
    assert said["torch"].startswith(torch.__version__.split("+", maxsplit=1)[0])
    assert {"gaprune", "transformers", "sentence-transformers", "tokenizers", "safetensors", "numpy"} < said.keys()


class TestParent:
    def test_a_model_on_the_hub(self, bert):
        parent = Parent.of(bert, "org/model", revision="main", dtype="bfloat16")
        assert (parent.name, parent.local, parent.path) == ("org/model", False, None)
        assert (parent.revision, parent.dtype, parent.commit) == ("main", "bfloat16", None)
        assert parent.weights_sha256 == weights_fingerprint(bert)
        assert parent.find("anywhere") == "org/model"

    @pytest.mark.parametrize(
        "name", ["/home/me/mine", "./mine", "../models/mine", "~/mine", "a/deep/mine", "a model in memory"]
    )
    def test_of_a_path_only_the_last_part_is_kept(self, name):
        parent = Parent.model_validate({"name": name, "weights_sha256": "ab"})
        assert parent.local
        assert parent.name in {"mine", "a model in memory"}
        assert parent.find("anywhere") is None

    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("/home/me/model", "model"),
            ("/home/me/bank/model", "bank-model"),
            ("/data/law/output/checkpoint-500", "law-checkpoint-500"),
            ("/srv/best_model", "srv-best_model"),
        ],
    )
    def test_a_folder_that_says_nothing_is_named_by_the_one_above(self, path, name):
        assert Parent.model_validate({"name": path, "weights_sha256": "ab"}).name == name

    @pytest.mark.parametrize(
        ("card", "name"),
        [
            ("---\nlanguage: en\n---\n\n# org/telling-v2\nText\n", "telling-v2"),
            ("---\nmodel-index:\n- name: listed\n---\n# Usage\n", "listed"),
            ("# SentenceTransformer\n", "bank-model"),
            ("# A model of mine\n# Usage\n", "bank-model"),
            ("---\n: [\n---\n# {MODEL_NAME}\n", "bank-model"),
        ],
    )
    def test_a_card_names_its_folder(self, tmp_path, card, name):
        folder = tmp_path / "bank" / "model"
        folder.mkdir(parents=True)
        (folder / "README.md").write_text(card)
        assert Parent.model_validate({"name": str(folder), "weights_sha256": "ab"}).name == name

    def test_the_demonstration_has_the_name_of_its_model_and_is_found_by_its_own(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        parent = Parent.model_validate({"name": "demo", "weights_sha256": "ab"})
        assert (parent.name, parent.find("anywhere")) == ("sentence-transformers/all-MiniLM-L6-v2", "demo")
        assert Parent.model_validate(parent.seen_from(tmp_path, "demo").model_dump()).find(tmp_path) == "demo"

    def test_an_existing_folder_is_not_a_hub_id(self, tmp_path, monkeypatch):
        (tmp_path / "org" / "model").mkdir(parents=True)
        monkeypatch.chdir(tmp_path)
        parent = Parent.model_validate({"name": "org/model", "weights_sha256": "ab"})
        assert (parent.name, parent.local) == ("org-model", True)
        assert Parent.model_validate(parent.model_dump()) == parent

    def test_a_hub_id_that_was_read_stays_one(self, tmp_path, monkeypatch):
        (tmp_path / "org" / "model").mkdir(parents=True)
        monkeypatch.chdir(tmp_path)
        content = {"name": "org/model", "local": False, "weights_sha256": "ab"}
        assert Parent.model_validate(content).find("child") == "org/model"

    @pytest.mark.parametrize(
        ("child", "path"), [("out", "../model"), ("out/sparsity-0.5", "../../model"), ("a/b/out", None)]
    )
    def test_it_is_found_again_near_its_child(self, tmp_path, child, path):
        folder = tmp_path / "model"
        folder.mkdir()
        parent = Parent.model_validate({"name": str(folder), "weights_sha256": "ab"}).seen_from(
            tmp_path / child, folder
        )
        assert parent.path == path
        assert parent.find(tmp_path / child) == (None if path is None else str(folder))
        folder.rmdir()
        assert parent.find(tmp_path / child) is None


def test_options_keep_hub_ids_and_names_of_files(tmp_path):
    (tmp_path / "mine.jsonl").write_text("")
    found = portable(
        {
            "model": "org/model",
            "domain": str(tmp_path / "mine.jsonl"),
            "general": None,
            "out": str(tmp_path / "out"),
            "query_prompt": "/query: ",
            "recovery": {"teacher_cache": str(tmp_path / "cache"), "texts": str(tmp_path / "texts"), "distil": True},
            "sparsity": (0.5, 0.7),
        }
    )
    assert found == {
        "model": "org/model",
        "domain": "mine.jsonl",
        "general": None,
        "out": "out",
        "query_prompt": "/query: ",
        "recovery": {"teacher_cache": "cache", "texts": "texts", "distil": True},
        "sparsity": [0.5, 0.7],
    }


class TestReading:
    @pytest.mark.parametrize("make", [provenances.unstructured, provenances.structured])
    def test_what_was_written(self, tmp_path, make):
        written = make(recoveries=[provenances.recovery()])
        written.write(tmp_path)
        assert json.loads((tmp_path / "gaprune.json").read_text(encoding="utf-8"))["schema"] == SCHEMA
        assert Provenance.read(tmp_path) == written

    def test_a_model_that_is_not_ours(self, folder_of):
        assert Provenance.read(folder_of("bert")) is None
        assert Provenance.read("some-organisation/some-model") is None

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"{", "cannot be read"),
            (b"\xff\xfe", "cannot be read"),
            (b"[1]", "is not what"),
            (f'{{"schema": {SCHEMA}, "made": "1"}}'.encode(), "is not what GAPrune writes: versions"),
        ],
    )
    def test_a_broken_file(self, tmp_path, content, reason):
        (tmp_path / "gaprune.json").write_bytes(content)
        with pytest.raises(ModelError, match=rf"gaprune\.json {reason}") as caught:
            Provenance.read(tmp_path)
        assert "opens without it" in caught.value.remedy

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (
                {"parent": {}, "method": {}, "sparsity": {}, "recovery": [{"data": {"negatives": 0}}]},
                "no schema version",
            ),
            ({"schema": 1}, "schema 1"),
        ],
    )
    def test_another_version_is_refused(self, tmp_path, content, reason):
        """The first is what the versions before the schema wrote."""
        (tmp_path / "gaprune.json").write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(ModelError, match=rf"gaprune\.json has {reason}"):
            Provenance.read(tmp_path)
