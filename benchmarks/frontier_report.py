"""Tables and claims of benchmarks/frontier.py, from its lines alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from statistics import fmean, stdev
from typing import Any

from gaprune.report.markdown import markdown_table

NAMES = {
    "A": "parent",
    "B": "parent, int8",
    "C": "smaller model off the shelf",
    "D": "every second layer",
    "E": "first layers, fitted head",
    "F": "GAPrune",
    "G": "random units, our reconstruction",
    "H": "GAPrune, general text alone",
    "I": "GAPrune, the other domain",
    "J": "static embeddings",
}
DOMAINS = ("finance", "chemistry")
WITHOUT_LABELS = ("0", "1M tokens")
KEPT_IN_INDEX, SPEED_OVER_INT8, LOSS_TO_INT8, AHEAD = 0.97, 1.5, 0.01, 0.01
Key = tuple[str, str, str, float, str, str]
"""Parent, domain, arm, cost point, budget, form."""


@dataclass(frozen=True)
class Found:
    """The lines by what they are about."""

    cells: dict[Key, list[dict[str, Any]]]
    costs: dict[tuple[str, str, float, str], dict[str, Any]]
    differences: dict[tuple[Key, str], list[dict[str, Any]]]

    @classmethod
    def of(cls, lines: list[dict[str, Any]]) -> Found:
        """Sort the lines; a later one counts where there are two."""
        cells: dict[Key, dict[int, dict[str, Any]]] = {}
        differences: dict[tuple[Key, str], dict[int, dict[str, Any]]] = {}
        costs = {}
        for line in lines:
            if line["kind"] == "cost":
                costs[line["parent"], line["arm"], line["point"], line["form"]] = line
            if line["kind"] not in ("cell", "difference"):
                continue
            *first, seed, form = line["cell"]
            key = (*first, form)
            if line["kind"] == "cell":
                cells.setdefault(key, {})[seed] = line
            else:
                differences.setdefault((key, line["against"]), {})[seed] = line
        return cls(
            {key: list(each.values()) for key, each in cells.items()},
            costs,
            {key: list(each.values()) for key, each in differences.items()},
        )

    def cost(self, key: Key) -> dict[str, Any] | None:
        """Return what a cell costs: G, H and I have the shape of F."""
        parent, _, arm, point, _, form = key
        arm = {"B": "A", "G": "F", "H": "F", "I": "F"}.get(arm, arm)
        return self.costs.get((parent, arm, point, form))

    def mean(self, key: Key, kind: str) -> float:
        """Return the mean over tasks and seeds."""
        return fmean(each["means"][kind] for each in self.cells[key])

    def relative(self, key: Key, kind: str) -> float | None:
        """Return a mean in parts of the parent's."""
        dense = (key[0], key[1], "A", 0.0, "0", "fp32")
        return self.mean(key, kind) / self.mean(dense, kind) if dense in self.cells else None

    def in_index(self, key: Key) -> float | None:
        """Return the share of the parent's nDCG@10 that is kept in its index."""
        found = [each["index"] for each in self.cells[key] if each["index"]]
        return fmean(each["value"] / each["parent"] for each in found) if found else None


def report(lines: list[dict[str, Any]]) -> str:
    """Return the Markdown: a table for each parent and domain, the claims, and what is missing."""
    found = Found.of(lines)
    parts = [table(found, parent, domain) for parent, domain in groups(found)]
    return "\n".join([*parts, *claims(found), missing(found)])


def groups(found: Found) -> list[tuple[str, str]]:
    """Return parents and domains in order."""
    here = {key[:2] for key in found.cells}
    parents = list(dict.fromkeys(key[0] for key in found.cells))
    return [(parent, domain) for parent, domain in product(parents, DOMAINS) if (parent, domain) in here]


