"""The models of the cells of benchmarks/frontier.py, each made once and kept in the work folder."""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer

import frontier_arms as arms
import gaprune
from frontier_arms import Shape
from frontier_cells import BUDGETS, UNTRAINED, WITHOUT_LABELS, Cell, Kept
from gaprune.models.load import load_model

Shapes = dict[tuple[str, float], Shape]
"""Shapes by arm and cost point: that of D and E, and that of F to I."""


class Models:
    """Makes models, and finds those that were made.

    Args:
        lines: Shapes and learning rates that were chosen.
        work: Folder of what is made.
        others: Folder of the genuine models other than all-MiniLM-L6-v2.
    """

    def __init__(self, lines: Kept, work: Path, others: Path | None) -> None:
        self.lines, self.work, self.others = lines, work, others
        self._parent: tuple[str, SentenceTransformer] | None = None

    def parent(self, name: str) -> SentenceTransformer:
        """Return the parent; the last one is kept."""
        if self._parent is None or self._parent[0] != name:
            self._parent = name, arms.opened(arms.place(name, self.others))
        return self._parent[1]

    def shapes(self, parent: str, points: list[float]) -> Shapes:
        """Return the shapes at every cost point; measured and chosen once."""
        known = self.lines.of("shape", parent=parent)
        found = {(line["arm"], line["point"]): Shape(**line["shape"]) for line in known}
        missing = [point for point in points if ("F", point) not in found]
        if missing:
            latency = arms.latency_model(self.parent(parent))
            top = arms.whole(self.parent(parent))
            for point in missing:
                candidates = arms.shapes_at(point, latency, top)
                losses: dict[Shape, float] = {}
                for shape in candidates[:2]:
                    child, seconds = timed(arms.made, "F", self.parent(parent), shape, "finance", 0)
                    losses[shape] = arms.held_out_loss(child, "finance")
                    if losses[shape] == min(losses.values()):
                        self._keep(Cell(parent, "finance", "F", point, UNTRAINED, 0, "fp32"), child, seconds)
                tried = [{**arms.as_dict(shape), "loss": loss} for shape, loss in losses.items()]
                for arm, shape in (("F", min(losses, key=losses.__getitem__)), ("D", candidates[0])):
                    found[arm, point], said = shape, arms.as_dict(shape)
                    self.lines.keep("shape", parent=parent, arm=arm, point=point, shape=said, tried=tried)
        return found

    def made(self, cell: Cell, shapes: Shapes) -> tuple[SentenceTransformer, float]:
        """Return the model of a cell in fp32, and the seconds that it took in all."""
        folder = self._folder(cell)
        if (folder / "seconds.json").exists():
            seconds = float(json.loads((folder / "seconds.json").read_text(encoding="utf-8")))
            model = load_model(folder, device="cpu")
            arms.limit(model, arms.MAX_LENGTH)
            return model, seconds
        if cell.arm == "B":
            cell = cell._replace(arm="A", form="fp32")
        if cell.budget != UNTRAINED:
            return self._trained(cell, shapes)
        if cell.arm == "A":
            return self.parent(cell.parent), 0.0
        if cell.arm == "C":
            return arms.opened(arms.place("all-MiniLM-L6-v2", None)), 0.0
        if cell.arm == "J":
            model, seconds = timed(arms.static, arms.place(cell.parent, self.others))
        else:
            shape = shape_of(cell, shapes)
            model, seconds = timed(arms.made, cell.arm, self.parent(cell.parent), shape, cell.domain, cell.seed)
        self._keep(cell, model, seconds)
        return model, seconds

    def exported(self, cell: Cell, model: SentenceTransformer) -> Path:
        """Return the folder of the int8 export of a cell's model for ONNX Runtime, made once."""
        folder = self._folder(cell)
        out = folder.with_name(f"{folder.name}-int8")
        if not out.exists():
            if not folder.exists():
                arms.save(model, folder)
            gaprune.export_model(folder, to="onnx", int8=True, out=out, force=True)
        return out

    def _trained(self, cell: Cell, shapes: Shapes) -> tuple[SentenceTransformer, float]:
        """Return a trained model, and the seconds that it took in all; trying learning rates does not count."""
        start, before = self.made(cell._replace(budget=UNTRAINED, form="fp32"), shapes)
        arms.limit(start, arms.MAX_LENGTH)
        inputs: tuple[Any, ...] = (start, self.parent(cell.parent), cell.domain, cell.seed, BUDGETS[cell.budget])
        inputs += (None, 0) if cell.budget in WITHOUT_LABELS else (self._rate(cell, start),)
        (model, _), seconds = timed(arms.trained, cell.arm, *inputs)
        self._keep(cell, model, before + seconds)
        return model, before + seconds

    def _rate(self, cell: Cell, model: SentenceTransformer) -> float:
        """Return the learning rate of an arm: the best of three on held-out triplets, tried on its first model."""
        group = "F" if cell.arm in arms.PRUNED else cell.arm
        for line in self.lines.of("rate", parent=cell.parent, budget=cell.budget, arm=group):
            return float(line["rate"])
        parent, losses = self.parent(cell.parent), {}
        for rate in arms.RATES.get(group, arms.USUAL_RATES):
            own = copy.deepcopy(model)
            _, losses[rate] = arms.trained(cell.arm, own, parent, cell.domain, cell.seed, 0, rate, arms.TRIAL)
        rate = min(losses, key=losses.__getitem__)
        tried = sorted(losses.items())
        self.lines.keep("rate", parent=cell.parent, arm=group, budget=cell.budget, rate=rate, tried=tried)
        return rate

    def _folder(self, cell: Cell) -> Path:
        """Return where the model of a cell is kept, in both forms."""
        named = cell._replace(arm="A" if cell.arm == "B" else cell.arm)[:6]
        return self.work / "models" / "-".join(map(str, named)).replace(" ", "_")

    def _keep(self, cell: Cell, model: SentenceTransformer, seconds: float) -> None:
        """Write a model with the seconds that it took."""
        arms.save(model, self._folder(cell))
        (self._folder(cell) / "seconds.json").write_text(json.dumps(seconds), encoding="utf-8")


def shape_of(cell: Cell, shapes: Shapes) -> Shape:
    """Return the shape of a pruned model, or of one whose layers were dropped."""
    return shapes["D" if cell.arm in ("D", "E") else "F", cell.point]


def timed(made: Any, *inputs: Any) -> tuple[Any, float]:
    """Return what a function returns, and the processor seconds that it took."""
    start = time.process_time()
    found = made(*inputs)
    return found, time.process_time() - start
