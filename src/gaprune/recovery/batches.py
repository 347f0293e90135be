"""Which triplets are trained on in which step: decided beforehand, so that a run can go on where it was ended."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, zip_longest

from gaprune.data.triplets import Triplet, Triplets
from gaprune.errors import ConfigError, DataError
from gaprune.pruning.budget import shares

__all__ = ["hold_out", "in_batches", "plan", "row"]


_HOLD_MORE = "Raise --held-out, give more triplets, or do without (--held-out 0)."


def row(item: Triplet, negatives: int) -> tuple[str, ...]:
    """Return the texts of a triplet that are trained on: query, positive and so many of its negatives."""
    return (item.query, *item.passages[: negatives + 1])


def _apart(waiting: deque[int], count: int, texts: Sequence[frozenset[str]], taken: set[str]) -> list[int]:
    """Take from ``waiting`` up to ``count`` that share no text with each other or with ``taken``.

    Those passed over stay in front of it, in their order.
    """
    drawn: list[int] = []
    passed: list[int] = []
    while waiting and len(drawn) < count:
        index = waiting.popleft()
        if taken.isdisjoint(texts[index]):
            drawn.append(index)
            taken |= texts[index]
        else:
            passed.append(index)
    waiting.extendleft(reversed(passed))
    return drawn


class _Pool:
    """Triplets in an order drawn anew for every pass over them; none is skipped but to a later batch.

    Args:
        items: What to draw from.
        offset: Added to every index.
        negatives: Negatives of their own that are trained on.
        seed: Seed of the order.
    """

    def __init__(self, items: Sequence[Triplet], offset: int, negatives: int, seed: str) -> None:
        self.texts = [frozenset(row(item, negatives)) for item in items]
        self.offset = offset
        self._random = random.Random(seed)  # noqa: S311 (no secret)
        self._waiting: deque[int] = deque()

    def draw(self, count: int, taken: set[str]) -> list[int] | None:
        """Return so many triplets that share no text with each other or with ``taken``; ``None`` if there are not."""
        drawn = _apart(self._waiting, count, self.texts, taken)
        if len(drawn) < count:  # the next pass
            order = list(range(len(self.texts)))
            self._random.shuffle(order)
            again = deque(order)
            drawn += _apart(again, count - len(drawn), self.texts, taken)
            self._waiting += again
        return [self.offset + index for index in drawn] if len(drawn) == count else None


def plan(
    domain: Triplets,
    general: Triplets | None,
    *,
    steps: int,
    batch_size: int,
    ratio: float,
    negatives: int,
    seed: int,
) -> list[list[int]]:
    """Return the triplets of every step, as indices into ``domain`` followed by ``general``.

    No text that is trained on stands twice in a batch, so no passage is a false negative for being another's positive.
    Over all steps together exactly ``round(ratio * steps * batch_size)`` triplets are general, spread evenly over the
    steps.

    Raises:
        ConfigError: If a batch cannot be filled with different texts.
    """
    counts = shares(ratio, [batch_size] * steps)
    pools = (
        _Pool(domain, 0, negatives, f"domain {seed}"),
        _Pool(general or (), len(domain), negatives, f"general {seed}"),
    )
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


def hold_out(triplets: Triplets, fraction: float, *, most: int, least: int, seed: int) -> tuple[Triplets, Triplets]:
    """Split triplets into those trained on and those held out.

    Triplets that share a query or a positive stay together, so that nothing held out is trained on.

    Args:
        triplets: What to split.
        fraction: Share to hold out.
        most: Triplets held out at the most.
        least: Triplets held out at least.
        seed: Seed of the choice.

    Raises:
        ConfigError: If fewer can be held out than at least.
        DataError: If none is left.
    """
    wanted = min(round(fraction * len(triplets)), most)
    chosen: list[int] = []
    groups = _groups(triplets)
    random.Random(f"held out {seed}").shuffle(groups)  # noqa: S311 (no secret)
    for group in groups:
        if len(chosen) + len(group) <= wanted:
            chosen += group
    if len(chosen) < least:
        raise ConfigError(
            f"held_out: {fraction:g} of the {len(triplets)} triplets of {triplets.name} leaves fewer than "
            f"{least} to hold out (triplets with the same query or positive stay together).",
            _HOLD_MORE,
        )
    rest = sorted(set(range(len(triplets))) - set(chosen))
    if not rest:
        raise DataError("has nothing left to train on.", "Lower --held-out.", source=triplets.name)
    return _pick(triplets, rest), _pick(triplets, sorted(chosen))


def in_batches(triplets: Triplets, *, batch_size: int, parts: int, negatives: int) -> tuple[Triplets, int]:
    """Return triplets in batches of equal size, one after another, and that size.

    No text stands twice in a batch, as in training. The size is the largest by which half of the triplets find a
    batch, or that by which most do where none lets half of them: those that fill none are left out.

    Args:
        triplets: Those held out.
        batch_size: Most triplets a batch.
        parts: Number of processes; batches divide into them.
        negatives: Negatives of their own that are embedded.

    Raises:
        ConfigError: If there is no batch of at least two triplets a process.
    """
    texts = [frozenset(row(item, negatives)) for item in triplets]
    groups = _groups(triplets)
    balanced = len(triplets) // -(-len(triplets) // batch_size)
    best: list[list[int]] = []
    for size in range(balanced // parts * parts, 2 * parts - 1, -parts):
        batches = list(_filled(groups, size, texts))
        best = max(best, batches, key=lambda found: sum(map(len, found)))
        if 2 * size * len(batches) >= len(triplets):
            break
    if not best:
        raise ConfigError(
            f"held_out: the {len(triplets)} triplets held out of {triplets.name} have too few different texts for a "
            f"batch of {2 * parts}.",
            _HOLD_MORE,
        )
    return _pick(triplets, chain.from_iterable(best)), len(best[0])


def _filled(groups: Sequence[Sequence[int]], size: int, texts: Sequence[frozenset[str]]) -> Iterator[list[int]]:
    """Yield as many batches as can be filled with different texts, out of the groups that have most left first."""
    left = list(groups)
    while True:
        left.sort(key=len, reverse=True)
        order = deque(index for turn in zip_longest(*left) for index in turn if index is not None)
        batch = _apart(order, size, texts, set())
        if len(batch) < size:
            return
        yield batch
        left = [[index for index in group if index not in batch] for group in left]


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
