"""Safetensors files, one tensor at a time: as the library reads and writes them, and whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from gaprune.errors import ConfigError, OutputError
from gaprune.util.tensor_store import StoredTensors, writing_tensors

TENSORS = {
    "b": torch.arange(15.0).view(3, 5),
    "a": torch.tensor([1.5, -0.0, float("inf")]).bfloat16(),
    "nothing": torch.zeros(0, 4),
    "one": torch.tensor(7.25),
    "transposed": torch.arange(6.0).view(2, 3).T,
}
LAYOUT = {name: (tensor.dtype, tensor.shape) for name, tensor in TENSORS.items()}


def write_all(path: Path, names=tuple(TENSORS)) -> Path:
    with writing_tensors(path, LAYOUT, {"said": "é"}) as write:
        for name in names:
            write(name, TENSORS[name])
    return path


class TestWriting:
    def test_the_library_reads_it(self, tmp_path):
        path = write_all(tmp_path / "deep" / "file")
        found = load_file(path)
        assert found.keys() == TENSORS.keys()
        for name, tensor in TENSORS.items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor)
        with safe_open(path, "pt") as file:
            assert file.metadata() == {"said": "é"}
        assert [each.name for each in path.parent.iterdir()] == ["file"]

    def test_the_order_of_writing_is_free(self, tmp_path):
        there, back = (write_all(tmp_path / name) for name in ("there", "back"))
        write_all(back, tuple(reversed(TENSORS)))
        assert there.read_bytes() == back.read_bytes()

    def test_what_is_missing_is_no_file(self, tmp_path):
        with pytest.raises(ValueError, match="was to hold a, transposed too"):
            write_all(tmp_path / "file", ("b", "one", "nothing"))
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("wrong", [torch.zeros(5, 3), torch.zeros(3, 5).bfloat16()])
    def test_what_was_not_announced_is_refused(self, tmp_path, wrong):
        with pytest.raises(ValueError, match="b is torch"), writing_tensors(tmp_path / "file", LAYOUT, {}) as write:
            write("b", wrong)
        assert not list(tmp_path.iterdir())

    def test_a_full_disk_is_found_before_anything_is_written(self, tmp_path, monkeypatch):
        monkeypatch.setattr("gaprune.util.tensor_store.disk_usage", lambda _: SimpleNamespace(free=3_000_000))
        layout = {"large": (torch.float32, (1000, 1000))}
        with pytest.raises(OutputError) as caught, writing_tensors(tmp_path / "file", layout, {}):
            pytest.fail("begun all the same")
        assert caught.value.problem == (f"{tmp_path / 'file'} cannot be written: it takes 4 MB, and 3 are free there.")
        assert not list(tmp_path.iterdir())

    def test_errors_of_others_are_left_alone(self, tmp_path):
        with pytest.raises(OSError, match="not ours"), writing_tensors(tmp_path / "file", LAYOUT, {}):
            raise OSError("not ours")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("operation", ["open", "replace"])
    def test_a_failure_of_the_disk_is_explained(self, tmp_path, monkeypatch, operation):
        def fail(self, *_args):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, operation, fail)
        with pytest.raises(OutputError, match=r"file cannot be written: .*No space left on device"):
            write_all(tmp_path / "file")
        assert not list(tmp_path.iterdir())

    def test_a_write_that_fails_is_explained(self, tmp_path, monkeypatch):
        genuine = Path.open
        monkeypatch.setattr(Path, "open", lambda self, mode: genuine(Path("/dev/full"), mode, buffering=0))
        with pytest.raises(OutputError, match=r"file cannot be written: .*No space left on device"):
            write_all(tmp_path / "file")
        assert not list(tmp_path.iterdir())


class TestReading:
    def test_by_other_names_and_scales(self, tmp_path):
        save_file({"x.a": torch.tensor([1.0, 2.0]), "x.b": torch.tensor([3.0]).bfloat16()}, tmp_path / "file")
        stored = StoredTensors(tmp_path / "file", {"b": "x.b", "a": "x.a"}, {"b": 0.5})
        assert list(stored) == ["b", "a"]
        assert len(stored) == 2
        assert stored["a"].tolist() == [1, 2]
        assert (stored["b"].dtype, stored["b"].tolist()) == (torch.float32, [1.5])
        with pytest.raises(KeyError):
            stored["x.a"]

    def test_what_is_done_to_a_tensor_is_not_done_to_the_file(self, tmp_path):
        save_file({"a": torch.ones(4)}, tmp_path / "file")
        stored = StoredTensors(tmp_path / "file", {"a": "a"}, {})
        stored["a"].zero_()
        assert stored["a"].tolist() == [1] * 4

    def test_a_file_that_is_larger_than_memory(self, tmp_path):
        """It is as long as it says, and most of it is a hole that takes no disk."""
        large, small = 1 << 42, torch.tensor([1.0, 2.0])
        entries = {"large": [0, large], "small": [large, large + 8]}
        head = json.dumps(
            {
                name: {"dtype": "F32", "shape": [(end - start) // 4], "data_offsets": [start, end]}
                for name, (start, end) in entries.items()
            }
        ).encode()
        with (tmp_path / "file").open("wb") as file:
            file.write(len(head).to_bytes(8, "little") + head)
            file.seek(large, 1)
            file.write(small.numpy().tobytes())
        stored = StoredTensors(tmp_path / "file", {"small": "small"}, {})
        assert torch.equal(stored["small"], small)

    @pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(b"other")])
    def test_a_file_that_changes_meanwhile(self, tmp_path, change):
        save_file({"a": torch.ones(4)}, tmp_path / "file")
        stored = StoredTensors(tmp_path / "file", {"a": "a"}, {})
        change(tmp_path / "file")
        with pytest.raises(ConfigError, match="file can no longer be read"):
            stored["a"]
