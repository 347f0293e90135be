"""Archives: bit by bit what was packed, small where there are zeros, and explained where they are damaged."""

from __future__ import annotations

import json
import shutil
import struct
import zipfile

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import gaprune
from gaprune.errors import ModelError, OutputError
from gaprune.export.archive import pack, unpack


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def zipped(folder, path):
    """Return the size of an ordinary zip of ``folder``."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, raw in content(folder).items():
            made.writestr(name, raw)
    return path.stat().st_size


@pytest.fixture(scope="module")
def pruned(folder_of, tmp_path_factory):
    out = tmp_path_factory.mktemp("pruned") / "model"
    gaprune.prune(folder_of("bert"), criterion="magnitude", sparsity=0.7, targets="all", device="cpu", out=out)
    return out


@pytest.fixture(scope="module")
def archive(pruned, tmp_path_factory):
    return pack(pruned, tmp_path_factory.mktemp("archive") / "model.gaprune").path


def round_trip(source, folder, dtype):
    """Prune, pack and unpack: the same files, in less than a zip of them."""
    out = folder / "model"
    options = {"criterion": "magnitude", "sparsity": 0.6, "targets": "all", "device": "cpu", "dtype": dtype}
    gaprune.prune(source, out=out, **options)
    packed = pack(out, folder / "archive")
    back = unpack(packed.path, folder / "back")
    assert content(back) == content(out)
    assert packed.bytes == packed.path.stat().st_size < zipped(out, folder / "zip") < packed.folder_bytes
    assert packed.folder_bytes == sum(map(len, content(out).values()))


def test_round_trip(family_folder, tmp_path):
    round_trip(family_folder, tmp_path, "float32")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_round_trip_of_two_bytes(folder_of, tmp_path, dtype):
    round_trip(folder_of("bert"), tmp_path, dtype)


TYPES = (
    *("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"),
    *("int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64", "bool"),
)


@pytest.mark.parametrize("zeros", [0.0, 0.5, 1.0])
def test_every_type_and_every_bit_pattern(tmp_path, zeros):
    """Random bits hold negative zeros, infinities and NaNs with payloads; all must come back."""
    random = np.random.default_rng(0)
    tensors = {"empty": torch.empty(0, 3), "scalar": torch.tensor(-0.0)}
    for name in TYPES:
        dtype = getattr(torch, name)
        size = torch.empty(0, dtype=dtype).element_size()
        bits = random.integers(0, 2 if name == "bool" else 256, (37 * 3, size), dtype=np.uint8)
        bits[random.random(len(bits)) < zeros] = 0
        tensors[name] = torch.from_numpy(bits.reshape(-1)).view(dtype).reshape(37, 3)
    tensors["negative zeros"] = torch.full((100,), -0.0)
    tensors["payloads"] = torch.tensor([0x7FC00001, 0x7F800001, 0, -1, 0], dtype=torch.int32).view(torch.float32)
    folder = tmp_path / "model"
    (folder / "deep" / "er").mkdir(parents=True)
    save_file(tensors, folder / "deep" / "er" / "model.safetensors", metadata={"format": "pt", "note": "ü"})
    save_file({}, folder / "none.safetensors")
    (folder / "empty.txt").touch()
    back = unpack(pack(folder, tmp_path / "archive").path, tmp_path / "back")
    assert content(back) == content(folder)
    with safe_open(back / "deep" / "er" / "model.safetensors", "pt") as opened:
        assert opened.metadata() == {"format": "pt", "note": "ü"}
    negative = load_file(back / "deep" / "er" / "model.safetensors")["negative zeros"]
    assert torch.signbit(negative).all()


def test_zeros_cost_a_bit(tmp_path):
    """Of random bits nothing but the zeros can be saved: a bit an element, and a few headers."""
    bits = torch.from_numpy(np.random.default_rng(0).integers(1, 2**31, 80_000, dtype=np.int32))
    bits[torch.arange(80_000) % 4 != 0] = 0
    (tmp_path / "model").mkdir()
    save_file({"weight": bits}, tmp_path / "model" / "model.safetensors")
    packed = pack(tmp_path / "model", tmp_path / "archive")
    assert packed.bytes < 80_000 * (4 / 4 + 1 / 8) + 2_000


def test_the_same_folder_gives_the_same_archive(pruned, archive, tmp_path):
    assert pack(pruned, tmp_path / "again").path.read_bytes() == archive.read_bytes()


ENTRY = {"bytes": 1, "sha256": "00", "word": 0}


class TestErrors:
    def test_nothing_to_pack(self, tmp_path):
        with pytest.raises(ModelError, match=r"missing is not a folder\."):
            pack(tmp_path / "missing", tmp_path / "archive")
        (tmp_path / "notes").mkdir()
        (tmp_path / "notes" / "a.txt").touch()
        with pytest.raises(ModelError, match=r"has no weights \(no \.safetensors file\)"):
            pack(tmp_path / "notes", tmp_path / "archive")

    def test_places_that_are_taken(self, pruned, archive, tmp_path):
        with pytest.raises(OutputError, match=r"model\.gaprune exists\."):
            pack(pruned, archive)
        with pytest.raises(OutputError, match="lies in the folder that is packed"):
            pack(pruned, pruned / "archive")
        (tmp_path / "out").mkdir()
        with pytest.raises(OutputError, match=r"out exists\."):
            unpack(archive, tmp_path / "out")

    @pytest.mark.parametrize(
        ("damage", "reason"),
        [
            (lambda raw: raw[:-3], "its size is not what its header says"),
            (lambda raw: raw[:20], "its header is cut off"),
            (lambda raw: struct.pack("<Q", 5) + b"[1,2]", "it is not a safetensors file"),
            (lambda raw: raw.replace(b'"data_offsets":[0,', b'"data_offsets":[1,', 1), "does not fit its shape"),
        ],
    )
    def test_damaged_weights_are_not_packed(self, pruned, tmp_path, damage, reason):
        (tmp_path / "model").mkdir()
        raw = (pruned / "model.safetensors").read_bytes()
        (tmp_path / "model" / "model.safetensors").write_bytes(damage(raw))
        with pytest.raises(ModelError, match=reason):
            pack(tmp_path / "model", tmp_path / "archive")
        assert [path.name for path in tmp_path.iterdir()] == ["model"]

    @pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
    def test_cut_off(self, archive, tmp_path, share):
        raw = archive.read_bytes()
        (tmp_path / "cut").write_bytes(raw[: int(len(raw) * share)])
        with pytest.raises(ModelError, match=r"cut is not an archive .* or is damaged or cut off"):
            unpack(tmp_path / "cut", tmp_path / "out")
        assert [path.name for path in tmp_path.iterdir()] == ["cut"]

    def test_any_flipped_byte_is_found(self, archive, pruned, tmp_path):
        """Or changes nothing, as in the time stamp of a member."""
        raw = archive.read_bytes()
        refused = 0
        for place in range(7, len(raw), len(raw) // 40):
            (tmp_path / "flipped").write_bytes(raw[:place] + bytes([raw[place] ^ 0x55]) + raw[place + 1 :])
            try:
                back = unpack(tmp_path / "flipped", tmp_path / "out", overwrite=True)
            except ModelError as error:
                assert "damaged" in error.problem  # noqa: PT017 (either is right)
                refused += 1
            else:
                assert content(back) == content(pruned)
        assert refused > 30

    def test_another_zip(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "other.zip", "w") as made:
            made.writestr("a.txt", "a")
        with pytest.raises(ModelError, match=r"other\.zip is not an archive"):
            unpack(tmp_path / "other.zip", tmp_path / "out")
        with pytest.raises(ModelError, match="missing is not a file"):
            unpack(tmp_path / "missing", tmp_path / "out")

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"format": "other"}, "is not an archive"),
            ({"version": 99}, "of version 2"),
            ({"files": {"../evil": ENTRY}}, "would write outside of the output folder"),
            ({"files": {"/evil": ENTRY}}, "would write outside of the output folder"),
            ({"files": {"a": ENTRY}}, "a is not what was packed"),
            ({"files": {"a": ENTRY | {"word": 4}}}, "damaged"),
            ({"files": {"a": ENTRY | {"bytes": 9, "word": 3}}}, "damaged"),
            ({"files": {"b": ENTRY}}, "damaged"),
            ({"files": [1]}, "damaged"),
        ],
    )
    def test_manifests_that_are_not_ours(self, tmp_path, change, reason):
        manifest = {"format": "gaprune-archive", "version": 2, "files": {}} | change
        with zipfile.ZipFile(tmp_path / "made", "w") as made:
            made.writestr("archive.json", json.dumps(manifest))
            made.writestr("files/a", "a")
        with pytest.raises(ModelError, match=reason):
            unpack(tmp_path / "made", tmp_path / "folder" / "out")
        assert not (tmp_path / "evil").exists()
        assert not (tmp_path / "folder" / "out").exists()


def test_what_could_not_be_unpacked_is_not_packed(pruned, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(pruned, folder)
    (folder / "notes: one.txt").write_text("a")
    with pytest.raises(OutputError, match=r"'notes: one\.txt' in .* every system"):
        pack(folder, tmp_path / "a.gaprune")
    (folder / "notes: one.txt").unlink()
    (folder / "linked").symlink_to(pruned / "1_Pooling", target_is_directory=True)
    with pytest.raises(OutputError, match="linked is a link to a folder"):
        pack(folder, tmp_path / "a.gaprune")
    assert not (tmp_path / "a.gaprune").exists()
