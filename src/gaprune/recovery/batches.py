"""Which triplets are in which batch: planned before training, so that an interrupted run can continue."""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, zip_longest

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from gaprune.data.triplets import Triplet, Triplets
from gaprune.data.words import normalise
from gaprune.errors import ConfigError, DataError
from gaprune.pruning.allocation import shares

_HOLD_MORE = "Raise held_out (--set held_out=0.2), give more triplets, or hold none out (--set held_out=0)."


def row(item: Triplet, negatives: int) -> tuple[str, ...]:
    """Return the texts of a triplet that are trained on: query, positive and the first ``negatives`` negatives."""
    return (item.query, *item.passages[: negatives + 1])


def _take_disjoint(waiting: deque[int], count: int, texts: Sequence[frozenset[str]], taken: set[str]) -> list[int]:
    """Take up to ``count`` indices from ``waiting`` whose triplets share no text with each other or with ``taken``.

    The indices that are passed over stay at the front of ``waiting`` in their order.
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
    """Triplets in an order that is shuffled again for every pass; a triplet is only ever postponed, never skipped.

    One that still waits is not in the next pass again: where many share a text, the list would grow with every pass.
    """

    def __init__(self, items: Sequence[Triplet], negatives: int, seed: str) -> None:
        self.texts = [frozenset(row(item, negatives)) for item in items]
        self._random = random.Random(seed)  # noqa: S311 (not for secrets)
        self._waiting: deque[int] = deque()

    def draw(self, count: int, taken: set[str]) -> list[int]:
        """Return up to ``count`` triplets that share no text with each other or with ``taken``."""
        drawn = _take_disjoint(self._waiting, count, self.texts, taken)
        if len(drawn) < count:  # the next pass
            order = list(range(len(self.texts)))
            self._random.shuffle(order)
            behind = set(self._waiting)
            waiting = deque(index for index in order if index not in behind)
            drawn += _take_disjoint(waiting, count - len(drawn), self.texts, taken)
            self._waiting += waiting
        return drawn


def plan(
    domain: Triplets,
    general: Triplets | None,
    *,
    steps: int,
    batch_size: int,
    general_share: float,
    negatives: int,
    seed: int,
) -> list[list[int]]:
    """Return the triplets of every step, as indices into ``domain`` followed by ``general``.

    No text occurs twice in a batch, so no passage is a false negative because it is the positive of another query.
    Over all steps together exactly ``round(general_share * steps * batch_size)`` triplets are general, spread evenly.

    Raises:
        ConfigError: If a batch cannot be filled with different texts.
    """
    sources = [(domain, 0, _Pool(domain, negatives, f"domain {seed}"))]
    if general is not None:
        sources.append((general, len(domain), _Pool(general, negatives, f"general {seed}")))
    mixing = random.Random(f"order {seed}")  # noqa: S311 (not for secrets)
    batches = []
    for of_general in shares(general_share, [batch_size] * steps):
        taken: set[str] = set()
        batch: list[int] = []
        for (triplets, offset, pool), count in zip(sources, (batch_size - of_general, of_general), strict=False):
            drawn = pool.draw(count, taken) if count else []
            if len(drawn) < count:
                raise ConfigError(
                    f"batch_size: {triplets.name} holds {len(triplets)} triplets to train on, too few of different "
                    f"texts for {count} in a batch.",
                    "Lower --batch-size, or give more triplets.",
                )
            batch += [offset + index for index in drawn]
        mixing.shuffle(batch)
        batches.append(batch)
    return batches


def hold_out(triplets: Triplets, fraction: float, *, most: int, least: int, seed: int) -> tuple[Triplets, Triplets]:
    """Split triplets into training triplets and held-out triplets.

    Triplets that share a query or a positive stay on the same side, so that nothing held out is trained on.

    Raises:
        ConfigError: If fewer than ``least`` can be held out.
        DataError: If no training triplets are left.
    """
    wanted = min(round(fraction * len(triplets)), most)
    chosen: list[int] = []
    groups = _groups(triplets)
    random.Random(f"held out {seed}").shuffle(groups)  # noqa: S311 (not for secrets)
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
        raise DataError(
            "has no triplets left to train on.", "Lower held_out (--set held_out=0.1).", source=triplets.name
        )
    return _pick(triplets, rest), _pick(triplets, sorted(chosen))


def in_batches(triplets: Triplets, *, batch_size: int, processes: int, negatives: int) -> tuple[Triplets, int]:
    """Return held-out triplets in batches of equal size, one after another, and that size.

    No text occurs twice in a batch, as in training. The size is the largest for which at least half of the triplets
    find a place in a batch; if there is none, the size for which most do. The other triplets are left out. The size is
    at most ``batch_size``, and a multiple of the number of processes.

    Raises:
        ConfigError: If there is no batch of at least two triplets per process.
    """
    texts = [frozenset(row(item, negatives)) for item in triplets]
    groups = _groups(triplets)
    balanced = len(triplets) // -(-len(triplets) // batch_size)
    best: list[list[int]] = []
    for size in range(balanced // processes * processes, 2 * processes - 1, -processes):
        batches = list(_fill(groups, size, texts))
        best = max(best, batches, key=lambda found: sum(map(len, found)))
        if 2 * size * len(batches) >= len(triplets):
            break
    if not best:
        raise ConfigError(
            f"held_out: the {len(triplets)} triplets held out of {triplets.name} have too few different texts for a "
            f"batch of {2 * processes}.",
            _HOLD_MORE,
        )
    return _pick(triplets, chain.from_iterable(best)), len(best[0])


def _fill(groups: Sequence[Sequence[int]], size: int, texts: Sequence[frozenset[str]]) -> Iterator[list[int]]:
    """Yield as many batches of different texts as can be filled, from the largest remaining groups first."""
    left = list(groups)
    while True:
        left.sort(key=len, reverse=True)
        order = deque(index for turn in zip_longest(*left) for index in turn if index is not None)
        batch = _take_disjoint(order, size, texts, set())
        if len(batch) < size:
            return
        yield batch
        left = [[index for index in group if index not in batch] for group in left]


def _pick(triplets: Triplets, indices: Iterable[int]) -> Triplets:
    return Triplets([triplets[index] for index in indices], triplets.name)


def _groups(triplets: Triplets) -> list[list[int]]:
    """Return the indices of triplets in groups that share a query or a positive, in the order of the first.

    Texts that differ in case and punctuation alone are the same.
    """
    numbers: dict[str, int] = {}
    edges = [
        (index, len(triplets) + numbers.setdefault(normalise(text), len(numbers)))
        for index, item in enumerate(triplets)
        for text in (item.query, item.positive)
    ]
    size = len(triplets) + len(numbers)
    graph = coo_array((np.ones(len(edges)), tuple(zip(*edges, strict=True))), shape=(size, size))
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(connected_components(graph, directed=False)[1][: len(triplets)]):
        groups[label].append(index)
    return list(groups.values())
