"""The result of a benchmark: the cost of a model beside its parent, as rows, ratios and plain data."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from gaprune.evaluation.cost.footprint import Flops
from gaprune.evaluation.cost.latency import Timing
from gaprune.evaluation.cost.memory import Memory
from gaprune.models.formats import Format

_MB = 1e6

_THROUGHPUT = "throughput"
"""Beginning of the names of measures that say the same as a latency."""


@dataclass(frozen=True)
class Cost:
    """The cost of one model.

    Args:
        name: Its folder's name.
        format: Its runtime.
        parameters: Parameters of the whole model.
        zeros: Fraction of zeros in its linear layers; ``None`` if its runtime does not show them.
        flops: Floating-point operations, as a formula of the length.
        disk: Bytes of its folder.
        memory: Memory of a process with this model alone; ``None`` if it was not measured.
        timings: By length and batch size.
    """

    name: str
    format: Format
    parameters: int
    zeros: float | None
    flops: Flops
    disk: int
    memory: Memory | None
    timings: tuple[Timing, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "name": self.name,
            "format": self.format,
            "parameters": self.parameters,
            "zeros_of_linear_layers": self.zeros,
            "flops": self.flops.as_dict(),
            "flops_per_token": {str(length): self.flops.per_token(length) for length in self._lengths},
            "disk_bytes": self.disk,
            "memory_bytes": None if self.memory is None else self.memory.as_dict(),
            "timings": [timing.as_dict() for timing in self.timings],
        }

    @property
    def _lengths(self) -> list[int]:
        return list(dict.fromkeys(timing.length for timing in self.timings))

    def measures(self) -> dict[str, tuple[float, str, bool]]:
        """Return value, text and whether more is better, by name of the measure."""
        found: dict[str, tuple[float, str, bool]] = {
            "parameters": (self.parameters, f"{self.parameters:,}", False),
            "bytes on disk": (self.disk, f"{self.disk / _MB:.1f} MB", False),
        }
        for length in self._lengths:
            flops = self.flops.per_token(length)
            found[f"FLOPs per token, text of {length}"] = (flops, f"{flops / 1e6:,.3f} M", False)
        if self.memory is not None:
            for name, value in (
                ("resident memory", self.memory.resident),
                ("proportional memory (PSS)", self.memory.proportional),
                ("peak memory", self.memory.peak),
            ):
                found[name] = (value, f"{value / _MB:.0f} MB", False)
        for timing in self.timings:
            cell = _workload(timing)
            first, third = (1000 * each for each in timing.quartiles)
            text = f"{1000 * timing.median:.2f} ms ({first:.2f} to {third:.2f})"
            if timing.batch_size > 1:
                text += f", {timing.texts_per_second:,.1f} texts/s"
            found[f"latency, {cell}"] = (timing.median, text, False)
            found[f"{_THROUGHPUT}, {cell}"] = (
                timing.texts_per_second,
                f"{timing.texts_per_second:,.1f} texts/s",
                True,
            )
        return found


class Row(NamedTuple):
    """One measure of both models, as text; the ratio says how many times better the model is than its parent."""

    measure: str
    model: str
    parent: str | None = None
    ratio: float | None = None


def _workload(timing: Timing) -> str:
    return f"batch {timing.batch_size}, {timing.length} tokens"


def _said(row: Row, same: Collection[str]) -> str:
    """Return the ratio of a measure in words."""
    if row.measure.partition(", ")[2] in same:
        return "no difference: quartiles overlap"
    ratio = row.ratio or 1.0
    return f"{ratio:.2f} x better" if ratio >= 1 else f"{1 / ratio:.2f} x worse"


@dataclass(frozen=True)
class Benchmark:
    """The cost of a model beside its parent's.

    Args:
        model: The model.
        parent: The model that it is compared with.
        settings: What the numbers depend on: workload, threads, device, processor, versions.
    """

    model: Cost
    parent: Cost | None
    settings: Mapping[str, Any]

    def rows(self) -> list[Row]:
        """Return every measure."""
        if self.parent is None:
            return [Row(name, text) for name, (_, text, _) in self.model.measures().items()]
        rows, beside = [], self.parent.measures()
        for name, (mine, text, more_is_better) in self.model.measures().items():
            if name in beside:
                its, its_text, _ = beside[name]
                rows.append(Row(name, text, its_text, mine / its if more_is_better else its / mine))
            else:
                rows.append(Row(name, text))
        return rows

    @property
    def ratios(self) -> dict[str, float]:
        """How many times better the model is than its parent, by measure; empty without a parent."""
        return {row.measure: row.ratio for row in self.rows() if row.ratio is not None}

    def header(self) -> list[str]:
        """Return the table's header."""
        names = [f"{cost.name} ({cost.format})" for cost in (self.model, self.parent) if cost is not None]
        return ["", *names, *(("better or worse",) if self.parent is not None else ())]

    def cells(self) -> list[list[str]]:
        """Return the table's cells as text; texts per second stand beside the time that they follow from."""
        same = self._indistinct()
        return [
            [row.measure, row.model, *(() if row.ratio is None else (str(row.parent), _said(row, same)))]
            for row in self.rows()
            if not row.measure.startswith(_THROUGHPUT)
        ]

    def _indistinct(self) -> set[str]:
        """Return the workloads of which the quartile ranges of both models overlap."""
        found = set()
        for mine, its in zip(self.model.timings, self.parent.timings if self.parent else (), strict=False):
            (first, third), (its_first, its_third) = mine.quartiles, its.quartiles
            if first <= its_third and its_first <= third:
                found.add(_workload(mine))
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data for JSON."""
        return {
            "settings": dict(self.settings),
            "model": self.model.as_dict(),
            "parent": None if self.parent is None else self.parent.as_dict(),
            "ratios": self.ratios,
        }
