"""Pruning until a target is met as measured: the speed of the child, not its number of operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from gaprune.config.removal import Target
from gaprune.config.shrink import Runtime
from gaprune.errors import ConfigError
from gaprune.evaluation.cost.speed import Speed, measure_speed
from gaprune.export.formats.base import Request
from gaprune.export.formats.registry import format_named
from gaprune.models.encoders import Encoder, TorchModel
from gaprune.models.exported import ExportedModel
from gaprune.pipelines.export import export_model
from gaprune.pipelines.prune import prune
from gaprune.util.files import temporary_folder, write_json
from gaprune.util.progress import say
from gaprune.util.records import Record

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


__all__ = ["Attempt", "Met", "check_runtime", "meet_target"]

_TOLERANCE = 0.05
"""A measured speedup may miss the target by this fraction."""

_ATTEMPTS = 3

_SLOWEST, _BOLDEST = 1.02, 3.0
"""A measured speedup below the first counts as it, and the exponent of a correction is at most the second."""

_FILE = "met.json"


class Attempt(Record):
    """One pruned model: the target that the search was given, and the speed that was measured."""

    searched: str
    speed: Speed


class Met(Record):
    """How a target was met.

    Args:
        target: What was asked for.
        attempts: Every pruned model, in order.
        chosen: Number of the attempt whose model is kept, from 0.
    """

    target: str
    attempts: tuple[Attempt, ...]
    chosen: int

    @property
    def speed(self) -> Speed:
        """The speed of the model that is kept."""
        return self.attempts[self.chosen].speed

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return what :func:`meet_target` wrote to a folder."""
        return cls.model_validate_json((folder / _FILE).read_text(encoding="utf-8"))


def check_runtime(runtime: Runtime) -> None:
    """Check that models can be written for a runtime.

    Raises:
        MissingExtraError: If something is not installed.
    """
    if runtime != "torch":
        format_named(runtime)(Request(Path(), int8=True)).check()


def meet_target(
    parent: SentenceTransformer, target: Target, folder: Path, *, runtime: Runtime, options: Mapping[str, Any]
) -> None:
    """Prune ``parent`` and write the model to ``folder``; :meth:`Met.read` says how the target was met.

    The search for a speedup counts operations. A real machine gains less from them, so the model is measured beside
    its parent, and if it misses the target by more than 5 % the search is repeated with another number of operations,
    as if the measured speedup were a power of that in operations.

    Args:
        parent: The parent; it is not changed.
        target: What the model has to reach.
        folder: An existing folder.
        runtime: Where speed is measured.
        options: Options of :func:`gaprune.prune`.

    Raises:
        GapruneError: One of its kinds, as :func:`gaprune.prune` does; a ConfigError if no mix reaches the target.
    """
    attempts: list[Attempt] = []
    searched, chosen = target, 0
    with _opening(runtime, folder) as opened:
        beside = opened(parent, "parent")
        while len(attempts) < _ATTEMPTS:
            try:
                result = prune(parent, target=searched, **options)
            except ConfigError as error:
                if not attempts:
                    raise
                say(f"No mix is faster, so the nearest one is kept: {error.problem}")
                break
            speed = measure_speed(opened(result.model, f"child-{len(attempts)}"), beside)
            attempts.append(Attempt(searched=str(searched), speed=speed))
            say(f"Pruned for {searched}; measured: {speed.speedup:.2f} times as fast.")
            if len(attempts) == 1 or _distance(speed, target) < _distance(attempts[chosen].speed, target):
                chosen = len(attempts) - 1
                result.save(folder / "model", overwrite=True)
            del result
            if target.kind != "speedup" or _distance(speed, target) <= math.log1p(_TOLERANCE):
                break
            power = math.log(target.limit) / math.log(max(speed.speedup, _SLOWEST))
            searched = Target("speedup", round(searched.limit ** min(power, _BOLDEST), 3))
    write_json(
        folder / _FILE, Met(target=str(target), attempts=tuple(attempts), chosen=chosen).model_dump(mode="json")
    )


def _distance(speed: Speed, target: Target) -> float:
    return abs(math.log(speed.speedup / target.limit)) if target.kind == "speedup" else 0.0


@contextmanager
def _opening(runtime: Runtime, beside: Path) -> Iterator[Callable[[SentenceTransformer, str], Encoder]]:
    """Give the function that opens a model, which has a name, in a runtime."""
    if runtime == "torch":
        yield lambda model, _name: TorchModel(model)
        return
    with temporary_folder(beside) as folder:

        def opened(model: SentenceTransformer, name: str) -> Encoder:
            model.save_pretrained(str(folder / name), create_model_card=False)
            export_model(folder / name, to=runtime, int8=True, out=folder / f"{name}-{runtime}", force=True)
            return ExportedModel(folder / f"{name}-{runtime}")

        yield opened
