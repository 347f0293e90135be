"""What goes wrong around a recovery: devices, full disks, parents and checkpoints that were moved or changed."""

from __future__ import annotations

import errno
import shutil
import sys

import pytest
import torch
from sentence_transformers import SentenceTransformerTrainingArguments

import gaprune
from gaprune.errors import ConfigError, ModelError, OutputError
from gaprune.models.fingerprints import weights_fingerprint
from gaprune.models.load import load_model
from gaprune.recovery.arguments import check_training
from gaprune.recovery.checkpoints import Checkpoints
from gaprune.recovery.data import read_recovery_data
from gaprune.recovery.trainer import RecoveryTrainer

QUICK = {"batch_size": 6, "evaluate_every": 1, "device": "cpu"}


class TestBeforePruning:
    """Whatever training would refuse is refused before anything is measured, pruned or embedded."""

    @pytest.fixture(autouse=True)
    def _never_pruned(self, monkeypatch):
        monkeypatch.setattr("gaprune.pipelines.prune.prune_unstructured", lambda *_, **__: pytest.fail("pruned"))
        monkeypatch.setattr("gaprune.recovery.teacher._write", lambda *_args, **_options: pytest.fail("embedded"))

    def refused(self, model, many, error, problem, **given):
        options = {"batch_size": 6, "distil": True, **given}
        with pytest.raises(error, match=problem):
            gaprune.prune(model, domain=many, criterion="magnitude", recover=2, recovery=options)
        with pytest.raises(error, match=problem):
            gaprune.recover(model, domain=many, parent=model, steps=2, **options)

    def test_several_devices(self, bert, many, monkeypatch):
        monkeypatch.setattr(SentenceTransformerTrainingArguments, "n_gpu", 2)
        self.refused(bert, many, ConfigError, "^device: one process sees 2 devices")

    @pytest.mark.parametrize("family", ["mpnet"], indirect=True)
    def test_activations_that_cannot_be_computed_again(self, model, many):
        problem = "^gradient_checkpointing: a MPNetModel cannot"
        self.refused(model, many, ModelError, problem, gradient_checkpointing=True)

    def test_batches_of_a_later_round(self, bert, many, monkeypatch):
        plan = sys.modules["gaprune.recovery.data"].plan

        def scarce(*args, seed, **options):
            if seed == 1:
                raise ConfigError("batch_size: of the second round", "")
            return plan(*args, seed=seed, **options)

        monkeypatch.setattr("gaprune.recovery.data.plan", scarce)
        asked = {"recover": 4, "rounds": 2, "recovery": {"batch_size": 6}}
        with pytest.raises(ConfigError, match="of the second round"):
            gaprune.prune(bert, domain=many, criterion="magnitude", **asked)


def test_bfloat16_where_there_is_none(bert, many, quick, monkeypatch):
    monkeypatch.setattr("transformers.utils.import_utils.is_torch_bf16_gpu_available", lambda: False)
    options = quick(bf16=True)
    with pytest.raises(ConfigError, match=r"^bf16: the device meta does not compute in bfloat16"):
        check_training(bert.to("meta"), read_recovery_data(options, domain=many), options)


@pytest.mark.parametrize(
    ("fault", "error", "problem"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), OutputError, "^A checkpoint cannot be written to .*points"),
        (RuntimeError("PytorchStreamWriter failed writing file data/0"), OutputError, "^A checkpoint cannot be"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate"), ConfigError, "^device: its memory"),
        (torch.OutOfMemoryError("Tried to allocate 2 GiB\nmore"), ConfigError, "^device: its memory .*2 GiB"),
        (RuntimeError("a fault of ours"), RuntimeError, "^a fault of ours"),
    ],
    ids=str,
)
def test_full_disks_and_memory(bert, many, tmp_path, monkeypatch, fault, error, problem):
    def fail(*_args, **_options):
        raise fault

    monkeypatch.setattr(RecoveryTrainer, "save_model", fail)
    with pytest.raises(error, match=problem) as caught:
        gaprune.recover(bert, domain=many, steps=2, batch_size=6, evaluate_every=1, checkpoint=tmp_path / "points")
    assert "more" not in str(caught.value).partition("\n")[0]


