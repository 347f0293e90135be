"""How much memory a model takes: asked of a fresh process that opens it, encodes, and does nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from gaprune.errors import ModelError

__all__ = ["Memory", "is_measurable", "measure_memory"]

_ROLLUP = Path("/proc/self/smaps_rollup")

_PROCESS = "import sys; sys.path.append(sys.argv[1]); from gaprune.evaluation.cost.resident import main; main()"
"""Exports are measured without PyTorch: ``import gaprune`` does not load it."""


@dataclass(frozen=True)
class Memory:
    """Memory of a process, in bytes.

    Args:
        baseline: Resident when the libraries that the model needs were loaded, but not the model.
        resident: Resident after the model was opened and had encoded.
        proportional: The same, where pages shared with other processes count in part (PSS).
        peak: The most that was resident at any time, loading included.
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
    """Return whether this system tells (Linux does)."""
    return _ROLLUP.is_file()


def measure_memory(
    folder: str | Path,
    texts: Sequence[str],
    *,
    batch_size: int,
    threads: int | None = None,
    device: str | None = None,
    trust_remote_code: bool = False,
) -> Memory:
    """Open the model in a process of its own, encode ``texts`` twice, and return what that took.

    Raises:
        ModelError: If that process fails.
    """
    asked = {
        "folder": str(folder),
        "texts": list(texts),
        "batch_size": batch_size,
        "threads": threads,
        "device": device,
        "trust_remote_code": trust_remote_code,
    }
    done = subprocess.run(  # noqa: S603 (ourselves)
        [sys.executable, "-c", _PROCESS, str(Path(__file__).parents[3])],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelError(
            f"{folder}: the process that measures memory failed ({done.returncode}): {reason}",
            "Free some memory, or leave memory out (--no-memory).",
        )
    return Memory(**json.loads(done.stdout.splitlines()[-1]))
