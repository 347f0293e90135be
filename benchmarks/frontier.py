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
import gc
import sys
import tempfile
import time
from pathlib import Path

from frontier_cells import BUDGETS, FIRST, OF_PARENT, THEN, Asked, Cell, Kept
from frontier_costs import keep_costs
from frontier_models import Models
from frontier_picture import picture
from frontier_quality import Quality
from frontier_report import report
from testbed import DOMAINS, RESULTS, ROOT, put_table


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
    lines = Kept(RESULTS / "frontier.jsonl")
    quality = Quality(Models(lines, args.work, args.models), args.tasks, whole=args.whole)
    if not args.table:
        run(args, lines, quality)
    found = [line for line in lines if line.get("tasks") in (None, quality.name)]
    text = report(found)
    sys.stdout.write(text)
    if args.write:
        put_table("frontier", text)
        (ROOT / "docs" / "frontier.svg").write_text(picture(found), encoding="utf-8")


def run(args: argparse.Namespace, lines: Kept, quality: Quality) -> None:
    """Make and measure what is missing, the most telling cells first."""
    end = time.monotonic() + 60 * args.minutes
    asked = Asked(
        points=[float(each) for each in args.points.split(",")],
        budgets=args.budgets.split(","),
        domains=(args.domain,) if args.domain else DOMAINS,
        seeds=args.seeds,
        arms=frozenset(filter(None, args.only.split(","))) or frozenset((*OF_PARENT, *FIRST, *THEN)),
    )
    models = quality.models
    for parent in args.parents.split(","):
        done = {Cell(*line["cell"]) for line in lines.of("cell", tasks=quality.name)}
        missing = [cell for cell in asked.cells(parent) if cell not in done]
        shapes = models.shapes(parent, asked.points) if missing or not args.only else {}
        for cell in missing:
            if time.monotonic() >= end:
                break
            start = time.process_time()
            line = quality.measured(cell, shapes)
            lines.keep("cell", cell=cell, tasks=quality.name, **line)
            sys.stderr.write(f"{', '.join(map(str, cell))}: {line['means']} in {time.process_time() - start:.0f} s\n")
            gc.collect()
        if not args.only:
            keep_costs(parent, asked.domains[0], asked.points, shapes, models, lines)
            quality.keep_differences(parent, lines)


if __name__ == "__main__":
    main()
