"""What the models of benchmarks/frontier.py are worth: their scores, and intervals of the differences."""

from __future__ import annotations

import hashlib
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

import frontier_arms as arms
from frontier_cells import OF_PARENT, RIVALS, UNTRAINED, Cell, Kept
from frontier_models import Models, Shapes, shape_of
from frontier_tasks import chosen_tasks
from gaprune.evaluation.quality.bootstrap import paired_bootstrap
from gaprune.evaluation.quality.evaluate import evaluate
from gaprune.evaluation.quality.scores import Evaluation, Score
from gaprune.evaluation.quality.task import Task
from gaprune.models.exported_module import open_model
from testbed import for_encoding, testbed


class Quality:
    """Judges cells on tasks; what single queries gave is kept in the work folder for the intervals.

    Args:
        models: The models.
        tasks: Folder with a folder of tasks for each domain and for general ones; ``None`` for the test bed.
        whole: Whether on whole tasks instead of a fixed part of each.
    """

    def __init__(self, models: Models, tasks: Path | None, *, whole: bool) -> None:
        self.models, self.folder, self.whole = models, tasks, whole
        self.name = f"{tasks.name if tasks else 'testbed'}, {'whole' if whole else 'part'}"
        self._tasks: dict[str, list[Task]] = {}
        self._parents: dict[tuple[str, str], Evaluation] = {}

    def measured(self, cell: Cell, shapes: Shapes) -> dict[str, Any]:
        """Return the quality of a cell."""
        model, seconds = self.models.made(cell, shapes)
        if cell.form == "int8":
            model = open_model(self.models.exported(cell, model), max_length=arms.MAX_LENGTH)
        found = self._judged(cell, model)
        index = found.parent_index(cell.domain)
        np.savez(self._items(cell), **{f"{x.domain}/{x.task}": x.items for x in found.scores if x.items is not None})
        return {
            "shape": None if cell.arm in OF_PARENT else arms.as_dict(shape_of(cell, shapes)),
            "minutes": seconds / 60,
            "scores": {
                kind: {x.task: {"value": x.value, **x.details} for x in found.scores if x.domain == kind}
                for kind in (cell.domain, "general")
            },
            "means": {kind: round(found.mean(kind), 4) for kind in (cell.domain, "general")},
            "index": None if index is None or index.value is None else index.model_dump(mode="json"),
        }

    def keep_differences(self, parent: str, lines: Kept) -> None:
        """Compute the interval of F against the best of what else there is, and against G, H and I."""
        rows = {Cell(*line["cell"]): line for line in lines.of("cell", tasks=self.name)}
        cells = {cell: line for cell, line in rows.items() if cell.parent == parent}
        for cell, group in product([each for each in cells if each.arm == "F"], RIVALS):
            rivals = [each for each in cells if each.arm in group and cell.is_beside(each)]
            if not rivals:
                continue
            best = max(rivals, key=lambda other: cells[other]["means"][cell.domain])
            known = lines.of("difference", tasks=self.name, cell=list(cell), against=group, best=list(best))
            if known or not (self._items(cell).exists() and self._items(best).exists()):
                continue
            tasks = [task for task in self._tasks_of(cell.domain) if task.domain == cell.domain]
            mine, its = (self._evaluation(each, cells[each], tasks) for each in (cell, best))
            found = paired_bootstrap(tasks, [mine], its)
            lines.keep("difference", tasks=self.name, cell=cell, against=group, best=best, **found.model_dump())

    def _judged(self, cell: Cell, model: SentenceTransformer) -> Evaluation:
        """Return the scores of a model beside its parent's."""
        key, tasks = (cell.parent, cell.domain), self._tasks_of(cell.domain)
        if key not in self._parents:
            dense = for_encoding(self.models.parent(cell.parent))
            self._parents[key] = evaluate(dense, tasks, label="Parent", keep_vectors=True)
        if (cell.arm, cell.budget) == ("A", UNTRAINED):
            return self._parents[key]
        encodes = model if cell.arm == "J" or cell.form == "int8" else for_encoding(model)
        return evaluate(encodes, tasks, parent=self._parents[key])

    def _tasks_of(self, domain: str) -> list[Task]:
        """Return the tasks of a domain and the general ones."""
        if domain not in self._tasks:
            self._tasks[domain] = chosen_tasks(self.folder or testbed() / "evaluation", domain, whole=self.whole)
        return self._tasks[domain]

    def _items(self, cell: Cell) -> Path:
        """Return the file of what single queries gave."""
        key = hashlib.sha256(json.dumps([*cell, self.name]).encode()).hexdigest()[:20]
        path = self.models.work / "items" / f"{key}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _evaluation(self, cell: Cell, line: dict[str, Any], tasks: list[Task]) -> Evaluation:
        """Return the scores of a cell in the tasks of its domain as they were, from its line and its file."""
        items = np.load(self._items(cell))
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
