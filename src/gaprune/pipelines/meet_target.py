"""Pruning for a target as measured: the speed of the child, not its number of operations."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from gaprune.config.recipe import Recipe
from gaprune.config.removal import Target
from gaprune.config.shrink import Runtime
from gaprune.errors import ConfigError
from gaprune.evaluation.cost.latency import Speed
from gaprune.pipelines.prune import prune
from gaprune.pipelines.runtimes import FEW_TEXTS, measuring
from gaprune.pipelines.speed_table import SpeedTable
from gaprune.pruning.costs import Shape
from gaprune.util.files import write_json
from gaprune.util.progress import say
from gaprune.util.records import Record

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_TOLERANCE = 0.05
"""A measured speedup may miss the target by this fraction."""

_ATTEMPTS = 2
"""Prunings at most: the plan of ``gaprune shrink`` has time for one correction."""

_ROUNDS = 5
"""How often parent and result are timed."""

_FILE = "met.json"


class Attempt(Record):
    """One pruned model: its shape, the speedup that the search expected of it if it was for one, and its speed."""

    shape: Shape
    expected: float | None
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


def meet_target(
    parent: SentenceTransformer,
    target: Target,
    folder: Path,
    *,
    runtime: Runtime,
    options: Mapping[str, Any],
    speeds: Path | None = None,
) -> None:
    """Prune ``parent`` and write the model to ``folder``; :meth:`Met.read` says how the target was met.

    For a speedup the search knows measured speeds of shapes (:class:`gaprune.pipelines.speed_table.SpeedTable`), so
    one pruning is usually enough. The model is measured beside its parent all the same, and if it misses the target by
    more than 5 %, the table is corrected and the pruning repeated. It is not if the measurement scatters so much that
    it cannot say that the target is missed: the correction could go in the wrong direction.

    Args:
        parent: The parent; it is not changed.
        target: What the model has to reach.
        folder: An existing folder.
        runtime: Where speed is measured.
        options: Options of :func:`gaprune.prune`.
        speeds: File that keeps the speeds of shapes, for a run that continues; it need not exist.

    Raises:
        GapruneError: One of its kinds, as :func:`gaprune.prune` does; a ConfigError if no mix reaches the target.
    """
    attempts: list[Attempt] = []
    with measuring(parent, runtime, folder) as measure:
        fewest = int(options.get("round_to") or Recipe.model_fields["round_to"].default)
        texts = FEW_TEXTS if parent.device.type == "cpu" or runtime != "torch" else 32
        timed = _remembered(partial(measure, texts=texts), speeds)
        table = SpeedTable(parent, timed, fewest=fewest) if target.kind == "speedup" else None
        while len(attempts) < _ATTEMPTS:
            try:
                again = {"resume": True} if attempts and "checkpoint" in options else {}
                result = prune(parent, target=target, speed=table, **{**options, **again})
            except ConfigError as error:
                if not attempts:
                    raise
                say(f"No mix is faster, so the nearest one is kept: {error.problem}")
                break
            shape = Shape.of(result.model)
            if attempts and shape == attempts[-1].shape:
                break
            speed = measure(result.model, _ROUNDS, texts=32)
            expected = None if table is None else table.speedup(shape)
            attempts.append(Attempt(shape=shape, expected=expected, speed=speed))
            say(f"Pruned for {target}; measured: {speed.speedup:.2f} times as fast{_missed(speed, target)}.")
            if _nearest(attempts, target) == len(attempts) - 1:
                result.save(folder / "model", overwrite=True)
            del result
            missed = _distance(speed, target) - math.log1p(_TOLERANCE)
            if table is None or missed <= 0:
                break
            if missed <= 2 * speed.error:
                say(_uncertain(speed))
                break
            if table.learn(shape, speed):
                break
            if len(attempts) < _ATTEMPTS:
                say("It is pruned again by the corrected speeds; of both models the one nearer to the target is kept.")
    met = Met(target=str(target), attempts=tuple(attempts), chosen=_nearest(attempts, target))
    write_json(folder / _FILE, met.model_dump(mode="json"))


def _nearest(attempts: Sequence[Attempt], target: Target) -> int:
    """Return the number of the attempt that is nearest to the target."""
    return min(range(len(attempts)), key=lambda each: _distance(attempts[each].speed, target))


def _distance(speed: Speed, target: Target) -> float:
    return abs(math.log(speed.speedup / target.limit)) if target.kind == "speedup" else 0.0


def _missed(speed: Speed, target: Target) -> str:
    """Return by how much a measured speedup misses the target, if that is more than is tolerated."""
    if _distance(speed, target) <= math.log1p(_TOLERANCE):
        return ""
    return f", {speed.speedup / target.limit - 1:+.0%} from {target.limit:g}"


def _uncertain(speed: Speed) -> str:
    """Return why a pruning is not repeated, and the way out."""
    low, high = speed.interval
    return (
        f"The timings scatter, as they do while other programs run: the speedup is between {low:.2f} and {high:.2f} "
        "(95 %). That is too uncertain to correct the pruning by, so this model is kept. To be sure of the speed, end "
        "the other programs; then measure this model again with `gaprune bench`, or run the command with --overwrite."
    )


def _remembered(
    measure: Callable[[SentenceTransformer, int], Speed], file: Path | None
) -> Callable[[SentenceTransformer, int], Speed]:
    """Return ``measure`` so that what was measured before of a shape is read from ``file``."""
    if file is None:
        return measure
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    def remembered(model: SentenceTransformer, rounds: int) -> Speed:
        key = f"{Shape.of(model).model_dump_json()} in {rounds} rounds"
        if key not in known:
            known[key] = measure(model, rounds).model_dump(mode="json")
            write_json(file, known)
        return Speed.model_validate(known[key])

    return remembered
