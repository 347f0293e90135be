"""Output folders: refused in time, complete or untouched, and never someone else's."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer

import gaprune
import provenances
from gaprune.errors import OutputError
from gaprune.export.folder import check_destination, save
from gaprune.export.provenance import Provenance
from gaprune.models.linear_layers import linear_layers


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestDestination:
    def test_a_new_folder_is_fine_and_not_made(self, tmp_path):
        assert check_destination(tmp_path / "a" / "b", overwrite=False) == tmp_path / "a" / "b"
        assert not list(tmp_path.iterdir())

    def test_relative_paths_become_absolute(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert check_destination("out", overwrite=False) == tmp_path / "out"
        assert check_destination("a/../out", overwrite=False) == tmp_path / "out"

    @pytest.mark.parametrize("kind", ["file", "empty folder", "model"])
    def test_what_exists_is_refused(self, tmp_path, kind):
        out = tmp_path / "out"
        if kind == "file":
            out.write_text("")
        else:
            out.mkdir()
            if kind == "model":
                (out / "modules.json").write_text("[]")
        with pytest.raises(OutputError, match=r"out exists\.") as caught:
            check_destination(out, overwrite=False)
        assert (
            caught.value.remedy == "Choose another --out (out=...), or replace it with --overwrite (overwrite=True)."
        )

    def test_overwrite_takes_our_outputs_and_empty_folders(self, tmp_path):
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "gaprune.json").write_text("{}")
        (tmp_path / "empty").mkdir()
        for name in ("model", "empty"):
            assert check_destination(tmp_path / name, overwrite=True) == tmp_path / name

    @pytest.mark.parametrize("kind", ["file", "folder", "home"])
    def test_overwrite_takes_nothing_else(self, tmp_path, kind):
        out = {"file": tmp_path / "notes.txt", "folder": tmp_path, "home": Path("/")}[kind]
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(OutputError, match=r"neither empty nor made by GAPrune \(no gaprune\.json\)"):
            check_destination(out, overwrite=True)
        assert (tmp_path / "notes.txt").read_text() == "mine"

    def test_a_file_on_the_way(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match=f"cannot be made: {tmp_path / 'file'} is not writable"):
            check_destination(tmp_path / "file" / "out", overwrite=False)

    def test_a_folder_that_cannot_be_written(self, tmp_path, monkeypatch):
        """The tests may run as root, who can write everywhere."""
        asked = []
        monkeypatch.setattr("os.access", lambda path, mode: asked.append((path, mode)) or False)
        with pytest.raises(OutputError, match=f"{tmp_path} is not writable"):
            check_destination(tmp_path / "a" / "out", overwrite=False)
        assert [path for path, _ in asked] == [tmp_path]


class TestSaving:
    @pytest.fixture
    def write(self, bert):
        def write(out: Path, text: str = "card", *, overwrite: bool = False) -> Path:
            provenance = provenances.structured(made=text)
            return save(bert, out, card=text, page="page", provenance=provenance, overwrite=overwrite)

        return write

    def test_a_folder_with_everything(self, write, tmp_path, bert):
        out = write(tmp_path / "deep" / "out")
        assert (out / "README.md").read_text() == "card"
        assert (out / "report.html").read_text() == "page"
        assert Provenance.read(out) == provenances.structured(made="card")
        assert (out / "model.safetensors").stat().st_size > 0
        assert [path.name for path in out.parent.iterdir()] == ["out"]
        assert SentenceTransformer(str(out), device="cpu").encode("a dog").shape == (32,)

    @pytest.mark.parametrize(("umask", "folder", "file"), [(0o022, 0o755, 0o644), (0o077, 0o700, 0o600)])
    def test_modes_are_those_that_the_umask_allows(self, write, tmp_path, umask, folder, file):
        before = os.umask(umask)
        try:
            out = write(tmp_path / "out")
        finally:
            os.umask(before)
        assert {stat.S_IMODE(path.stat().st_mode) for path in (out, *out.rglob("*")) if path.is_dir()} == {folder}
        assert {stat.S_IMODE(path.stat().st_mode) for path in out.rglob("*") if path.is_file()} == {file}

    def test_existing_is_refused_and_kept(self, write, tmp_path):
        before = _content(write(tmp_path / "out"))
        with pytest.raises(OutputError, match="exists"):
            write(tmp_path / "out", "other")
        assert _content(tmp_path / "out") == before

    def test_overwrite_replaces_the_whole_folder(self, write, tmp_path):
        write(tmp_path / "out")
        (tmp_path / "out" / "stale").write_text("")
        write(tmp_path / "out", "new", overwrite=True)
        assert (tmp_path / "out" / "README.md").read_text() == "new"
        assert not (tmp_path / "out" / "stale").exists()
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_overwrite_through_a_link_keeps_the_link(self, write, tmp_path):
        write(tmp_path / "real")
        (tmp_path / "link").symlink_to(tmp_path / "real")
        write(tmp_path / "link", "new", overwrite=True)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "real" / "README.md").read_text() == "new"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]

    @pytest.mark.parametrize(
        "error", [OSError(28, "No space left on device"), SafetensorError("No space left on device")]
    )
    @pytest.mark.parametrize("overwrite", [False, True])
    def test_a_full_disk(self, write, tmp_path, monkeypatch, overwrite, error):
        out = tmp_path / "out"
        before = _content(write(out)) if overwrite else None

        def fail(self, path, **_kwargs):
            (Path(path) / "model.safetensors").write_bytes(b"half")
            raise error

        monkeypatch.setattr(SentenceTransformer, "save_pretrained", fail)
        with pytest.raises(OutputError, match=r"The model cannot be written to .*out: .*No space left on device"):
            write(out, "new", overwrite=overwrite)
        assert [path.name for path in tmp_path.iterdir()] == (["out"] if overwrite else [])
        assert before is None or _content(out) == before

    def test_an_interrupt(self, write, tmp_path, monkeypatch):
        def interrupt(self, path, **_kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr(SentenceTransformer, "save_pretrained", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "out")
        assert not list(tmp_path.iterdir())

    def test_a_move_that_fails_puts_the_old_model_back(self, write, tmp_path, monkeypatch):
        before = _content(write(tmp_path / "out"))
        rename = Path.rename

        def fail(self, target):
            if Path(target) == tmp_path / "out" and self.name != "replaced":
                raise OSError(18, "Invalid cross-device link")
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", fail)
        with pytest.raises(OutputError, match="Invalid cross-device link"):
            write(tmp_path / "out", "new", overwrite=True)
        assert _content(tmp_path / "out") == before
        assert [path.name for path in tmp_path.iterdir()] == ["out"]


class TestSavedZeros:
    """The zeros are counted in the files that were written; pipelines/test_zero_counts.py has every family."""

    @pytest.mark.parametrize("targets", ["mlp", "all"])
    def test_what_is_pruned_is_what_is_saved(self, bert, tmp_path, targets):
        result = gaprune.prune(bert, criterion="magnitude", sparsity=0.5, targets=targets, out=tmp_path / "out")
        opened = SentenceTransformer(str(tmp_path / "out"), device="cpu")
        weights = {layer.name: layer.module.weight for layer in linear_layers(opened)}
        zeros = sum(int((weights[name] == 0).sum()) for name in result.change.keep)
        assert zeros == Provenance.read(tmp_path / "out").sparsity.removed == round(0.5 * result.change.size)

    def test_a_layer_that_is_saved_with_other_weights(self, bert, tmp_path, monkeypatch):
        genuine = SentenceTransformer.save_pretrained

        def other(self, path, **options):
            self.get_parameter("0.model.encoder.layer.0.output.dense.weight").data += 1
            genuine(self, path, **options)

        result = gaprune.prune(bert, criterion="magnitude", sparsity=0.5)
        monkeypatch.setattr(SentenceTransformer, "save_pretrained", other)
        with pytest.raises(OutputError, match=r"zeros in the selected layers instead of [\d,]+"):
            result.save(tmp_path / "out")
        assert not list(tmp_path.iterdir())

    def test_a_layer_that_is_not_saved(self, bert, tmp_path):
        with pytest.raises(OutputError, match="do not have the weights of a"):
            save(bert, tmp_path / "out", card="", page="", provenance=provenances.unstructured())
        assert not list(tmp_path.iterdir())
