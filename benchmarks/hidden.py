"""Hidden dimensions on the test bed: all-MiniLM-L6-v2 from 384 to 320 and 256, finance and general triplets.

    python benchmarks/hidden.py [--table] [--write] [--tasks] [--kept FILE]

By every criterion the degradation on held-out triplets, 200 a side after the cut and 80 after reconstruction: increase
of the loss, and distance of the embeddings. With `--tasks`, the scores of two small tasks (for reporting only) and the
processor time of encoding, both beside the parent's. Every finished cell is kept in benchmarks/results/hidden.jsonl.
`--kept` keeps the statistics of the parent, which take minutes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from sentence_transformers import SentenceTransformer

from gaprune.config.recipe import Recipe
from gaprune.criteria.base import for_units, needs_of
from gaprune.criteria.needs import Needs
from gaprune.criteria.registry import create
from gaprune.data.read import read_triplets
from gaprune.data.triplets import Triplets
from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.evaluation.quality.evaluate import evaluate
from gaprune.models.demo import demo_model
from gaprune.models.encode import encode
from gaprune.models.linear_layers import linear_layers
from gaprune.models.load import load_model
from gaprune.models.prompts import Prompts
from gaprune.pruning.calibration import Calibration
from gaprune.pruning.measure import measure_both
from gaprune.pruning.removable.hidden import Hidden
from gaprune.pruning.unit_importance import unit_importances
from gaprune.reconstruction import reconstruct
from gaprune.reconstruction.reconstruct import Start, reconstructed_copy
from gaprune.report.markdown import markdown_table
from gaprune.statistics.degradation import ReferenceOutputs
from testbed import RESULTS, Lines, for_encoding, machine, put_table, testbed

SIZES = (320, 256)
CRITERIA = {
    "random": "random",
    "magnitude": "magnitude",
    "activation": "activation-mix",
    "dai": "dai",
}
SAMPLE, MEASURED, FITTED, MAX_LENGTH = 512, 256, 64, 64
HELD_OUT = {False: 200, True: 80}
"""Triplets of each kind to judge on, by whether a model is reconstructed."""
TASKS = {"finance": ("FinanceTerms",), "general": ("ImageCaptionsSTS",)}


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into docs/science.md")
    parser.add_argument("--table", action="store_true", help="run nothing, show what is there")
    parser.add_argument("--tasks", action="store_true", help="measure quality and time of reconstructed models too")
    parser.add_argument("--kept", type=Path, help="file of the parent's statistics, made if it is not there")
    args = parser.parse_args()
    lines = Lines(RESULTS / "hidden.jsonl")
    done = {tuple(line["cell"]): line for line in lines}
    if not args.table:
        run(done, lines, args.kept, with_tasks=args.tasks)
    text = table(done)
    sys.stdout.write(text)
    if args.write:
        put_table("hidden", text, page="science.md")


def cells() -> list[tuple[int, str, str]]:
    """Return every cell: dimensions, criterion, and what follows the cut."""
    found = [(size, criterion, "") for size in SIZES for criterion in CRITERIA]
    norms = (320, "activation", "reconstructed, norms as they are")
    return [*found, *((size, criterion, "reconstructed") for size in SIZES for criterion in list(CRITERIA)[2:]), norms]


def run(done: dict[tuple[Any, ...], dict[str, Any]], lines: Lines, kept: Path | None, *, with_tasks: bool) -> None:
    """Make and judge every model that is missing."""
    missing = [cell for cell in cells() if cell not in done]
    if not missing:
        return
    parent = load_model(demo_model(), max_length=MAX_LENGTH)
    recipe = Recipe.build({"hidden": 0.2})
    removable = Hidden(recipe)
    criteria = {
        name: create(each).for_run({"domain", "general"}, reconstructs=False) for name, each in CRITERIA.items()
    }
    statistics = measured(parent, removable, criteria, recipe, kept)
    judges = {
        reconstructs: [
            ReferenceOutputs(parent, held_out(kind, count), prompts=Prompts(), options=recipe)
            for kind in ("finance", "general")
        ]
        for reconstructs, count in HELD_OUT.items()
    }
    for size, criterion, after in missing:
        ranked = for_units(criteria[criterion], criterion)
        choice = removable.chosen(
            parent, size, unit_importances(removable.groups(parent), ranked, *statistics, seed=0)
        )
        child = removable.cut(parent, choice)
        started = time.process_time()
        if after:
            start = Start(child, (), removable.outputs(parent, choice))
            child = reconstructed(parent, start, recipe, norms="as they are" not in after)
        line: dict[str, Any] = {"cell": (size, criterion, after), "machine": machine()}
        line["seconds"] = round(time.process_time() - started, 1)
        line["degradation"] = [reference.changed(child) for reference in judges[bool(after)]]
        line["parameters"] = sum(weight.numel() for weight in child.parameters())
        if with_tasks and after == "reconstructed":
            line["scores"] = {"parent": quality(parent), "child": quality(child)}
            line["speed"] = processor_time(parent) / processor_time(child)
        lines.add(line)
        done[size, criterion, after] = line
        sys.stderr.write(f"{line['cell']}: {line['degradation']} {line.get('scores')} {line.get('speed')}\n")


def sample(kind: str) -> Triplets:
    """Return the triplets of one kind of data that statistics and reconstruction see."""
    found = read_triplets(testbed() / "calibration" / f"{kind}.jsonl")
    return found.take(SAMPLE, seed=0).take(MEASURED, seed=0)


def held_out(kind: str, count: int) -> Triplets:
    """Return other triplets of the same kind."""
    found, seen = read_triplets(testbed() / "calibration" / f"{kind}.jsonl"), list(sample(kind))
    chosen = found.take(len(found), seed=0)[600 : 600 + count]
    if any(item in seen for item in chosen):
        raise SystemExit(f"Some held-out {kind} triplets were measured: draw others.")
    return chosen


def measured(
    parent: SentenceTransformer, removable: Hidden, criteria: Mapping[str, Any], recipe: Recipe, kept: Path | None
) -> Sequence[Any]:
    """Return what all criteria need of the parent, on both kinds of data."""
    if kept is not None and kept.is_file():
        found: Sequence[Any] = torch.load(kept, weights_only=False)
        return found
    needs = Needs.together(needs_of(each, ("units",)) for each in criteria.values())
    calibration = Calibration(
        *(sample(kind) for kind in ("finance", "general")),
        Prompts(), frozenset({"domain", "general"}), mined=0, own_negatives={"domain": 0, "general": 0},
    )  # fmt: skip
    consumers = [group.consumer for group in removable.groups(parent)]
    both = [dict(each or {}) for each in measure_both(calibration, parent, consumers, needs, recipe, {})]
    if kept is not None:
        torch.save(both, kept)
    return both


def reconstructed(parent: SentenceTransformer, start: Start, recipe: Recipe, *, norms: bool) -> SentenceTransformer:
    """Return the reconstruction from a few texts, with or without the refit of norms."""
    keep = {
        linear.name: torch.ones(linear.module.in_features, dtype=torch.bool)
        for linear in linear_layers(start.model)
        if linear.layer is not None
    }
    fitted = {"domain": sample("finance")[:FITTED], "general": sample("general")[:FITTED]}
    blocks = reconstruct.reconstruct_blocks
    switched = blocks if norms else lambda *args, **options: blocks(*args, **options | {"norms": False})
    with mock.patch.object(reconstruct, "reconstruct_blocks", switched):
        return reconstructed_copy(parent, start, keep, fitted, recipe, prompts=Prompts(), ridge=recipe.ridge[0])


def quality(model: SentenceTransformer) -> dict[str, float]:
    """Return the score of every task."""
    tasks = [
        task
        for kind, names in TASKS.items()
        for task in find_tasks(testbed() / "evaluation" / kind)
        if task.name in names
    ]
    return {score.task: score.value for score in evaluate(for_encoding(model), tasks).scores}


def processor_time(model: SentenceTransformer) -> float:
    """Return the least processor time of three times encoding the held-out finance queries and passages."""
    texts = [text for item in held_out("finance", 32) for text in (item.query, *item.passages)]
    times = []
    for _ in range(3):
        started = time.process_time()
        encode(model, texts, None, None)
        times.append(time.process_time() - started)
    return min(times)


def table(done: Mapping[tuple[Any, ...], dict[str, Any]]) -> str:
    """Return the Markdown of all cells."""
    show = partial("{:.3f} / {:.3f}".format)
    rows = []
    for cell in cells():
        if cell in done:
            line = done[cell]
            scores = line.get("scores")
            told = (
                ""
                if scores is None
                else ", ".join(
                    f"{task} {value:.3f} ({scores['parent'][task]:.3f})" for task, value in scores["child"].items()
                )
            )
            speed = f"{line['speed']:.2f}" if "speed" in line else ""
            degraded = [show(*each) for each in line["degradation"]]
            rows.append([*map(str, cell), f"{line['parameters'] / 1e6:.1f} M", *degraded, told, speed])
    header = [
        "dimensions",
        "criterion",
        "after the cut",
        "parameters",
        "finance",
        "general",
        "tasks (parent)",
        "speed",
    ]
    return markdown_table(header, rows)


if __name__ == "__main__":
    main()
