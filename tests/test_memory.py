"""How much memory is free: on a host, and in containers and services with a limit of their own."""

from __future__ import annotations

import platform

import psutil
import pytest
import torch

from gaprune.util.memory import free_bytes, give_back

CPU = torch.device("cpu")
MB = 10**6


def group(folder, limit, usage, *, cache=0, version=2):
    """Write the files of a control group."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{usage}\n")
    total = "" if version == 2 else "total_"
    (folder / "memory.stat").write_text(f"anon 5\n{total}inactive_file {cache}\n{total}active_file 7\n")


@pytest.fixture
def system(tmp_path):
    """Return a function that writes which control groups a process is in."""

    def write(membership):
        (tmp_path / "proc" / "self").mkdir(parents=True, exist_ok=True)
        (tmp_path / "proc" / "self" / "cgroup").write_text(membership)
        return tmp_path

    return write


class TestControlGroups:
    @pytest.mark.parametrize(("version", "membership"), [(2, "0::/\n"), (1, "9:name=systemd:/\n4:memory:/\n0::/\n")])
    def test_file_cache_is_free(self, system, tmp_path, version, membership):
        """A model was just read: most of the usage is its file in the page cache."""
        place = tmp_path / "sys" / "fs" / "cgroup" / ("" if version == 2 else "memory")
        group(place, 160 * MB, 159 * MB, cache=150 * MB, version=version)
        assert free_bytes(CPU, root=system(membership)) == 151 * MB

    @pytest.mark.parametrize(
        ("version", "membership"),
        [(2, "0::/user.slice/job:1\n"), (1, "3:cpu,cpuacct:/\n4:hugetlb,memory:/user.slice/job:1\n")],
    )
    @pytest.mark.parametrize(("own", "above", "free"), [(30, 90, 20), (90, 30, 15), ("max", 30, 15)])
    def test_the_own_group_and_those_above_it(self, system, tmp_path, version, membership, own, above, free):
        top = tmp_path / "sys" / "fs" / "cgroup" / ("" if version == 2 else "memory")
        group(top / "user.slice" / "job:1", f"{own}000000" if own != "max" else own, 10 * MB, version=version)
        group(top / "user.slice", above * MB, 15 * MB, version=version)
        group(top / "other", MB, MB, version=version)
        assert free_bytes(CPU, root=system(membership)) == free * MB

    def test_a_path_of_the_host_that_the_container_does_not_see(self, system, tmp_path):
        group(tmp_path / "sys" / "fs" / "cgroup" / "memory", 50 * MB, 20 * MB, version=1)
        assert free_bytes(CPU, root=system("4:memory:/docker/0123\n")) == 30 * MB

    def test_more_used_than_allowed(self, system, tmp_path):
        group(tmp_path / "sys" / "fs" / "cgroup", 50 * MB, 60 * MB)
        assert free_bytes(CPU, root=system("0::/\n")) == 0

    @pytest.mark.parametrize("membership", ["", "0::/\n", "4:memory:/a\n0::/\n"])
    def test_without_limits_the_host_decides(self, system, tmp_path, membership):
        assert free_bytes(CPU, root=system(membership)) > 10 * MB
        assert free_bytes(CPU, root=tmp_path / "no system") > 10 * MB


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries keep their own counsel")
def test_freed_memory_goes_back():
    pieces = [bytearray(b"x") * 100_000 for _ in range(1000)]
    del pieces[:-1]  # the last one keeps the heap from shrinking by itself
    before = psutil.Process().memory_info().rss
    give_back()
    assert psutil.Process().memory_info().rss < before - 50_000_000


def test_free_memory_is_shared_with_neighbours(monkeypatch):
    alone = free_bytes(CPU)
    assert alone > 10**8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert free_bytes(CPU) < alone / 2
