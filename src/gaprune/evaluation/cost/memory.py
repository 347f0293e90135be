"""The memory that a model takes: measured in a new process that opens it, encodes, and does nothing else.

Run as a program, this module is that process. It loads PyTorch only if the model needs it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil

from gaprune.errors import ModelError

_LIBRARIES = {
    "torch": ("torch", "sentence_transformers"),
    "onnx": ("tokenizers", "onnxruntime"),
    "openvino": ("tokenizers", "openvino"),
}
"""Libraries of each runtime, which are loaded before the baseline is taken."""


@dataclass(frozen=True)
class Memory:
    """Memory of a process, in bytes.

    Args:
        baseline: Resident after the libraries that the model needs were loaded, before the model was.
        resident: Resident after the model was opened and had encoded.
        proportional: The same, where pages that are shared with other processes count in part (PSS).
        peak: The maximum that was resident at any time, loading included.
    """

    baseline: int
    resident: int
    proportional: int
    peak: int

    @property
    def model(self) -> int:
        """What the model added to its libraries."""
        return self.resident - self.baseline

    def as_dict(self) -> dict[str, int]:
        """Return plain numbers for JSON."""
        return {**asdict(self), "model": self.model}


def is_measurable() -> bool:
    """Return whether this system reports proportional and peak memory; Linux does."""
    return bool(psutil.LINUX)


def measure_memory(
    folder: str | Path,
    texts: Sequence[str],
    *,
    batch_size: int,
    threads: int | None = None,
    device: str | None = None,
    trust_remote_code: bool = False,
) -> Memory:
    """Open the model in a process of its own, encode ``texts`` twice, and return the memory of that process.

    Raises:
        ModelError: If that process fails.
    """
    loading = {"threads": threads, "device": device, "trust_remote_code": trust_remote_code}
    asked = {"folder": str(folder), "texts": list(texts), "batch_size": batch_size, "loading": loading}
    done = subprocess.run(  # noqa: S603 (this module)
        [sys.executable, "-m", __name__], input=json.dumps(asked), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelError(
            f"{folder}: the process that measures memory failed ({done.returncode}): {reason}",
            "Free some memory, or leave memory out (--no-memory).",
        )
    return Memory(**json.loads(done.stdout.splitlines()[-1]))


def _measure_here(folder: str, texts: list[str], batch_size: int, loading: dict[str, Any]) -> Memory:
    """Open the model in this process, encode, and return the memory of this process."""
    from gaprune.models.encoders import open_encoder
    from gaprune.models.formats import format_of

    runtime = format_of(folder)
    for library in _LIBRARIES[runtime]:
        import_module(library)
    if runtime == "torch" and loading["threads"] is not None:
        import torch

        torch.set_num_threads(loading["threads"])
    baseline = psutil.Process().memory_info().rss
    model = open_encoder(folder, **loading)
    for _ in range(2):
        model.encode(texts, prompt="", batch_size=batch_size)
    now = psutil.Process().memory_full_info()
    return Memory(baseline, now.rss, now.pss, _peak())


def _peak() -> int:
    """Return the peak of this process, which psutil does not know on Linux.

    ``getrusage`` would inherit the peak of the process that started this one.
    """
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(_measure_here(**json.load(sys.stdin)))) + "\n")