def test_no_checkpoint_that_nobody_could_go_on_from(bert, many, monkeypatch):
    monkeypatch.setattr(RecoveryTrainer, "_save_optimizer_and_scheduler", lambda *_args: pytest.fail("saved"))
    options = {"batch_size": 6, "evaluate_every": 1}
    gaprune.prune(bert, domain=many, criterion="magnitude", recover=2, recovery=options)
    assert gaprune.recover(bert, domain=many, steps=2, **options).training.held_out_triplets == 4
    monkeypatch.setattr(RecoveryTrainer, "save_model", lambda *_args, **_options: pytest.fail("saved"))
    assert gaprune.recover(bert, domain=many, steps=2, held_out=0, **options).training.held_out_triplets == 0


class TestParents:
    @pytest.fixture
    def folder(self, folder_of, tmp_path):
        """A folder whose parent was moved away since."""
        shutil.copytree(folder_of("bert"), tmp_path / "parent")
        gaprune.prune(tmp_path / "parent", criterion="magnitude", out=tmp_path / "pruned", device="cpu")
        (tmp_path / "parent").rename(tmp_path / "moved")
        return tmp_path / "pruned"

    def test_one_that_was_moved(self, folder, many, tmp_path):
        with pytest.raises(ConfigError, match=r"^parent: gaprune.json names parent, .* not found") as caught:
            gaprune.recover(folder, domain=many, steps=1, distil=True, **QUICK)
        assert "--parent" in caught.value.remedy
        options = {"parent": tmp_path / "moved", "teacher_cache": tmp_path / "cache"}
        assert gaprune.recover(folder, domain=many, steps=1, distil=True, **options, **QUICK).training.steps == 1

    def test_one_that_pools_otherwise_teaches_otherwise(self, folder_of, many, tmp_path):
        cache = tmp_path / "cache"
        for number, mode in enumerate(("mean", "cls"), start=1):
            parent = load_model(folder_of("bert"), device="cpu")
            parent[1].pooling_mode = mode
            model = load_model(folder_of("bert"), device="cpu")
            gaprune.recover(
                model, domain=many, parent=parent, steps=1, distil=True, teacher_cache=cache, batch_size=6, held_out=0
            )
            assert len(list(cache.iterdir())) == number

    @pytest.mark.parametrize("option", ["embedding_weight", "similarity_weight", "teacher_cache"])
    def test_options_without_one(self, quick, option):
        with pytest.raises(ConfigError, match=f"^{option}: nothing is distilled without --distil"):
            quick(**{option: 2 if option != "teacher_cache" else "cache"})
        assert quick(**quick().model_dump(mode="json")) == quick(), "what was recorded can be given again"


def test_checkpoints_that_were_moved(folder_of, many, tmp_path, monkeypatch):
    """Killed at the end, where nothing is left but to take the best step, which is not the last."""
    asked = {"domain": many, "steps": 6, "learning_rate": 0.5, **QUICK}
    whole = gaprune.recover(folder_of("bert"), out=tmp_path / "whole", **asked)
    assert whole.training.best_step < 5, "or the best one is among the last two in any case"

    def kill(*_args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RecoveryTrainer, "read_weights", kill)
        with pytest.raises(KeyboardInterrupt):
            gaprune.recover(folder_of("bert"), out=tmp_path / "out", **asked)
    (tmp_path / "out.checkpoints").rename(tmp_path / "moved")
    resumed = gaprune.recover(
        folder_of("bert"), out=tmp_path / "out", checkpoint=tmp_path / "moved", resume=True, **asked
    )
    assert weights_fingerprint(resumed.model) == weights_fingerprint(whole.model)
    assert resumed.training.best_step == whole.training.best_step


def test_a_checkpoint_is_whole_where_every_process_wrote_its_part(tmp_path):
    for step, parts in ((2, 2), (4, 1)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text("{}", encoding="utf-8")
        for part in range(parts):
            torch.save({}, folder / f"rng_state_{part}.pth")
    (tmp_path / "checkpoint-4" / "rng_state_1.pth").write_bytes(b"PK\x03\x04 cut off")
    assert Checkpoints(tmp_path, resume=True).last(1) == tmp_path / "checkpoint-4"
    assert Checkpoints(tmp_path, resume=True).last(2) == tmp_path / "checkpoint-2"
    assert Checkpoints(tmp_path, resume=True).last(3) is None
