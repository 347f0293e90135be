"""Small files: checked in time, written whole or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gaprune.config.files import load_recipe
from gaprune.errors import OutputError
from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.export.folder import check_destination
from gaprune.models.demo import local_folder
from gaprune.util.files import check_file, locked, replacing, temporary_folder, write_json, write_text
from gaprune.util.tensor_store import write_tensors


def test_text_and_json(tmp_path):
    assert write_text(tmp_path / "a" / "b.txt", "grün\n").read_text(encoding="utf-8") == "grün\n"
    assert json.loads(write_json(tmp_path / "a" / "b.json", {"x": [1]}).read_text(encoding="utf-8")) == {"x": [1]}
    write_text(tmp_path / "a" / "b.txt", "new")
    assert (tmp_path / "a" / "b.txt").read_text() == "new"
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["b.json", "b.txt"]


def test_a_tilde_is_the_users_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert check_file("~/a.json", overwrite=False) == tmp_path / "a.json"
    assert check_destination("~/small", overwrite=False) == tmp_path / "small"
    assert local_folder("~/small") == tmp_path / "small"
    (tmp_path / "recipe.yaml").write_text("sparsity: 0.5")
    assert load_recipe("~/recipe.yaml") == {"sparsity": 0.5}
    row = json.dumps({"query": "a", "positive": "b", "negative": "c"})
    (tmp_path / "tasks.jsonl").write_text(row)
    assert [task.name for task in find_tasks(Path("~/tasks.jsonl"))] == ["tasks"]


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


def test_two_writers_of_one_file(tmp_path):
    """Neither sees what the other writes; the file is whole at every instant, and the last one remains."""
    path = tmp_path / "a.txt"
    with replacing(path) as first, replacing(path) as second:
        first.write_text("first")
        second.write_text("second")
        assert first != second
        assert not path.exists()
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_the_umask_is_obeyed(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a.txt", "x")
        write_tensors(tmp_path / "a.safetensors", {"a": torch.zeros(2)})
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {mode}


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


_USE = """
import sys, time
from pathlib import Path
from gaprune.util.files import locked, replacing

path = Path(sys.argv[1])
for _ in range(20):
    with locked(path), path.with_name("log").open("a") as log:
        log.write("in ")
        log.flush()
        time.sleep(0.01)
        log.write("out ")
"""

_KILLED = """
import os, sys
from pathlib import Path
from gaprune.util.files import locked, replacing

with locked(Path(sys.argv[1])), replacing(Path(sys.argv[1])) as partial:
    partial.write_text("half")
    os._exit(9)
"""


def _start(code: str, path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code, str(path)], stderr=subprocess.DEVNULL)


class TestLocked:
    def test_one_after_the_other(self, tmp_path):
        processes = [_start(_USE, tmp_path / "a") for _ in range(2)]
        assert [process.wait(60) for process in processes] == [0, 0]
        assert (tmp_path / "log").read_text() == "in out " * 40
        assert [path.name for path in tmp_path.iterdir()] == ["log"]

    def test_who_waits_says_so(self, tmp_path, capsys):
        path, entered = tmp_path / "deep" / "a", []

        def wait():
            with locked(path):
                entered.append(True)

        with locked(path):
            thread = threading.Thread(target=wait)
            thread.start()
            time.sleep(0.2)
            assert not entered
        thread.join(30)
        assert entered
        assert f"Waiting for another run that uses {path}" in capsys.readouterr().err.replace("\n", "")

    def test_who_does_not_wait_is_refused(self, tmp_path):
        with (
            locked(tmp_path / "a"),
            pytest.raises(OutputError, match="in use by another run"),
            locked(tmp_path / "a", wait=False),
        ):
            pytest.fail("entered")
        with locked(tmp_path / "a", wait=False):
            pass

    def test_what_killed_runs_left_is_deleted(self, tmp_path):
        assert _start(_KILLED, tmp_path / "a[1]").wait(60) == 9
        assert list(tmp_path.glob(".a*/a*"))
        other = tmp_path / ".b.x.partial"
        other.mkdir()
        with locked(tmp_path / "a[1]"):
            assert sorted(path.name for path in tmp_path.iterdir()) == [".a[1].lock", other.name]

    def test_a_place_that_cannot_be_locked(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match="cannot be locked"), locked(tmp_path / "file" / "a"):
            pytest.fail("entered")


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

    @pytest.mark.parametrize(
        ("mounts", "place"),
        [
            ({"/": "ext4"}, "/tmp"),  # noqa: S108
            ({"/": "ext4", "/tmp": "tmpfs"}, "/var/tmp"),  # noqa: S108
            ({"/": "overlay", "/tmp": "ramfs", "/var": "xfs"}, "/var/tmp"),  # noqa: S108
            ({"/": "tmpfs"}, "/tmp"),  # noqa: S108
        ],
    )
    def test_the_default_is_not_in_memory(self, monkeypatch, mounts, place):
        partitions = [SimpleNamespace(mountpoint=mount, fstype=kind) for mount, kind in mounts.items()]
        monkeypatch.setattr("psutil.disk_partitions", lambda **_: partitions)
        monkeypatch.setattr("tempfile.tempdir", "/tmp")  # noqa: S108
        monkeypatch.delenv("TMPDIR", raising=False)
        with temporary_folder(None) as folder:
            assert folder.parent == Path(place)
        monkeypatch.setenv("TMPDIR", "/tmp")  # noqa: S108
        with temporary_folder(None) as folder:
            assert folder.parent == Path("/tmp"), "who sets TMPDIR wants that"  # noqa: S108

    def test_what_cannot_be_made_is_explained(self, monkeypatch):
        def fail(*_args, **_kwargs):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("tempfile.mkdtemp", fail)
        with (
            pytest.raises(OutputError, match=r"No temporary folder can be made: .*No space left"),
            temporary_folder(None),
        ):
            pytest.fail("made all the same")
