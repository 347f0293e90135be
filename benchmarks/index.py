"""A child's queries in its parent's index, on the test bed: all-MiniLM-L6-v2, finance and chemistry.

    python benchmarks/index.py [--seeds 3] [--minutes M] [--untrained] [--table] [--write]

A cell is a model without half of its FFN neurons, or also without two of six layers, before and after 100 steps of
recovery in both modes, on the retrieval tasks of its domain: by itself, and with its queries against the passages of
its parent. Pruning and recovery are those of benchmarks/recovery.py, pruned models included (--work). Every finished
cell is in benchmarks/results/index.jsonl, and a run continues where another stopped; --minutes begins no cell after so
long.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.evaluation.quality.evaluate import evaluate
from gaprune.evaluation.quality.scores import Evaluation
from gaprune.evaluation.quality.search import SearchTask
from gaprune.models.demo import demo_model
from gaprune.models.load import load_model
from gaprune.report.markdown import markdown_table
from recovery import ALIGNED, CONTRASTIVE, MAX_LENGTH, PLAIN, entry, pruned, recovered, told
from testbed import DOMAINS, RESULTS, Lines, for_encoding, machine, put_table, testbed

PRUNINGS = ("width 0.5", "width 0.5, depth -2")
RECOVERIES = (PLAIN, ALIGNED, CONTRASTIVE)

Cell = tuple[str, str, str, int]


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="samples of the triplets")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no cell after so long")
    parser.add_argument("--untrained", action="store_true", help="no recovery")
    parser.add_argument("--table", action="store_true", help="run nothing, show what is there")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "gaprune-recovery")
    args = parser.parse_args()
    lines = Lines(RESULTS / "index.jsonl")
    done = {key(line): line for line in lines if line["options"] == told(line["recovery"])}
    if not args.table:
        run(args, lines, done)
    found = {domain: [line for line in done.values() if line["domain"] == domain] for domain in DOMAINS}
    text = "\n".join(table(each, domain) for domain, each in found.items() if each)
    sys.stdout.write(text)
    if args.write:
        put_table("index", text)


def cells(seeds: int, recoveries: tuple[str, ...]) -> Iterator[Cell]:
    """Yield every cell in the order it is run: one seed of everything before the next."""
    for seed, recovery, pruning, domain in product(range(seeds), recoveries, PRUNINGS, DOMAINS):
        yield domain, pruning, recovery, seed


def run(args: argparse.Namespace, lines: Lines, done: dict[Cell, dict[str, Any]]) -> None:
    """Make and evaluate every model that is missing."""
    end = time.monotonic() + 60 * args.minutes
    parents: dict[str, Evaluation] = {}
    for cell in cells(args.seeds, (PLAIN,) if args.untrained else RECOVERIES):
        if cell in done or time.monotonic() >= end:
            continue
        domain, pruning, recovery, seed = cell
        model, training = recovered(pruned(args.work, domain, pruning, seed), domain, recovery, seed)
        if domain not in parents:
            parents[domain] = scores(load_model(demo_model(), device="cpu"), domain)
        found = scores(model, domain, parents[domain])
        line = {
            "domain": domain, "pruning": pruning, "recovery": recovery, "seed": seed, "options": told(recovery),
            "training": training, "machine": machine(), **found.as_dict(),
        }  # fmt: skip
        lines.add(line)
        done[cell] = line
        index = line["parent_index"]
        sys.stderr.write(f"{cell}: {index['value'] / index['parent']:.4f} of the parent in its index\n")


def key(line: dict[str, Any]) -> Cell:
    """Return what makes a cell the one it is."""
    return line["domain"], line["pruning"], line["recovery"], line["seed"]


def scores(model: Any, domain: str, parent: Evaluation | None = None) -> Evaluation:
    """Return the scores in the retrieval tasks of a domain, with the embeddings if there is no parent."""
    model.max_seq_length = MAX_LENGTH
    tasks = [task for task in find_tasks(testbed() / "evaluation" / domain) if isinstance(task, SearchTask)]
    return evaluate(for_encoding(model), tasks, parent=parent, keep_vectors=parent is None)


def table(lines: list[dict[str, Any]], domain: str) -> str:
    """Return the Markdown of a domain: changes are against the parent, means over tasks and seeds."""
    rows = []
    for pruning, recovery in product(PRUNINGS, RECOVERIES):
        found = [line["parent_index"] for line in lines if key(line)[1:3] == (pruning, recovery)]
        if found:
            parent = found[0]["parent"]
            values = [entry([each[name] for each in found], parent) for name in ("alone", "value")]
            means = [f"{fmean(each[name] for each in found):.3f}" for name in ("query_cosine", "passage_cosine")]
            overlap = f"{fmean(each['overlap'] for each in found):.1%}"
            rows.append([pruning, recovery, str(len(found)), *values, *means, overlap])
    header = ["pruning", "recovery", "seeds", "alone", "in the parent's index", "cosine of queries", "of passages"]
    parents = {line["parent_index"]["parent"] for line in lines}
    dense = f", parent {next(iter(parents)):.4f}" if parents else ""
    return f"### {domain}: nDCG@10{dense}\n\n{markdown_table([*header, 'common top 10'], rows)}"


if __name__ == "__main__":
    main()
