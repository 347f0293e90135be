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
from gaprune.util.tensor_store import StoredTensors, shapes_of, write_tensors, writing_tensors

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
        with pytest.raises(ValueError, match="not written: a, transposed"):
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
        assert "it takes 4 MB, and 3 are free" in caught.value.problem
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
    @pytest.fixture
    def path(self, tmp_path) -> Path:
        save_file(TENSORS | {"transposed": TENSORS["transposed"].contiguous()}, tmp_path / "file", {"format": "ours"})
        return tmp_path / "file"

    def test_what_the_library_wrote(self, path):
        stored = StoredTensors(path)
        assert stored.keys() == TENSORS.keys()
        assert stored.metadata == {"format": "ours"}
        for name, tensor in TENSORS.items():
            assert stored[name].dtype == tensor.dtype
            assert torch.equal(stored[name], tensor)
        with pytest.raises(KeyError):
            stored["other"]

    @pytest.mark.parametrize(
        "dtype",
        [torch.float64, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool],
    )
    def test_every_type(self, tmp_path, dtype):
        tensor = torch.arange(6).view(2, 3).to(dtype)
        write_tensors(tmp_path / "file", {"a": tensor})
        assert torch.equal(load_file(tmp_path / "file")["a"], tensor)
        assert torch.equal(StoredTensors(tmp_path / "file")["a"], tensor)

    def test_other_names(self, path):
        view = StoredTensors(path).renamed({"x": "b", "y": "one"})
        assert list(view) == ["x", "y"]
        assert torch.equal(view["x"], TENSORS["b"])
        with pytest.raises(KeyError):
            view["b"]
        with pytest.raises(KeyError):
            StoredTensors(path).renamed({"x": "other"})

    def test_shapes_are_known_without_reading(self, path, monkeypatch):
        stored = StoredTensors(path)
        monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("read"))
        assert shapes_of(stored) == shapes_of(TENSORS) == {name: tensor.shape for name, tensor in TENSORS.items()}

    def test_what_is_done_to_a_tensor_is_not_done_to_the_file(self, path):
        stored = StoredTensors(path)
        stored["b"].zero_()
        assert torch.equal(stored["b"], TENSORS["b"])

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
        assert torch.equal(StoredTensors(tmp_path / "file")["small"], small)

    def test_another_format(self, path):
        with pytest.raises(ConfigError, match="format") as caught:
            StoredTensors(path, kind="theirs", remedy="Do that.")
        assert caught.value.remedy == "Do that."

    @pytest.mark.parametrize(
        "damage",
        [
            lambda _: b"",
            lambda _: b"1234",
            lambda _: b"not a file of tensors at all",
            lambda raw: raw[:30],
            lambda raw: raw[:-1],
            lambda raw: raw + b"0",
            lambda raw: raw.replace(b"F32", b"F64"),
            lambda raw: raw.replace(b'"shape"', b'"shapf"'),
            lambda raw: raw.replace(b"[3,5]", b"[3,4]"),
        ],
    )
    def test_a_damaged_file(self, path, damage):
        raw = path.read_bytes()
        path.write_bytes(damage(raw))
        assert path.read_bytes() != raw
        with pytest.raises(ConfigError, match=r"file cannot be read: .*(size|safetensors)"):
            StoredTensors(path)

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(ConfigError, match="No such file"):
            StoredTensors(tmp_path / "file")

    @pytest.mark.parametrize(
        "change",
        [
            Path.unlink,
            lambda path: path.write_bytes(b"other"),
            lambda path: write_tensors(path, {"b": torch.zeros(3, 5)}),
        ],
    )
    def test_a_file_that_changes_meanwhile(self, path, change):
        stored = StoredTensors(path)
        change(path)
        with pytest.raises(ConfigError, match="can no longer be read"):
            stored["b"]
