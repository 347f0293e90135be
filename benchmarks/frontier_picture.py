"""The picture of benchmarks/frontier.py: speed against quality, readable on light and on dark pages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import log
from typing import Any

from frontier_report import NAMES, Found, Key, groups

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


BUDGETS = {"0": "without training", "1M tokens": "distilled, no labels", "100 steps": "after 100 steps"}


@dataclass(frozen=True)
class Point:
    """A cell in a panel; it is hollow if it was not trained where the others were."""

    speed: float
    quality: float
    key: Key
    hollow: bool


def picture(lines: list[dict[str, Any]]) -> str:
    """Return an SVG: a row for each budget, a panel for each parent and domain in which something was trained so."""
    found = Found.of(lines)
    budgets = [each for each in BUDGETS if any(key[4] == each for key in found.cells)]
    of, legend = groups(found), 22 * (len(NAMES) // 4 + 1) + 20
    width, height = WIDTH * max(2, len(of)), HEIGHT * len(budgets) + legend
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
        "<title>Speed and quality of pruned models and of what could be taken instead</title>",
        STYLE,
    ]
    for (row, budget), (column, group) in product(enumerate(budgets), enumerate(of)):
        points = points_of(found, group, budget)
        if all(each.hollow for each in points):
            continue
        body = "\n".join(panel(points, f"{', '.join(group)}, {BUDGETS[budget]}"))
        parts.append(f'<g transform="translate({WIDTH * column} {HEIGHT * row})">\n{body}\n</g>')
    shown = [arm for arm in NAMES if any(key[2] == arm for key in found.cells)]
    parts += legend_of(shown, width, HEIGHT * len(budgets) + 12)
    return "\n".join([*parts, "</svg>\n"])


def points_of(found: Found, group: tuple[str, str], budget: str) -> list[Point]:
    """Return the cells of a panel that have a cost, GAPrune last; what was not trained is there for A, B, C and J."""
    points = []
    for key in (each for each in found.cells if each[:2] == group):
        trained = (*key[:4], budget, key[5])
        hollow = key[4] != budget and key[2] in "ABCJ" and key[4] == "0" and trained not in found.cells
        cost, quality = found.cost(key), found.relative(key, group[1])
        if cost is not None and quality is not None and (key[4] == budget or hollow):
            points.append(Point(cost["latency"], 100 * quality, key, hollow))
    return sorted(points, key=lambda each: each.key[2] == "F")


def panel(points: list[Point], title: str) -> Iterator[str]:
    """Yield the elements of one panel."""
    qualities, speeds = [each.quality for each in points] or [100], [each.speed for each in points] or [1]
    low, high = 5 * (min(qualities) // 5), 5 * (max(qualities) // 5 + 1)
    most = max(speeds) * 1.2

    def at(speed: float, quality: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * log(speed / 0.9) / log(most / 0.9)
        return x, TOP + (HEIGHT - TOP - BOTTOM) * (high - quality) / (high - low)

    yield f'<text class="bold" x="{LEFT}" y="18">{title}</text>'
    for speed in (each for each in SPEEDS if each <= most):
        x, y = at(speed, low)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{y:.1f}"/>'
        yield f'<text class="small" text-anchor="middle" x="{x:.1f}" y="{y + 14:.1f}">{speed:g}</text>'
    for quality in range(int(low), int(high) + 1, 5 if high - low <= 30 else 10):
        _, y = at(1, quality)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="small" text-anchor="end" x="{LEFT - 6}" y="{y + 4:.1f}">{quality}</text>'
    yield (
        f'<text class="small" text-anchor="middle" x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 10}">'
        "times as fast as the parent (one text of 32 tokens, one thread)</text>"
    )
    yield (
        f'<text class="small" transform="translate(14 {(HEIGHT - BOTTOM + TOP) / 2}) rotate(-90)" '
        'text-anchor="middle">% of the parent\'s quality</text>'
    )
    for each in points:
        yield mark(each.key[2], *at(each.speed, each.quality), int8=each.key[5] == "int8", hollow=each.hollow)


def mark(arm: str, x: float, y: float, *, int8: bool = False, hollow: bool = False) -> str:
    """Return the mark of an arm: a disc in fp32, a square in int8, with its letter beside it."""
    size = 6 if arm == "F" else 4.5
    paint = f'fill="{"none" if hollow else COLOURS[arm]}" stroke="{COLOURS[arm]}" stroke-width="1.5"'
    shape = (
        f'<rect x="{x - size:.1f}" y="{y - size:.1f}" width="{2 * size}" height="{2 * size}" {paint}/>'
        if int8
        else f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" {paint}/>'
    )
    return f'{shape}<text class="small" x="{x + size + 3:.1f}" y="{y + 4:.1f}">{arm}</text>'


def legend_of(shown: list[str], width: int, top: int) -> Iterator[str]:
    """Yield the names of the arms, and what the marks mean."""
    for place, arm in enumerate(shown):
        x, y, name = 20 + width / 4 * (place % 4), top + 10 + 22 * (place // 4), NAMES[arm]
        yield mark(arm, x, y, int8=arm == "B") + f'<text class="small" x="{x + 22:.1f}" y="{y + 4:.1f}">{name}</text>'
    x, y = 20 + width / 2, top + 14 + 22 * 2
    text = "square: int8, ONNX Runtime; disc: PyTorch; hollow: untrained"
    yield f'<text class="small" x="{x:.1f}" y="{y:.1f}">{text}</text>'