def table(found: Found, parent: str, domain: str) -> str:
    """Return the Markdown of one parent and domain."""
    keys = [key for key in found.cells if key[:2] == (parent, domain)]
    rows = [row(found, key) for key in sorted(keys, key=lambda key: (key[3], key[4] != "0", key[4], key[5], key[2]))]
    header = [
        "point", "budget", "arm", "form", "latency", "texts/s", "minutes", domain, "nDCG@10", "Recall@100", "general",
        "in the parent's index",
    ]  # fmt: skip
    return f"### {parent}, {domain}\n\n{markdown_table(header, rows)}"


def row(found: Found, key: Key) -> list[str]:
    """Return the row of a cell."""
    _, domain, arm, point, budget, form = key
    lines, cost = found.cells[key], found.cost(key)
    kept = found.in_index(key)
    return [
        f"{point:g} x" if point else "",
        budget,
        f"{arm} {NAMES[arm]}",
        form,
        f"{cost['latency']:.2f} x" if cost else "not measured",
        f"{cost['throughput']:.2f} x" if cost else "not measured",
        f"{fmean(each['minutes'] for each in lines):.1f}",
        value([each["means"][domain] for each in lines], found.relative(key, domain)),
        *(f"{retrieval(lines, domain, metric):.4f}" for metric in ("nDCG@10", "recall@100")),
        value([each["means"]["general"] for each in lines], found.relative(key, "general")),
        f"{kept:.1%}" if kept is not None else "100.0%" if arm == "A" and budget == "0" else "other dimensions",
    ]


def value(means: list[float], relative: float | None) -> str:
    """Return a mean over seeds with its spread, and its change against the parent."""
    spread = f" ± {stdev(means):.4f}" if len(means) > 1 else ""
    return f"{fmean(means):.4f}{spread}" + ("" if relative is None else f" ({relative - 1:+.1%})")


def retrieval(lines: list[dict[str, Any]], domain: str, metric: str) -> float:
    """Return the mean of a metric over retrieval tasks and seeds."""
    return fmean(task[metric] for each in lines for task in each["scores"][domain].values() if metric in task)


# Claims


def claims(found: Found) -> Iterator[str]:
    """Yield what was claimed before anything was measured, with what was found."""
    yield "### The claims\n"
    header = ["claim", "parent, domain, point, budget", "found", "result"]
    rows = [
        *(each for key in ours(found, "fp32") for each in (ahead(found, key), *domain_matters(found, key))),
        *(kept_in_index(found, key) for key in ours(found, "fp32") if key[3] == 2),
        *(over_int8(found, key) for key in ours(found, "int8")),
    ]
    rows = sorted((each for each in rows if each), key=lambda each: each[0])
    for number, text in CLAIMS.items():
        results = [each[3] for each in rows if each[0] == number]
        verdict = "not measured" if not results else f"holds in {results.count('holds')} of {len(results)} cases"
        yield f"{number}. {text}: **{verdict}**."
    yield ""
    yield markdown_table(header, rows)
    yield (
        "Differences are in points of the mean over the domain's tasks, with the 95 % interval of a paired bootstrap "
        "over queries, pairs and texts.\n"
    )


CLAIMS = {
    "1": "GAPrune is ahead of the best of C, D and E at the same latency by a point or more with an interval without "
    "0, or not behind it in a third of the minutes",
    "2": "the domain matters: GAPrune calibrated on it is ahead of H and I",
    "3": "at twice the speed GAPrune keeps 97 % in the parent's index",
    "4": "GAPrune in int8 is 1.5 times as fast as the parent in int8 for at most 1 % of its quality, or ahead of it "
    "at the same latency",
}


def ours(found: Found, form: str) -> list[Key]:
    """Return the cells of GAPrune."""
    return [key for key in found.cells if key[2] == "F" and key[5] == form]


def about(key: Key) -> str:
    """Return what a claim is looked at in."""
    parent, domain, _, point, budget, _ = key
    return f"{parent}, {domain}, {point:g} x, {budget}"


def difference(found: Found, key: Key, against: str) -> tuple[str, float, float, float] | None:
    """Return the rival, and the mean over seeds of the difference and of its interval."""
    lines = found.differences.get((key, against))
    if not lines:
        return None
    value, low, high = (fmean(each[name] for each in lines) for name in ("value", "low", "high"))
    return lines[0]["best"][2], value, low, high


