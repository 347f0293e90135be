"""Where a model is to run: in PyTorch, or in int8 in ONNX Runtime or OpenVINO, and how fast it is there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, get_args

from gaprune.config.shrink import Runtime
from gaprune.errors import GapruneError, MissingExtraError
from gaprune.evaluation.cost.latency import Speed, measure_speed
from gaprune.export.formats.base import Request, format_named
from gaprune.models.encoders import TorchModel
from gaprune.models.exported import ExportedModel
from gaprune.pipelines.export import export_model
from gaprune.util.files import temporary_folder, write_json
from gaprune.util.progress import quiet, say
from gaprune.util.records import Record

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

FEW_TEXTS = 8
"""Passages of a batch where many models are timed, on a processor."""

_FILE = "runtime.json"
_ROUNDS = 3


class RuntimeChoice(Record):
    """Where speeds are measured.

    Args:
        chosen: The runtime.
        speedups: How many times faster than in PyTorch the parent is, in int8, in each other runtime that was tried.
        export_seconds: Time that writing the parent for the chosen runtime took; none for PyTorch.
    """

    chosen: Runtime
    speedups: dict[Runtime, float]
    export_seconds: float

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return what :func:`choose_runtime` wrote to a folder."""
        return cls.model_validate_json((folder / _FILE).read_text(encoding="utf-8"))

    def sentence(self) -> str:
        """Return which runtime was chosen by itself and why; empty if there was no choice."""
        if not self.speedups:
            return ""
        found = ", ".join(f"{in_words(name)} {value:.1f}" for name, value in self.speedups.items())
        return (
            f"The parent is fastest here in {in_words(self.chosen)} (times as fast as in PyTorch: {found}), so speeds "
            "are measured there. --runtime names another."
        )


def in_words(runtime: Runtime) -> str:
    """Return how a runtime is called in texts."""
    return "PyTorch" if runtime == "torch" else f"{runtime} in int8"


def check_runtime(runtime: Runtime) -> None:
    """Check that models can be written for a runtime.

    Raises:
        MissingExtraError: If something is not installed.
    """
    if runtime != "torch":
        format_named(runtime)(Request(Path(), int8=True)).check()


def choose_runtime(parent: SentenceTransformer, given: Runtime | None, folder: Path) -> None:
    """Write to ``folder`` where speeds are measured: what is given, or else where the parent is fastest here.

    What is tried beside PyTorch are the runtimes that are installed. Where the parent cannot be written for one, or
    its embeddings there are too far from its own, that is said, and it is left out. On an accelerator only PyTorch is
    tried.

    Raises:
        GapruneError: If the parent cannot be written for the runtime that is given.
    """
    found: dict[Runtime, tuple[float, float]] = {}
    for runtime in _tried(parent, given):
        try:
            found[runtime] = _try(parent, runtime, folder, force=given is not None)
        except GapruneError as error:
            if given is not None:
                raise
            say(f"Speeds are not measured in {in_words(runtime)}. {error.problem}")
    faster = [runtime for runtime, (speedup, _) in found.items() if speedup > 1]
    fastest: Runtime = max(faster, key=lambda each: found[each][0]) if faster else "torch"
    chosen = given or fastest
    choice = RuntimeChoice(
        chosen=chosen,
        speedups={} if given else {runtime: speedup for runtime, (speedup, _) in found.items()},
        export_seconds=0.0 if chosen == "torch" else found[chosen][1],
    )
    write_json(folder / _FILE, choice.model_dump(mode="json"))


def _tried(parent: SentenceTransformer, given: Runtime | None) -> Iterator[Runtime]:
    """Yield the runtimes beside PyTorch that are tried: the given one, or those whose extras are installed."""
    for runtime in get_args(Runtime):
        if runtime == "torch" or given not in (None, runtime) or (given is None and parent.device.type != "cpu"):
            continue
        with suppress(MissingExtraError):
            check_runtime(runtime)
            yield runtime


def _try(parent: SentenceTransformer, runtime: Runtime, beside: Path, *, force: bool) -> tuple[float, float]:
    """Return how many times faster than in PyTorch the parent is, and the seconds that writing it took."""
    with temporary_folder(beside) as folder:
        began = time.perf_counter()
        its = _exported(parent, runtime, folder, force=force)
        seconds = time.perf_counter() - began
        return measure_speed(its, TorchModel(parent), rounds=_ROUNDS, texts=FEW_TEXTS).speedup, seconds


class Measure(Protocol):
    """Measures a model beside its parent, in so many rounds, on batches of so many passages."""

    def __call__(self, model: SentenceTransformer, rounds: int, *, texts: int) -> Speed:
        """Return how fast the model is beside its parent."""


@contextmanager
def measuring(parent: SentenceTransformer, runtime: Runtime, beside: Path) -> Iterator[Measure]:
    """Give the function that measures a model beside its parent in a runtime."""
    if runtime == "torch":

        def measure_here(model: SentenceTransformer, rounds: int, *, texts: int) -> Speed:
            return measure_speed(TorchModel(model), TorchModel(parent), rounds=rounds, texts=texts)

        yield measure_here
        return

    with temporary_folder(beside) as folder:
        its = _exported(parent, runtime, folder)

        def measure(model: SentenceTransformer, rounds: int, *, texts: int) -> Speed:
            with temporary_folder(folder) as other:
                return measure_speed(_exported(model, runtime, other), its, rounds=rounds, texts=texts)

        yield measure


def _exported(model: SentenceTransformer, runtime: Runtime, folder: Path, *, force: bool = True) -> ExportedModel:
    model.save_pretrained(str(folder / "model"), create_model_card=False)
    with quiet():
        export_model(folder / "model", to=runtime, int8=True, out=folder / "exported", force=force)
    return ExportedModel(folder / "exported")
