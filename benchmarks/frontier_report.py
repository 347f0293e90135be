"""Tables, claims and the picture of benchmarks/frontier.py, from its lines alone."""

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
        "other dimensions" if kept is None else f"{kept:.1%}",
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
    other: Key = (key[0], key[1], rival, 0.0 if rival == "C" else key[3], key[4], key[5])
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
    other: Key = (key[0], key[1], "B", 0.0, key[4], "int8")
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


# Picture

COLOURS = {
    "A": "#8a8a8a", "B": "#d08a1d", "C": "#8d6bd1", "D": "#d4574e", "E": "#c0549a", "F": "#2f8fd8", "G": "#6aa84f",
    "H": "#4fa8a0", "I": "#8fae3a", "J": "#a0765b",
}  # fmt: skip
STYLE = """<style>
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.small { font-size: 10.5px } .bold { font-weight: 600 }
.grid { stroke: #8a8a8a; stroke-opacity: .35 } .axis { stroke: #8a8a8a }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } }
</style>"""
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420, 300, 52, 12, 34, 40
SPEEDS = (1, 1.5, 2, 3, 4, 6, 8, 12, 20)


def picture(lines: list[dict[str, Any]], budget: str = "100 steps") -> str:
    """Return an SVG: a panel for each parent and domain, speed against quality in per cent of the parent's."""
    found = Found.of(lines)
    panels = groups(found)
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    legend = 22 * -(-len(NAMES) // 4) + 16
    width, height = WIDTH * columns, HEIGHT * rows + legend
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
        "<title>Speed and quality of pruned models and of what could be taken instead</title>",
        STYLE,
    ]
    for place, (parent, domain) in enumerate(panels):
        body = "\n".join(panel(found, parent, domain, budget))
        x, y = WIDTH * (place % columns), HEIGHT * (place // columns)
        parts.append(f'<g transform="translate({x} {y})">\n{body}\n</g>')
    parts += legend_of(width, HEIGHT * rows + 8)
    return "\n".join([*parts, "</svg>\n"])


def panel(found: Found, parent: str, domain: str, budget: str) -> Iterator[str]:
    """Yield the elements of one panel."""
    from math import log

    points = []
    for key in found.cells:
        cost, quality = found.cost(key), found.relative(key, domain) if key[:2] == (parent, domain) else None
        if cost is not None and quality is not None and key[4] in (budget, "0"):
            points.append((cost["latency"], 100 * quality, key))
    trained = [each for each in points if each[2][4] == budget or each[2][2] == "A"]
    points = trained if len(trained) > 1 else points
    low = 5 * (min((each[1] for each in points), default=90) // 5)
    low, high = max(low, 40), 5 * (max((each[1] for each in points), default=100) // 5 + 1)
    most = max((each[0] for each in points), default=4) * 1.15

    def at(speed: float, quality: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * log(speed / 0.9) / log(most / 0.9)
        return x, TOP + (HEIGHT - TOP - BOTTOM) * (high - max(quality, low)) / (high - low)

    yield f'<text class="bold" x="{LEFT}" y="18">{parent}, {domain}, {budget}</text>'
    for speed in (each for each in SPEEDS if each <= most):
        x, y = at(speed, low)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{y:.1f}"/>'
        yield f'<text class="small" text-anchor="middle" x="{x:.1f}" y="{y + 14:.1f}">{speed:g}</text>'
    step = 5 if high - low <= 30 else 10
    for quality in range(int(low), int(high) + 1, step):
        _, y = at(1, quality)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="small" text-anchor="end" x="{LEFT - 6}" y="{y + 4:.1f}">{quality}</text>'
    yield (
        f'<text class="small" text-anchor="middle" x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 8}">'
        "times as fast as the parent (one text of 32 tokens, one thread)</text>"
    )
    yield (
        f'<text class="small" transform="translate(14 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">'
        "% of the parent's quality</text>"
    )
    for speed, quality, key in sorted(points, key=lambda each: each[2][2] == "F"):
        x, y = at(speed, quality)
        yield mark(key[2], x, y, int8=key[5] == "int8")


def mark(arm: str, x: float, y: float, *, int8: bool) -> str:
    """Return the mark of an arm: a disc in fp32, a square in int8, with its letter beside it."""
    colour = COLOURS[arm]
    size = 6 if arm == "F" else 4.5
    shape = (
        f'<rect x="{x - size:.1f}" y="{y - size:.1f}" width="{2 * size}" height="{2 * size}" fill="{colour}"/>'
        if int8
        else f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" fill="{colour}"/>'
    )
    return f'{shape}<text class="small" x="{x + size + 2:.1f}" y="{y + 4:.1f}">{arm}</text>'


def legend_of(width: int, top: int) -> Iterator[str]:
    """Yield the names of the arms, and of the two forms."""
    for place, (arm, name) in enumerate(NAMES.items()):
        x, y = 20 + width / 4 * (place % 4), top + 10 + 22 * (place // 4)
        yield mark(arm, x, y, int8=arm == "B") + f'<text class="small" x="{x + 22:.1f}" y="{y + 4:.1f}">{name}</text>'
    x, y = 20 + width / 4 * 2, top + 10 + 22 * (len(NAMES) // 4)
    yield f'<text class="small" x="{x:.1f}" y="{y + 4:.1f}">disc: fp32 in PyTorch; square: int8 in ONNX Runtime</text>'
