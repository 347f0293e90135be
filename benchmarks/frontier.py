"""What a pruned model is worth beside what people would take instead: equal cost, equal data, equal training.

    python benchmarks/frontier.py [--parents NAME,NAME] [--points 2,3] [--budgets "0,100 steps"] [--seeds 1]
        [--domain finance] [--tasks FOLDER] [--models FOLDER] [--whole] [--minutes M] [--only F,D] [--table] [--write]

Arms: A the parent; B the parent in int8; C a smaller model off the shelf; D every second layer kept; E the parent's
first layers with a linear head that is fitted to its embeddings (distilled on vectors alone); F GAPrune; G random
units with its reconstruction; H calibrated on general text alone; I calibrated on the other domain; J static
embeddings by model2vec. Cost points are measured latencies: one text of 32 tokens on one thread, beside the parent.

Every finished cell, cost and interval is a line of benchmarks/results/frontier.jsonl, and a run continues where
another stopped. What single queries gave lies in --work, for the intervals. --write puts tables and claims into
docs/benchmarks.md and draws docs/frontier.svg. Nothing is chosen on tasks: shapes and learning rates are chosen on
held-out calibration triplets of finance.
"""

from __future__ import annotations

import argparse
import copy
import gc
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

import frontier_arms as arms
import gaprune
from frontier_arms import Shape
from frontier_picture import picture
from frontier_report import report
from frontier_tasks import chosen_tasks
from gaprune.evaluation.quality.bootstrap import paired_bootstrap
from gaprune.evaluation.quality.evaluate import evaluate
from gaprune.evaluation.quality.scores import Evaluation, Score
from gaprune.evaluation.quality.task import Task
from gaprune.models.encoders import Encoder, TorchModel
from gaprune.models.exported_module import open_model
from gaprune.models.load import load_model
from testbed import DOMAINS, RESULTS, ROOT, Lines, for_encoding, machine, put_table, testbed

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
Cell = tuple[str, str, str, float, str, int, str]
"""Parent, domain, arm, cost point (0 for arms with a cost of their own), budget, seed, form."""


