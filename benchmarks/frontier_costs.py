"""What the models of benchmarks/frontier.py cost beside their parent."""

from __future__ import annotations

from itertools import product

import frontier_arms as arms
import gaprune
from frontier_cells import FIRST, UNTRAINED, Cell, Kept
from frontier_models import Models, Shapes
from gaprune.models.encoders import Encoder, TorchModel


def keep_costs(parent: str, domain: str, points: list[float], shapes: Shapes, models: Models, lines: Kept) -> None:
    """Measure what every new shape costs beside the parent, all in one process, in fp32 and in int8."""
    missing = missing_costs(parent, points, lines)
    if not missing:
        return
    opened: dict[tuple[str, float, str], Encoder] = {}
    for arm, point in dict.fromkeys([("A", 0.0), *missing]):
        cell = Cell(parent, domain, arm, point, UNTRAINED, 0, "fp32")
        opened |= {(arm, point, form): each for form, each in encoders(cell, shapes, models).items()}
    order = [*list(opened)[1:], ("A", 0.0, "fp32")]  # texts are made for the last model
    single = arms.timings([opened[each] for each in order], rounds=25)
    batch = arms.timings([opened[each] for each in order], rounds=3, batch=(32, 128))
    base, base_batch = single[-1].median, batch[-1].median
    for (arm, point, form), one, many in zip(order, single, batch, strict=True):
        if (arm, point) not in missing:
            continue
        lines.keep(
            "cost", parent=parent, arm=arm, point=point, form=form, latency=base / one.median,
            throughput=base_batch / many.median, milliseconds=1000 * one.median,
            texts_per_second=many.texts_per_second, quartiles=[1000 * each for each in one.quartiles],
        )  # fmt: skip
    models.parent(parent).max_seq_length = arms.MAX_LENGTH


def missing_costs(parent: str, points: list[float], lines: Kept) -> list[tuple[str, float]]:
    """Return arms and cost points that have cells of a parent, and no cost."""
    wanted = [("A", 0.0), *(("C", 0.0),) * (parent != "all-MiniLM-L6-v2"), ("J", 0.0)]
    finished = {tuple(line["cell"][2:4]) for line in lines.of("cell") if line["cell"][0] == parent}
    wanted += [each for each in product(FIRST, points) if each in finished]
    return [each for each in wanted if not lines.of("cost", parent=parent, arm=each[0], point=each[1])]


def encoders(cell: Cell, shapes: Shapes, models: Models) -> dict[str, Encoder]:
    """Return the model of a cell in each of its forms; texts may be long."""
    model, _ = models.made(cell, shapes)
    found: dict[str, Encoder] = {"fp32": (arms.StaticModel if cell.arm == "J" else TorchModel)(model)}
    if cell.arm != "J":
        found["int8"] = gaprune.ExportedModel(models.exported(cell, model), threads=1)
    for encoder in found.values():
        encoder.max_length = arms.LONG
        if isinstance(encoder, TorchModel):
            arms.limit(encoder.model, arms.LONG)
    return found
