"""``gaprune.doctor``: what this installation and this machine can do."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version
from typing import NamedTuple

from gaprune.errors import GapruneError
from gaprune.export.provenance import versions
from gaprune.models.demo import DEMO, demo_model
from gaprune.util.memory import free_bytes, show_bytes

_EXTRA = re.compile(r"""extra\s*==\s*['"]([\w-]+)['"]""")
_NAME = re.compile(r"[\w.-]+")
_DEVELOPMENT = {"dev", "docs"}


class Finding(NamedTuple):
    """One line of the report: a topic, what was found, and what to do if something is missing."""

    topic: str
    found: str
    remedy: str = ""


def doctor() -> list[Finding]:
    """Return versions, hardware, number formats and extras of this installation."""
    return [*(Finding(name, number) for name, number in versions().items()), *_hardware(), *_extras(), _demo()]


def _hardware() -> list[Finding]:
    import torch

    cpu, cores, threads = torch.device("cpu"), os.cpu_count(), torch.get_num_threads()
    counted = f"{cores} {'core' if cores == 1 else 'cores'}, {threads} {'thread' if threads == 1 else 'threads'}"
    found = [
        Finding("processor", f"{platform.machine()}, {counted} in use"),
        Finding("free memory", show_bytes(free_bytes(cpu))),
    ]
    for number in range(torch.cuda.device_count()):
        device = torch.device("cuda", number)
        found.append(
            Finding(f"GPU {number}", f"{torch.cuda.get_device_name(device)}, {show_bytes(free_bytes(device))}")
        )
    if not torch.cuda.is_available():
        found.append(Finding("GPU", "none that PyTorch can use"))
    return [*found, Finding("bfloat16 on this processor", _bfloat16())]


def _bfloat16() -> str:
    import torch

    capabilities = torch.cpu.get_capabilities()
    units = [name for name in ("amx_bf16", "avx512_bf16") if capabilities.get(name)]
    return f"products in hardware ({', '.join(units)})" if units else "emulated, slower than float32"


def _extras() -> list[Finding]:
    """Return which extras are complete, from the metadata of the installed package."""
    packages: dict[str, list[str]] = {}
    for requirement in requires("gaprune") or ():
        extra, name = _EXTRA.search(requirement), _NAME.match(requirement)
        if extra and name and extra[1] not in _DEVELOPMENT:
            packages.setdefault(extra[1], []).append(name[0])
    found = []
    for title, names in sorted(packages.items()):
        missing = ", ".join(each for each in names if _version(each) is None)
        said = f"not installed ({missing})" if missing else ", ".join(f"{each} {_version(each)}" for each in names)
        found.append(Finding(f"extra {title}", said, f"pip install 'gaprune[{title}]'" if missing else ""))
    return found


def _demo() -> Finding:
    try:
        demo_model()
    except GapruneError as error:
        return Finding(f"model {DEMO}", "not there", error.remedy)
    return Finding(f"model {DEMO}", f"all-MiniLM-L6-v2, wherever a model is named: gaprune shrink {DEMO}")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
