"""Which triplets are trained on in which step: decided beforehand, so that a run can go on where it was ended."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from gaprune.data import Triplet, Triplets
from gaprune.errors import ConfigError, DataError
from gaprune.masks import shares

__all__ = ["hold_out", "plan"]


class _Pool:
    """Triplets in an order drawn anew for every pass over them; none is skipped but to a later batch.

    Args:
        items: What to draw from.
        offset: Added to every index.
        seed: Seed of the order.
    """

    def __init__(self, items: Sequence[Triplet], offset: int, seed: str) -> None:
        self.texts = [frozenset((item.query, *item.passages)) for item in items]
        self.offset = offset
        self._random = random.Random(seed)  # noqa: S311 (no secret)
        self._waiting: list[int] = []

    def draw(self, count: int, taken: set[str]) -> list[int] | None:
        """Return so many triplets that share no text with each other or with ``taken``; ``None`` if there are not."""
        drawn: list[int] = []
        for _ in range(2):  # what is left of this pass, then the next
            left = []
            for index in self._waiting:
                if len(drawn) < count and taken.isdisjoint(self.texts[index]):
                    drawn.append(self.offset + index)
                    taken |= self.texts[index]
                else:
                    left.append(index)
            self._waiting = left
            if len(drawn) == count:
                return drawn
            order = list(range(len(self.texts)))
            self._random.shuffle(order)
            self._waiting += order
        return None


def plan(
    domain: Triplets, general: Triplets | None, *, steps: int, batch_size: int, ratio: float, seed: int
) -> list[list[int]]:
    """Return the triplets of every step, as indices into ``domain`` followed by ``general``.

    No text stands twice in a batch, so no passage is a false negative for being another's positive. Over all steps
    together exactly ``round(ratio * steps * batch_size)`` triplets are general, spread evenly over the steps.

    Raises:
        ConfigError: If a batch cannot be filled with different texts.
    """
    counts = shares(ratio, [batch_size] * steps)
    pools = (_Pool(domain, 0, f"domain {seed}"), _Pool(general or (), len(domain), f"general {seed}"))
    mixing = random.Random(f"order {seed}")  # noqa: S311 (no secret)
    batches = []
    for of_general in counts:
        taken: set[str] = set()
        batch: list[int] = []
        for pool, count, name in zip(
            pools, (batch_size - of_general, of_general), (domain.name, general and general.name), strict=True
        ):
            drawn = pool.draw(count, taken) if count else []
            if drawn is None:
                raise ConfigError(
                    f"batch_size: {name} holds {len(pool.texts)} triplets to train on, too few of different texts for "
                    f"{count} in a batch.",
                    "Lower --batch-size, or give more triplets.",
                )
            batch += drawn
        mixing.shuffle(batch)
        batches.append(batch)
    return batches


def hold_out(
    triplets: Triplets, fraction: float, *, most: int, batch_size: int, parts: int, seed: int
) -> tuple[Triplets, Triplets, int]:
    """Split triplets into those trained on and those held out, which come in batches of equal size.

    Triplets that share a query or a positive stay together, so that nothing held out is trained on.

    Args:
        triplets: What to split.
        fraction: Share to hold out.
        most: Triplets held out at the most.
        batch_size: Most triplets a batch.
        parts: Number of processes; batches divide into them.
        seed: Seed of the choice.

    Returns:
        Trained on; held out, at most ``fraction`` of all and ``most``, to a multiple of the batches; the size of
        these batches.

    Raises:
        ConfigError: If fewer than two triplets a process can be held out.
    """
    wanted = min(round(fraction * len(triplets)), most)
    chosen: list[int] = []
    groups = _groups(triplets)
    random.Random(f"held out {seed}").shuffle(groups)  # noqa: S311 (no secret)
    for group in groups:
        if len(chosen) + len(group) <= wanted:
            chosen += group
    batches = -(-len(chosen) // batch_size)
    size = len(chosen) // batches // parts * parts if batches else 0
    if size < 2 * parts:
        raise ConfigError(
            f"held_out: {fraction:g} of the {len(triplets)} triplets of {triplets.name} leaves fewer than "
            f"{2 * parts} to hold out (triplets with the same query or positive stay together).",
            "Raise --held-out, give more triplets, or do without (--held-out 0).",
        )
    held = sorted(chosen[: size * batches])
    rest = sorted(set(range(len(triplets))) - set(chosen))
    if not rest:
        raise DataError("has nothing left to train on.", "Lower --held-out.", source=triplets.name)
    return _pick(triplets, rest), _pick(triplets, held), size


def _pick(triplets: Triplets, indices: Iterable[int]) -> Triplets:
    return Triplets([triplets[index] for index in indices], triplets.name)


def _groups(triplets: Triplets) -> list[list[int]]:
    """Return indices of triplets, those together that share a query or a positive, in the order of the first."""
    root = list(range(len(triplets)))

    def find(index: int) -> int:
        while root[index] != index:
            root[index] = root[root[index]]
            index = root[index]
        return index

    first: dict[str, int] = {}
    for index, item in enumerate(triplets):
        for text in (item.query, item.positive):
            root[find(index)] = find(first.setdefault(text, index))
    groups: dict[int, list[int]] = {}
    for index in range(len(triplets)):
        groups.setdefault(find(index), []).append(index)
    return list(groups.values())
