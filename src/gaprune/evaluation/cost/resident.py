"""The process that measures memory: it opens one model, encodes, and reports its own memory."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from gaprune.models.encoders import open_encoder
from gaprune.models.formats import format_of

__all__ = ["main"]

_STATUS = Path("/proc/self/status")
_ROLLUP = Path("/proc/self/smaps_rollup")


def main() -> None:
    """Read what to do as JSON from stdin, do it, and write bytes of memory as JSON to stdout."""
    asked = json.load(sys.stdin)
    _load_libraries(asked["folder"], asked["threads"])
    baseline = _bytes(_STATUS, "VmRSS")
    model = open_encoder(
        asked["folder"],
        threads=asked["threads"],
        device=asked["device"],
        trust_remote_code=asked["trust_remote_code"],
    )
    for _ in range(2):
        model.encode(asked["texts"], prompt="", batch_size=asked["batch_size"])
    found = {
        "baseline": baseline,
        "resident": _bytes(_STATUS, "VmRSS"),
        "proportional": _bytes(_ROLLUP, "Pss"),
        "peak": _bytes(_STATUS, "VmHWM"),
    }
    sys.stdout.write(json.dumps(found) + "\n")


def _load_libraries(folder: str, threads: int | None) -> None:
    """Load what the model's runtime is made of, so that what the model itself adds can be told from it."""
    kind = format_of(folder)
    if kind == "torch":
        import sentence_transformers  # noqa: F401
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        return
    import tokenizers  # noqa: F401

    if kind == "onnx":
        import onnxruntime  # noqa: F401
    else:
        import openvino  # noqa: F401


def _bytes(file: Path, key: str) -> int:
    """Return a field of one of the kernel's files about this process.

    The peak is ``VmHWM``, not ``getrusage``: the latter inherits the peak of the process that started this one.
    """
    line = next(line for line in file.read_text(encoding="ascii").splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024