def main() -> None:
    """Run what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parents", default="all-MiniLM-L6-v2", help="comma-separated")
    parser.add_argument("--points", default="2,3", help="how many times faster, comma-separated")
    parser.add_argument("--budgets", default="0,100 steps", help=f"comma-separated, of: {', '.join(BUDGETS)}")
    parser.add_argument("--domain", choices=DOMAINS, help="this domain alone")
    parser.add_argument("--only", default="", help="these arms alone, comma-separated; no costs, no intervals")
    parser.add_argument("--seeds", type=int, default=1, help="samples of the triplets")
    parser.add_argument(
        "--tasks", type=Path, help="folder with a folder of tasks for each domain and for general ones"
    )
    parser.add_argument("--models", type=Path, help="folder of the genuine models other than all-MiniLM-L6-v2")
    parser.add_argument("--whole", action="store_true", help="whole tasks instead of a fixed part of each")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no cell after so long")
    parser.add_argument("--table", action="store_true", help="run nothing, show what is there")
    parser.add_argument(
        "--write", action="store_true", help="put tables into docs/benchmarks.md, and draw the picture"
    )
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "gaprune-frontier")
    args = parser.parse_args()
    lines = Lines(RESULTS / "frontier.jsonl")
    if not args.table:
        Frontier(args, lines).run()
    found = [line for line in lines if line.get("tasks") in (None, tasks_name(args))]
    text = report(found)
    sys.stdout.write(text)
    if args.write:
        put_table("frontier", text)
        (ROOT / "docs" / "frontier.svg").write_text(picture(found), encoding="utf-8")


def tasks_name(args: argparse.Namespace) -> str:
    """Return what the tasks are called in the lines."""
    return f"{args.tasks.name if args.tasks else 'testbed'}, {'whole' if args.whole else 'part'}"


class Frontier:
    """A run: what is made is kept in its work folder, what is measured in the lines."""

    def __init__(self, args: argparse.Namespace, lines: Lines) -> None:
        self.args, self.lines = args, lines
        self.end = time.monotonic() + 60 * args.minutes
        self.points = [float(each) for each in args.points.split(",")]
        self.budgets = args.budgets.split(",")
        self.domains = (args.domain,) if args.domain else DOMAINS
        self.tasks_of: dict[str, list[Task]] = {}
        self.parents: dict[str, Evaluation] = {}
        self.parent: tuple[str, SentenceTransformer] | None = None

    def run(self) -> None:
        """Make and measure what is missing, the most telling cells first."""
        for parent in self.args.parents.split(","):
            done = {tuple(line["cell"]) for line in self.of("cell") if line["tasks"] == tasks_name(self.args)}
            missing = [cell for cell in self.cells(parent) if cell not in done]
            shapes = self.shapes(parent) if missing else {}
            for cell in missing:
                if time.monotonic() >= self.end:
                    break
                start = time.process_time()
                line = self.measured(cell, shapes)
                self.add("cell", cell=cell, tasks=tasks_name(self.args), **line)
                sys.stderr.write(f"{cell}: {line['means']} in {time.process_time() - start:.0f} s\n")
                gc.collect()
            if not self.args.only:
                self.costs(parent, shapes or self.shapes(parent))
                self.differences(parent)

    def of(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        """Return the lines of a kind with these fields."""
        return [x for x in self.lines if x["kind"] == kind and all(x.get(name) == v for name, v in fields.items())]

    def add(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Keep a line, and return it as it will be read."""
        self.lines.add({"kind": kind, **fields, "machine": machine()})
        return json.loads(json.dumps(fields))

    def cells(self, parent: str) -> Iterator[Cell]:
        """Yield the cells of a parent in the order they are run."""
        only = set(filter(None, self.args.only.split(","))) or {*OF_PARENT, *FIRST, *THEN}
        for seed in range(self.args.seeds):
            if seed == 0:
                yield from self.of_parent(parent, only, ("0",), 0)
            for point, some in product(self.points, (FIRST, THEN)):
                for domain, arm, budget in product(self.domains, some, self.budgets):
                    if arm in only:
                        yield parent, domain, arm, point, budget, seed, "fp32"
                        if arm in INT8:
                            yield parent, domain, arm, point, budget, seed, "int8"
                if (point, some) == (self.points[0], FIRST):
                    yield from self.of_parent(parent, only, [x for x in self.budgets if x != UNTRAINED], seed)

    def of_parent(self, parent: str, only: set[str], budgets: Sequence[str], seed: int) -> Iterator[Cell]:
        """Yield cells that have one cost: the parent itself in both forms, a smaller model, and static embeddings."""
        for domain, budget, arm in product(self.domains, budgets, OF_PARENT):
            no_smaller = arm == "C" and parent == "all-MiniLM-L6-v2"
            not_made = BUDGETS[budget] and (arm == "J" or budget in WITHOUT_LABELS)  # J would need a loss of its own
            if arm in only and budget in self.budgets and not (no_smaller or not_made):
                yield parent, domain, arm, 0.0, budget, seed, "int8" if arm == "B" else "fp32"

    def shapes(self, parent: str) -> dict[tuple[str, float], Shape]:
        """Return the shape of D and E, and that of F to I, at every cost point; measured and chosen once."""
        found = {(line["arm"], line["point"]): Shape(**line["shape"]) for line in self.of("shape", parent=parent)}
        missing = [point for point in self.points if ("F", point) not in found]
        if missing:
            latency = arms.latency_model(self.model(parent))
            top = arms.whole(self.model(parent))
            for point in missing:
                candidates = arms.shapes_at(point, latency, top)
                losses = {}
                for shape in candidates[:2]:
                    name = (parent, "finance", "F", point, UNTRAINED, 0, "fp32")
                    child, seconds = timed(arms.made, "F", self.model(parent), shape, "finance", 0)
                    losses[shape] = arms.held_out_loss(child, "finance")
                    if losses[shape] == min(losses.values()):
                        self.keep(name, child, seconds)
                chosen = {"F": min(losses, key=losses.__getitem__), "D": candidates[0]}
                tried = [{**arms.as_dict(shape), "loss": loss} for shape, loss in losses.items()]
                for arm, shape in chosen.items():
                    self.add("shape", parent=parent, arm=arm, point=point, shape=arms.as_dict(shape), tried=tried)
                    found[arm, point] = shape
        return found

    def model(self, parent: str) -> SentenceTransformer:
        """Return the parent; the last one is kept."""
        if self.parent is None or self.parent[0] != parent:
            self.parent = parent, arms.opened(arms.place(parent, self.args.models))
        return self.parent[1]

    # Making models

    def folder(self, cell: Cell) -> Path:
        """Return where the model of a cell is kept."""
        parent, domain, arm, *rest = cell[:6]
        named = (parent, domain, "A" if arm == "B" else arm, *rest)
        return self.args.work / "models" / "-".join(map(str, named)).replace(" ", "_")

    def keep(self, cell: Cell, model: SentenceTransformer, seconds: float) -> None:
        """Write a model with the seconds that it took."""
        arms.save(model, self.folder(cell))
        (self.folder(cell) / "seconds.json").write_text(json.dumps(seconds), encoding="utf-8")

    def made(self, cell: Cell, shapes: dict[tuple[str, float], Shape]) -> tuple[SentenceTransformer, float]:
        """Return the model of a cell in fp32, and the seconds that it took in all."""
        parent, domain, arm, point, budget, seed, _ = cell
        folder = self.folder(cell)
        if (folder / "seconds.json").exists():
            seconds = float(json.loads((folder / "seconds.json").read_text(encoding="utf-8")))
            model = load_model(folder, device="cpu")
            arms.limit(model, arms.MAX_LENGTH)
            return model, seconds
        if arm in ("A", "B"):
            arm, cell = "A", (parent, domain, "A", point, budget, seed, "fp32")
        if budget != UNTRAINED:
            return self.trained(cell, shapes)
        if arm == "A":
            return self.model(parent), 0.0
        if arm == "C":
            return arms.opened(arms.place("all-MiniLM-L6-v2", None)), 0.0
        if arm == "J":
            model, seconds = timed(arms.static, arms.place(parent, self.args.models))
        else:
            shape = shapes["D" if arm == "E" else "F" if arm in arms.PRUNED else arm, point]
            model, seconds = timed(arms.made, arm, self.model(parent), shape, domain, seed)
        self.keep(cell, model, seconds)
        return model, seconds

    def trained(self, cell: Cell, shapes: dict[tuple[str, float], Shape]) -> tuple[SentenceTransformer, float]:
        """Return a trained model, and the seconds that it took in all; trying learning rates does not count."""
        parent, domain, arm, point, budget, seed, _ = cell
        start, before = self.made((parent, domain, arm, point, UNTRAINED, seed, "fp32"), shapes)
        arms.limit(start, arms.MAX_LENGTH)
        inputs: tuple[Any, ...] = (start, self.model(parent), domain, seed, BUDGETS[budget])
        inputs += (None, 0) if budget in WITHOUT_LABELS else (self.rate(cell, start),)
        (model, _), seconds = timed(arms.trained, arm, *inputs)
        self.keep(cell, model, before + seconds)
        return model, before + seconds

    def rate(self, cell: Cell, model: SentenceTransformer) -> float:
        """Return the learning rate of an arm: the best of three on held-out triplets, tried on its first model."""
        parent, domain, arm, _, budget, seed, _ = cell
        group = "F" if arm in arms.PRUNED else arm
        for line in self.of("rate", parent=parent, budget=budget, arm=group):
            return float(line["rate"])
        losses = {}
        for rate in arms.RATES.get(group, arms.USUAL_RATES):
            own = copy.deepcopy(model)
            _, losses[rate] = arms.trained(arm, own, self.model(parent), domain, seed, 0, rate, arms.TRIAL)
        rate = min(losses, key=losses.__getitem__)
        self.add("rate", parent=parent, arm=group, budget=budget, rate=rate, tried=sorted(losses.items()))
        return rate

    # Measuring them

    def measured(self, cell: Cell, shapes: dict[tuple[str, float], Shape]) -> dict[str, Any]:
        """Return the quality of a cell; what its single queries gave is kept for the intervals."""
        _, domain, arm, point, *_, form = cell
        model, seconds = self.made(cell, shapes)
        found = self.judged(cell, self.as_form(cell, model) if form == "int8" else model)
        index = found.parent_index(domain)
        shape = None if arm in OF_PARENT else shapes["D" if arm in ("D", "E") else "F", point]
        np.savez(self.items(cell), **{f"{x.domain}/{x.task}": x.items for x in found.scores if x.items is not None})
        return {
            "shape": None if shape is None else arms.as_dict(shape),
            "minutes": seconds / 60,
            "scores": {
                kind: {x.task: {"value": x.value, **x.details} for x in found.scores if x.domain == kind}
                for kind in (domain, "general")
            },
            "means": {kind: round(found.mean(kind), 4) for kind in (domain, "general")},
            "index": None if index is None or index.value is None else index.model_dump(mode="json"),
        }

    def judged(self, cell: Cell, model: SentenceTransformer) -> Evaluation:
        """Return the scores of a model beside its parent's."""
        parent, domain, arm, _, budget, _, form = cell
        name, tasks = f"{parent} {domain}", self.tasks(domain)
        if name not in self.parents:
            dense = evaluate(for_encoding(self.model(parent)), tasks, label="Parent", keep_vectors=True)
            self.parents[name] = dense
        if (arm, budget) == ("A", UNTRAINED):
            return self.parents[name]
        encodes = model if arm == "J" or form == "int8" else for_encoding(model)
        return evaluate(encodes, tasks, parent=self.parents[name])

    def as_form(self, cell: Cell, model: SentenceTransformer) -> SentenceTransformer:
        """Return the int8 export of a model."""
        return open_model(self.exported(self.folder(cell), model), max_length=arms.MAX_LENGTH)

    @staticmethod
    def exported(folder: Path, model: SentenceTransformer) -> Path:
        """Return the folder of a model's int8 export for ONNX Runtime, made once."""
        out = folder.with_name(f"{folder.name}-int8")
        if not out.exists():
            if not folder.exists():
                arms.save(model, folder)
            gaprune.export_model(folder, to="onnx", int8=True, out=out, force=True)
        return out

    def items(self, cell: Cell) -> Path:
        """Return the file of what single queries gave."""
        key = hashlib.sha256(json.dumps([*cell, tasks_name(self.args)]).encode()).hexdigest()[:20]
        path = self.args.work / "items" / f"{key}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def costs(self, parent: str, shapes: dict[tuple[str, float], Shape]) -> None:
        """Measure what every new shape costs beside the parent, all in one process, in fp32 and in int8."""
        wanted = [("A", 0.0), *(("C", 0.0),) * (parent != "all-MiniLM-L6-v2"), ("J", 0.0)]
        finished = {tuple(line["cell"][2:4]) for line in self.of("cell") if line["cell"][0] == parent}
        wanted += [each for each in product(FIRST, self.points) if each in finished]
        missing = [each for each in wanted if not self.of("cost", parent=parent, arm=each[0], point=each[1])]
        if not missing:
            return
        domain, opened = self.domains[0], {}
        for arm, point in dict.fromkeys([("A", 0.0), *missing]):
            cell = (parent, domain, arm, point, UNTRAINED, 0, "fp32")
            model, _ = self.made(cell, shapes)
            forms: dict[str, Encoder] = {"fp32": (arms.StaticModel if arm == "J" else TorchModel)(model)}
            if arm != "J":
                forms["int8"] = gaprune.ExportedModel(self.exported(self.folder(cell), model), threads=1)
            for form, encoder in forms.items():
                encoder.max_length = arms.LONG
                if isinstance(encoder, TorchModel):
                    arms.limit(encoder.model, arms.LONG)
                opened[arm, point, form] = encoder
        order = [*list(opened)[1:], ("A", 0.0, "fp32")]  # texts are made for the last model
        single = arms.timings([opened[each] for each in order], rounds=25)
        batch = arms.timings([opened[each] for each in order], rounds=3, batch=(32, 128))
        base, base_batch = single[-1].median, batch[-1].median
        for (arm, point, form), one, many in zip(order, single, batch, strict=True):
            if (arm, point) not in missing:
                continue
            self.add(
                "cost", parent=parent, arm=arm, point=point, form=form, latency=base / one.median,
                throughput=base_batch / many.median, milliseconds=1000 * one.median,
                texts_per_second=many.texts_per_second, quartiles=[1000 * each for each in one.quartiles],
            )  # fmt: skip
        self.model(parent).max_seq_length = arms.MAX_LENGTH

    # Intervals

    def differences(self, parent: str) -> None:
        """Compute the interval of F against the best of what else there is, and against G, H and I."""
        name = tasks_name(self.args)
        cells = {tuple(line["cell"]): line for line in self.of("cell", tasks=name) if line["cell"][0] == parent}
        for cell, group in product([each for each in cells if each[2] == "F"], RIVALS):
            rivals = [each for each in cells if each[2] in group and are_beside(cell, each)]
            if not rivals:
                continue
            best = max(rivals, key=lambda other: cells[other]["means"][cell[1]])
            known = self.of("difference", tasks=name, cell=list(cell), against=group, best=list(best))
            if known or not (self.items(cell).exists() and self.items(best).exists()):
                continue
            tasks = [task for task in self.tasks(cell[1]) if task.domain == cell[1]]
            mine, its = (self.evaluation(each, cells[each], tasks) for each in (cell, best))
            found = paired_bootstrap(tasks, [mine], its)
            self.add("difference", tasks=name, cell=cell, against=group, best=best, **found.model_dump())

    def tasks(self, domain: str) -> list[Task]:
        """Return the tasks of a domain and the general ones."""
        if domain not in self.tasks_of:
            folder = self.args.tasks or testbed() / "evaluation"
            self.tasks_of[domain] = chosen_tasks(folder, domain, whole=self.args.whole)
        return self.tasks_of[domain]

    def evaluation(self, cell: Cell, line: dict[str, Any], tasks: list[Task]) -> Evaluation:
        """Return the scores of a cell in the tasks of its domain as they were, from its line and its file."""
        items = np.load(self.items(cell))
        return Evaluation(
            tuple(
                Score(
                    task=task.name,
                    domain=task.domain,
                    kind=task.kind,
                    metric=task.metric,
                    seconds=0.0,
                    value=line["scores"][task.domain][task.name]["value"],
                    fingerprint=task.fingerprint,
                    items=items[f"{task.domain}/{task.name}"],
                )
                for task in tasks
            )
        )


def are_beside(cell: Cell, other: Cell) -> bool:
    """Return whether two cells have the same domain, cost point, budget and seed, and form where both have two."""
    same_form = other[6] == cell[6] or other[2] in OF_PARENT
    budget = UNTRAINED if cell[4] in WITHOUT_LABELS and other[2] in OF_PARENT else cell[4]
    return other[1] == cell[1] and other[3] in (0.0, cell[3]) and other[4:6] == (budget, cell[5]) and same_form


def timed(made: Any, *inputs: Any) -> tuple[Any, float]:
    """Return what a function returns, and the processor seconds that it took."""
    start = time.process_time()
    found = made(*inputs)
    return found, time.process_time() - start


if __name__ == "__main__":
    main()
