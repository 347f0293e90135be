"""Small files: checked in time, written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gaprune.errors import OutputError
from gaprune.util.files import check_file, replacing, temporary_folder, write_json, write_text


def test_text_and_json(tmp_path):
    assert write_text(tmp_path / "a" / "b.txt", "grün\n").read_text(encoding="utf-8") == "grün\n"
    assert json.loads(write_json(tmp_path / "a" / "b.json", {"x": [1]}).read_text(encoding="utf-8")) == {"x": [1]}
    write_text(tmp_path / "a" / "b.txt", "new")
    assert (tmp_path / "a" / "b.txt").read_text() == "new"
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["b.json", "b.txt"]


def test_a_full_disk_leaves_what_was(tmp_path, monkeypatch):
    path = write_text(tmp_path / "a.txt", "old")

    def fail(self, *_args, **_kwargs):
        self.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OutputError, match=r"a\.txt cannot be written: .*No space left on device"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_leaves_what_was(tmp_path):
    def interrupted():
        with replacing(tmp_path / "a.txt") as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_a_file_on_the_way(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_text(tmp_path / "file" / "a.txt", "x")
    with pytest.raises(OutputError, match=f"{tmp_path / 'file'} is not writable"):
        check_file(tmp_path / "file" / "a.txt")


def test_checking_makes_nothing(tmp_path, monkeypatch):
    assert check_file(tmp_path / "a" / "b.txt") == tmp_path / "a" / "b.txt"
    assert not list(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    assert check_file("b.txt") == Path("b.txt")


def test_checking_refuses(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(OutputError, match="is a folder"):
        check_file(tmp_path, overwrite=True)
    with pytest.raises(OutputError, match=r"a\.txt exists") as caught:
        check_file(tmp_path / "a.txt")
    assert "--overwrite" in caught.value.remedy
    assert check_file(tmp_path / "a.txt", overwrite=True)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(OutputError, match="is not writable"):
        check_file(tmp_path / "b.txt")


class TestTemporaryFolder:
    @pytest.mark.parametrize("there", [False, True])
    def test_lies_beside_and_goes(self, tmp_path, there):
        beside = tmp_path / "out" if there else tmp_path / "deep" / "out"
        if there:
            beside.mkdir()
        with temporary_folder(beside) as folder:
            assert folder.parent == tmp_path
            (folder / "large").write_text("much")
        assert not folder.exists()

    def test_goes_after_an_error(self, tmp_path):
        with pytest.raises(KeyboardInterrupt), temporary_folder(tmp_path / "out"):
            raise KeyboardInterrupt
        assert not list(tmp_path.iterdir())

    def test_what_cannot_be_made_is_explained(self, monkeypatch):
        def fail(*_args, **_kwargs):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("tempfile.mkdtemp", fail)
        with (
            pytest.raises(OutputError, match=r"No temporary folder can be made: .*No space left"),
            temporary_folder(None),
        ):
            pytest.fail("made all the same")
