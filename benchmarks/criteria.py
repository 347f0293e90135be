"""All criteria on the test bed: all-MiniLM-L6-v2, finance and chemistry, 512 triplets a side.

    python benchmarks/criteria.py [--seeds 3] [--write]

Every finished cell is kept in benchmarks/results/criteria.jsonl, and a run goes on where another stopped. The table
goes to stdout, and with --write into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import copy
import sys
from statistics import fmean, stdev
from typing import Any

import torch
from sentence_transformers import SentenceTransformer

from gaprune.anatomy import Matrix, matrices, select
from gaprune.calibration import Needs
from gaprune.config import Recipe
from gaprune.criteria import create
from gaprune.data import Triplets, read_triplets
from gaprune.demo import demo_model
from gaprune.evaluation import Task, evaluate, find_tasks
from gaprune.models import load_model, resolve_prompts
from gaprune.report import markdown_table
from gaprune.scores import score
from gaprune.signals import Signals, measure
from gaprune.surgery import apply
from testbed import RESULTS, Lines, machine, put_table, testbed

CRITERIA = (
    "random", "magnitude", "fisher-general", "fisher", "taylor", "obd", "wanda", "sparsegpt", "dai-paper", "dai",
)  # fmt: skip
SEEDED = ("dai", "wanda", "sparsegpt")
TASKS = {"finance": ("TATQA", "FinanceTerms"), "chemistry": ("ChemMethods", "MethodSynonyms")}
TARGETS = ("mlp", "all")
SPARSITIES = (0.5, 0.65)
RECIPE = Recipe(triplets=512, max_length=128)


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="calibration samples for dai, wanda and sparsegpt")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    args = parser.parse_args()
    lines = Lines(RESULTS / "criteria.jsonl")
    done = {key(cell): cell for cell in lines if cell["constants"] == constants(cell["criterion"])}
    for seed in range(args.seeds):
        run_seed(seed, done, lines)
    text = table(list(done.values()))
    sys.stdout.write(text)
    if args.write:
        put_table("criteria", text)


def key(cell: dict[str, Any]) -> tuple[Any, ...]:
    """Return what makes a cell the one it is."""
    return cell["domain"], cell["criterion"], cell["targets"], cell["sparsity"], cell["seed"]


def constants(name: str) -> dict[str, Any]:
    """Return the constants of a criterion; cells made with others are made again."""
    return {} if name == "dense" else create(name).model_dump()


def run_seed(seed: int, done: dict[tuple[Any, ...], dict[str, Any]], lines: Lines) -> None:
    """Measure one calibration sample of each domain and evaluate every cell that is missing."""
    names = CRITERIA if seed == 0 else SEEDED
    general: Signals | None = None
    for domain, task_names in TASKS.items():
        wanted = [(domain, name, target, s, seed) for name in names for target in TARGETS for s in SPARSITIES]
        missing = [cell for cell in wanted if cell not in done]
        dense_key = (domain, "dense", "", 0.0, 0)
        if not missing and dense_key in done:
            continue
        model = load_model(demo_model(), max_length=RECIPE.max_length)
        tasks = [task for task in find_tasks(testbed() / "evaluation" / domain) if task.name in task_names]
        if dense_key not in done:
            keep(done, lines, dense_key, quality(model, tasks))
        everything = select(matrices(model), ["all"])
        needs = Needs.of(create(name) for name in names)
        domain_signals = signals(model, everything, domain, needs.domain, seed)
        if needs.general and general is None:
            general = signals(model, everything, "general", needs.general, seed)
        for cell in missing:
            _, name, target, sparsity, _ = cell
            chosen = select(matrices(model), [target])
            scores = score(chosen, create(name), name, domain=domain_signals, general=general, seed=seed)
            pruning = scores.decide({m.name: m.module.weight.detach() for m in chosen}, sparsity=sparsity)
            keep(done, lines, cell, quality(apply(model, pruning), tasks))


def signals(
    model: SentenceTransformer, chosen: list[Matrix], kind: str, quantities: frozenset[Any], seed: int
) -> Signals:
    """Measure one kind of calibration data of the test bed."""
    triplets: Triplets = read_triplets(testbed() / "calibration" / f"{kind}.jsonl").take(RECIPE.triplets, seed=seed)
    options = RECIPE.model_copy(update={"seed": seed})
    prompts = resolve_prompts(model)
    return measure(model, triplets, chosen, quantities=quantities, prompts=prompts, options=options, label=kind)


def quality(model: SentenceTransformer, tasks: list[Task]) -> dict[str, float]:
    """Return the score of every task, encoded in bfloat16 (the dense model too)."""
    found = evaluate(copy.deepcopy(model).to(torch.bfloat16), tasks)
    return {score.task: score.value for score in found.scores}


def keep(
    done: dict[tuple[Any, ...], dict[str, Any]], lines: Lines, cell: tuple[Any, ...], found: dict[str, float]
) -> None:
    """Remember a finished cell."""
    domain, criterion, targets, sparsity, seed = cell
    line = {
        "domain": domain, "criterion": criterion, "targets": targets, "sparsity": sparsity, "seed": seed,
        "constants": constants(criterion),
        "scores": found, "mean": fmean(found.values()), "machine": machine(),
    }  # fmt: skip
    lines.add(line)
    done[cell] = line
    sys.stderr.write(f"{cell}: {line['mean']:.4f}\n")


def table(cells: list[dict[str, Any]]) -> str:
    """Return the Markdown: a block for each domain, a row a criterion."""
    parts = []
    for domain, tasks in TASKS.items():
        here = [cell for cell in cells if cell["domain"] == domain]
        dense = next(cell["mean"] for cell in here if cell["criterion"] == "dense")
        header = ["criterion", *(f"{target} {sparsity:g}" for target in TARGETS for sparsity in SPARSITIES)]
        rows = []
        for name in CRITERIA:
            row = [name]
            for target in TARGETS:
                for sparsity in SPARSITIES:
                    means = [
                        cell["mean"]
                        for cell in here
                        if (cell["criterion"], cell["targets"], cell["sparsity"]) == (name, target, sparsity)
                    ]
                    row.append(entry(means, dense))
            rows.append(row)
        parts.append(
            f"### {domain}: mean of {' and '.join(tasks)}, dense {dense:.4f}\n\n{markdown_table(header, rows)}"
        )
    return "\n".join(parts)


def entry(means: list[float], dense: float) -> str:
    """Return mean, spread over seeds where there are several, and the change against the dense model."""
    if not means:
        return "not run"
    spread = f" ± {stdev(means):.4f}" if len(means) > 1 else ""
    return f"{fmean(means):.4f}{spread} ({fmean(means) / dense - 1:+.1%})"


if __name__ == "__main__":
    main()
