"""One dial on the test bed: a measured speed, a domain, and what is left of the quality; and what each stage is worth.

    python benchmarks/shrink.py [--models minilm,mpnet] [--domains finance] [--speedups 3] [--seeds 1] [--tokens 1M]
        [--ablation] [--tasks NAME,...] [--mpnet FOLDER] [--minutes M] [--table] [--write]

A cell is made by the functions that `gaprune shrink` calls: the domain's calibration file is its data, so texts are
those of the triplets; then pruning for the speed as measured here in torch, distillation of --tokens tokens, and the
fine-tuning on labels. It is pruned in one round, and in three in the cell "in rounds". It is judged on the retrieval
tasks of its domain, alone and in the parent's index, and on the general ones; nothing is chosen on these. Ablations
leave one stage out; those of training start from the same pruned model, which lies in --work. Every finished cell is a
line of benchmarks/results/shrink.jsonl, and a run continues where another stopped; --minutes begins no cell after so
long. "parent + labels" is the control: the parent with the fine-tuning alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import gaprune
from gaprune.config.data import DataReading
from gaprune.config.removal import Target
from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.evaluation.quality.evaluate import evaluate
from gaprune.evaluation.quality.scores import Evaluation
from gaprune.evaluation.quality.search import SearchTask
from gaprune.models.demo import demo_model
from gaprune.models.load import load_model
from gaprune.pipelines.domain_data import DomainData, prepare_domain
from gaprune.pipelines.meet_target import Met, meet_target
from gaprune.report.markdown import markdown_table
from recovery import entry
from testbed import DOMAINS, RESULTS, Lines, for_encoding, machine, put_table, testbed

WHOLE, CONTROL = "all stages", "parent + labels"
ABLATIONS = ("without reconstruction", "without distillation", "without labels", "pruned only")
ROUNDS = "in rounds"
MAX_LENGTH = 64
TRIPLETS, FITTED = 512, 256
"""Triplets to measure on and to reconstruct with: what `gaprune shrink` takes where there is time."""

Cell = tuple[str, str, float, str, int, int]
"""Model, domain, speedup, what is left out, tokens, seed."""


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="minilm")
    parser.add_argument("--domains", default=",".join(DOMAINS))
    parser.add_argument("--speedups", default="3")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=1_000_000, help="tokens of distillation")
    parser.add_argument("--steps", type=int, default=100, help="steps on labels")
    parser.add_argument("--ablation", action="store_true", help="each stage left out, too")
    parser.add_argument("--tasks", help="names of the tasks to judge on, separated by commas; default: all retrieval")
    parser.add_argument("--mpnet", type=Path, help="folder of all-mpnet-base-v2")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no cell after so long")
    parser.add_argument("--table", action="store_true", help="run nothing, show what is there")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "gaprune-shrink")
    args = parser.parse_args()
    lines = Lines(RESULTS / "shrink.jsonl")
    done = {key(line): line for line in lines}
    end = time.monotonic() + 60 * args.minutes
    for cell in () if args.table else cells(args):
        if cell not in done and time.monotonic() < end:
            done[cell] = judged(cell, args)
            lines.add(done[cell])
            sys.stderr.write(f"{cell}: {done[cell]['scores']}\n")
    text = table(list(done.values()))
    sys.stdout.write(text)
    if args.write:
        put_table("shrink", text)


def cells(args: argparse.Namespace) -> Iterator[Cell]:
    """Yield every cell in the order it is run: one seed of everything before the next."""
    speedups = [float(each) for each in args.speedups.split(",")]
    for seed, model, domain in product(range(args.seeds), args.models.split(","), args.domains.split(",")):
        for speedup, left_out in product(speedups, (WHOLE, *((ROUNDS, *ABLATIONS) if args.ablation else ()))):
            yield model, domain, speedup, left_out, args.tokens, seed
        yield model, domain, 1.0, CONTROL, 0, seed


def judged(cell: Cell, args: argparse.Namespace) -> dict[str, Any]:
    """Return the line of a cell: how it was made, and its scores beside the parent's."""
    model, domain, *_ = cell
    start = time.process_time()
    folder, met = made(cell, args)
    line: dict[str, Any] = {"cell": cell, "steps": args.steps, "tasks": args.tasks, "machine": machine()}
    line["processor_seconds"] = round(time.process_time() - start, 1)
    if met is not None:
        line |= {"parameters": _parameters(folder), "met": met.model_dump(mode="json")}
    parent = parents_evaluation(parent_of(model, args), domain, args.tasks)
    found = evaluation(folder, domain, args.tasks, parent)
    line["scores"] = {kind: (found.mean(kind), found.parent_mean(kind)) for kind in found.domains}
    index = found.parent_index(domain)
    line["in_index"] = None if index is None else index.value
    return line