def shown(rival: str, value: float, low: float, high: float) -> str:
    """Return a difference in words."""
    return f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}] against {rival}"


def ahead(found: Found, key: Key) -> list[str] | None:
    """Return the row of claim 1."""
    compared = difference(found, key, "CDE")
    if compared is None:
        return None
    rival, value, low, high = compared
    budget = "0" if rival == "C" and key[4] in WITHOUT_LABELS else key[4]
    other: Key = (key[0], key[1], rival, 0.0 if rival == "C" else key[3], budget, key[5])
    mine, its = (fmean(each["minutes"] for each in found.cells[each]) for each in (key, other))
    holds = (value >= AHEAD and low > 0) or (high >= 0 and value >= 0 and mine <= its / 3)
    text = f"{shown(rival, value, low, high)}; {mine:.1f} against {its:.1f} minutes"
    return ["1", about(key), text, "holds" if holds else "fails"]


def domain_matters(found: Found, key: Key) -> Iterator[list[str]]:
    """Yield the rows of claim 2."""
    for against in ("H", "I"):
        compared = difference(found, key, against)
        if compared is not None:
            yield ["2", about(key), shown(*compared), "holds" if compared[2] > 0 else "fails"]


def kept_in_index(found: Found, key: Key) -> list[str] | None:
    """Return the row of claim 3."""
    kept = found.in_index(key)
    return None if kept is None else ["3", about(key), f"{kept:.1%}", "holds" if kept >= KEPT_IN_INDEX else "fails"]


def over_int8(found: Found, key: Key) -> list[str] | None:
    """Return the row of claim 4."""
    other: Key = (key[0], key[1], "B", 0.0, "0" if key[4] in WITHOUT_LABELS else key[4], "int8")
    compared = difference(found, key, "B")
    mine, its = found.cost(key), found.cost(other)
    if compared is None or mine is None or its is None:
        return None
    speed, loss = mine["latency"] / its["latency"], 1 - found.mean(key, key[1]) / found.mean(other, key[1])
    holds = (speed >= SPEED_OVER_INT8 and loss <= LOSS_TO_INT8) or (speed >= 0.95 and compared[2] > 0)
    text = f"{speed:.2f} times as fast, {-loss:+.1%}: {shown(*compared)}"
    return ["4", about(key), text, "holds" if holds else "fails"]


PLANNED = {
    "parents": ("all-MiniLM-L6-v2", "all-mpnet-base-v2"),
    "points": (2.0, 3.0, 4.0),
    "budgets": ("0", "100 steps", "1M tokens + 100 steps", "5M tokens + 100 steps"),
    "arms": "DEFGHI",
}


def missing(found: Found) -> str:
    """Return which cells the plan names that were not run."""
    listed = []
    for of in product(PLANNED["parents"], DOMAINS):
        absent: dict[tuple[tuple[str, str], ...], list[str]] = {}
        for point in PLANNED["points"]:
            arms = (
                (budget, "".join(x for x in PLANNED["arms"] if (*of, x, point, budget, "fp32") not in found.cells))
                for budget in PLANNED["budgets"]
            )
            absent.setdefault(tuple(each for each in arms if each[1]), []).append(f"{point:g} x")
        for budgets, points in absent.items():
            whole = [budget for budget, arms in budgets if arms == PLANNED["arms"]]
            texts = [f"{budget}: {', '.join(arms)}" for budget, arms in budgets if arms != PLANNED["arms"]]
            texts += [f"{' and '.join(whole)}: all arms"] if whole else []
            if len(whole) == len(PLANNED["budgets"]):
                texts = ["everything"]
            if texts:
                listed.append(f"- {', '.join(of)}, at {', '.join(points)}: {'; '.join(texts)}")
    seeds = max((len(each) for each in found.cells.values()), default=0)
    known = f"Seeds: {seeds} of 3. Nothing is known of a decoder, and of these cells of the plan:"
    return "\n".join(["### Not run", "", known, "", *listed, ""])
