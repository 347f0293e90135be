"""The cells of benchmarks/frontier.py: what is made and judged, in which order, and what is compared with what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from testbed import Lines, machine

BUDGETS = {
    "0": 0, "100 steps": 0, "1M tokens": 10**6, "1M tokens + 100 steps": 10**6, "5M tokens + 100 steps": 5 * 10**6,
}  # fmt: skip
"""Tokens of distillation by the name of the budget."""
UNTRAINED = "0"
WITHOUT_LABELS = ("0", "1M tokens")
"""Budgets that use no labels: the parent, which has nothing to learn then, is beside both as it is."""
OF_PARENT, FIRST, THEN = ("A", "B", "C", "J"), ("F", "D", "E"), ("H", "I", "G")
INT8 = ("F",)
RIVALS = ("CDE", "G", "H", "I", "B")
"""Arms of which the best one is what F is compared with."""


class Cell(NamedTuple):
    """What one model is; the cost point is 0 for arms with a cost of their own."""

    parent: str
    domain: str
    arm: str
    point: float
    budget: str
    seed: int
    form: str

    def is_beside(self, other: Cell) -> bool:
        """Return whether both have the same domain, cost point, budget and seed, and form where both have two."""
        same_form = other.form == self.form or other.arm in OF_PARENT
        as_it_is = self.budget in WITHOUT_LABELS and other.arm in OF_PARENT
        wanted = (self.domain, UNTRAINED if as_it_is else self.budget, self.seed)
        found = (other.domain, other.budget, other.seed)
        return found == wanted and other.point in (0.0, self.point) and same_form


@dataclass(frozen=True)
class Asked:
    """What a run is asked for.

    Args:
        points: How many times faster.
        budgets: Names of :data:`BUDGETS`.
        domains: The domains.
        seeds: Number of samples of the triplets.
        arms: Arms that are made.
    """

    points: Sequence[float]
    budgets: Sequence[str]
    domains: Sequence[str]
    seeds: int
    arms: frozenset[str]

    def cells(self, parent: str) -> Iterator[Cell]:
        """Yield the cells of a parent, the most telling ones first."""
        for seed in range(self.seeds):
            if seed == 0:
                yield from self._with_one_cost(parent, (UNTRAINED,), 0)
            for point, some in product(self.points, (FIRST, THEN)):
                for domain, arm, budget in product(self.domains, some, self.budgets):
                    if arm in self.arms:
                        for form in ("fp32", "int8") if arm in INT8 else ("fp32",):
                            yield Cell(parent, domain, arm, point, budget, seed, form)
                if (point, some) == (self.points[0], FIRST):
                    yield from self._with_one_cost(parent, [x for x in self.budgets if x != UNTRAINED], seed)

    def _with_one_cost(self, parent: str, budgets: Sequence[str], seed: int) -> Iterator[Cell]:
        """Yield the parent itself in both forms, a smaller model, and static embeddings."""
        for domain, budget, arm in product(self.domains, budgets, OF_PARENT):
            no_smaller = arm == "C" and parent == "all-MiniLM-L6-v2"
            not_made = BUDGETS[budget] and (arm == "J" or budget in WITHOUT_LABELS)  # J would need a loss of its own
            if arm in self.arms and budget in self.budgets and not (no_smaller or not_made):
                yield Cell(parent, domain, arm, 0.0, budget, seed, "int8" if arm == "B" else "fp32")


class Kept(Lines):
    """The lines of cells, shapes, learning rates, costs and differences."""

    def of(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        """Return the lines of a kind with these fields."""
        return [x for x in self if x["kind"] == kind and all(x.get(name) == v for name, v in fields.items())]

    def keep(self, kind: str, **fields: Any) -> None:
        """Add a line."""
        self.add({"kind": kind, **fields, "machine": machine()})