def made(cell: Cell, args: argparse.Namespace) -> tuple[Path, Met | None]:
    """Return the folder of the model of a cell, and how its target was met."""
    model, domain, speedup, left_out, tokens, seed = cell
    parent, bed = parent_of(model, args), testbed() / "calibration"
    data_folder = args.work / f"data {domain} {seed}"
    if not data_folder.exists():
        data_folder.mkdir(parents=True)
        general = str(bed / "general.jsonl")
        file = str(bed / f"{domain}.jsonl")
        prepare_domain(data_folder, file, general, held_out=0.1, seed=seed, reading=DataReading())
    data = DomainData.read(data_folder)
    start, met = parent, None
    if left_out != CONTROL:
        reconstruct = left_out != ABLATIONS[0]
        rounds = {ROUNDS: 3}.get(left_out, 1)
        kind = f" in {rounds} rounds" if rounds > 1 else "" if reconstruct else " bare"
        folder = args.work / f"{model} {domain} {speedup:g} {seed}{kind}"
        if not (folder / "met.json").exists():
            folder.mkdir(exist_ok=True)
            options = {"domain": data.domain, "general": data.general, "triplets": TRIPLETS, "seed": seed}
            options |= {"rounds": rounds, "reconstruction_triplets": FITTED} if reconstruct else {"reconstruct": False}
            target = Target("speedup", speedup)
            meet_target(load_model(parent, device="cpu"), target, folder, runtime="torch", options=options)
        start, met = folder / "model", Met.read(folder)
    if left_out == ABLATIONS[-1]:
        return start, met
    options = {"general": data.general, "seed": seed, "max_length": MAX_LENGTH, "device": "cpu", "parent": parent}
    options |= {} if left_out in (ABLATIONS[1], CONTROL) else {"texts": data.texts, "tokens": tokens}
    options |= {} if left_out == ABLATIONS[2] else {"domain": data.domain, "steps": args.steps}
    if "texts" not in options:
        del options["parent"]
    out = args.work / " ".join(map(str, cell))
    gaprune.recover(start, out=out, overwrite=True, resume=Path(f"{out}.checkpoints").exists(), **options)
    return out, met


def parent_of(model: str, args: argparse.Namespace) -> Path:
    """Return the folder of a parent."""
    if model == "minilm":
        return Path(demo_model())
    if args.mpnet is None:
        raise SystemExit("Name the folder of all-mpnet-base-v2: --mpnet FOLDER.")
    return Path(args.mpnet)


@cache
def parents_evaluation(folder: Path, domain: str, names: str | None) -> Evaluation:
    """Return the scores of a parent, which are computed once for all of its children."""
    return evaluation(folder, domain, names)


def evaluation(folder: Path, domain: str, names: str | None, parent: Evaluation | None = None) -> Evaluation:
    """Return the scores of a folder in the retrieval tasks of a domain and in general ones."""
    model = load_model(folder, device="cpu", max_length=MAX_LENGTH)
    chosen = None if names is None else names.split(",")
    tasks = [
        task
        for task in find_tasks(testbed() / "evaluation")
        if task.domain in (domain, "general") and isinstance(task, SearchTask) and (not chosen or task.name in chosen)
    ]
    return evaluate(for_encoding(model), tasks, parent=parent, keep_vectors=parent is None)


def key(line: dict[str, Any]) -> Cell:
    """Return what makes a cell the one it is."""
    model, domain, speedup, left_out, tokens, seed = line["cell"]
    return model, domain, speedup, left_out, tokens, seed


def _parameters(folder: Path) -> int:
    return sum(weight.numel() for weight in load_model(folder, device="cpu").parameters())


def table(lines: list[dict[str, Any]]) -> str:
    """Return the Markdown: means over tasks and seeds, and changes against the untrained parent."""
    rows = []
    for cell in dict.fromkeys(key(line)[:5] for line in lines):
        found = [line for line in lines if key(line)[:5] == cell]
        model, domain, speedup, left_out, tokens = cell
        speeds = [_speed(line["met"]) for line in found if "met" in line]
        read = 0 if left_out in (ABLATIONS[1], ABLATIONS[-1]) else tokens
        row = [model, domain, f"{speedup:g}", left_out, f"{read:,}", str(len(found))]
        row.append(f"{fmean(speeds):.2f}" if speeds else "")
        for kind in (domain, "general"):
            scores = [line["scores"][kind] for line in found if kind in line["scores"]]
            row.append(entry([mine for mine, _ in scores], scores[0][1]) if scores else "")
        indexed = [line["in_index"] for line in found if line["in_index"] is not None]
        rows.append([*row, entry(indexed, found[0]["scores"][domain][1]) if indexed else ""])
    header = ["parent", "domain", "speedup asked", "stages", "tokens", "seeds", "measured", "domain nDCG@10"]
    return markdown_table([*header, "general nDCG@10", "in the parent's index"], rows) + "\n"


def _speed(met: dict[str, Any]) -> float:
    return Met.model_validate(met).speed.speedup


if __name__ == "__main__":
    main()
