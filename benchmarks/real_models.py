"""Genuine models: all-MiniLM-L6-v2, all-mpnet-base-v2 and an embedding form of Gemma 3 270M.

    python benchmarks/real_models.py FOLDER [--only ratio] [--triplets 512] [--limit N] [--work FOLDER] [--write]
    python benchmarks/real_models.py --table [--write]

``ratio`` divides the processor time of a whole run, loading excepted, by that of one plain forward and backward in
float32 over the same triplets, with gradients of all weights, in the same process. ``quality`` prunes in one shot and
evaluates on whole tasks; with --work, cells that measure the same of the parent share it. Texts end at 128 tokens.
FOLDER holds ``all-mpnet-base-v2`` and ``gemma-embedding``. Every finished cell is a line of
benchmarks/results/real_models.jsonl, and a run continues where another stopped, the most telling cells first. With
--write the tables go into docs/benchmarks.md, which also name the cells that are missing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import gaprune
from criteria import TASKS, quality, tasks
from gaprune.models.demo import demo_model
from gaprune.models.load import load_model
from gaprune.report.markdown import markdown_table
from measuring import calibration, passes
from testbed import DOMAINS, RESULTS, Lines, machine, put_table, testbed

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

LENGTH = 128
RUNS: dict[str, dict[str, Any]] = {
    "width 0.5, a third of the layers": {"width": 0.5},
    "sparsity 0.5": {"sparsity": 0.5},
}
DEPTHS = {"all-MiniLM-L6-v2": 2, "all-mpnet-base-v2": 4}
GOALS = {"all-MiniLM-L6-v2": 1.5, "all-mpnet-base-v2": 1.0}
SETTINGS: dict[str, dict[str, Any]] = {
    "width 0.5": {"width": 0.5},
    "depth 4": {"depth": 4},
    "width 0.5, depth 4": {"width": 0.5, "depth": 4},
    "all 0.5": {"targets": ("all",), "sparsity": 0.5},
    "all 0.65": {"targets": ("all",), "sparsity": 0.65},
}
OF_UNITS = ("dai + reconstruction", "activation + reconstruction", "activation", "dai", "magnitude", "random")
OF_WEIGHTS = ("dai + reconstruction", "sparsegpt", "wanda", "dai")
FEW = ("width 0.5", "all 0.5")
"""Settings of the decoder."""

Cell = tuple[str, ...]


def main() -> None:
    """Run what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="?", help="folder of the genuine models")
    parser.add_argument("--only", default="", help="cells whose names begin so, such as ratio, or quality/gemma")
    parser.add_argument("--triplets", type=int, default=512, help="triplets of each kind")
    parser.add_argument("--work", type=Path, help="folder in which measurements of the parents are kept")
    parser.add_argument("--limit", type=int, default=sys.maxsize, help="end after so many cells")
    parser.add_argument("--table", action="store_true", help="run nothing, show what is there")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    args = parser.parse_args()
    lines = Lines(RESULTS / "real_models.jsonl")
    done = {(*line["cell"], line["triplets"]): line for line in lines}
    asked = [cell for cell in cells() if "/".join(cell).startswith(args.only) and (*cell, args.triplets) not in done]
    for cell in asked[: 0 if args.table else args.limit]:
        if cell[0] == "ratio":
            found = ratio(cell, args.models, args.triplets)
        else:
            found = scores(cell, args.models, args.triplets, args.work)
        line = {
            "cell": cell,
            "triplets": args.triplets,
            **found,
            "machine": machine(),
        }
        lines.add(line)
        done[(*cell, args.triplets)] = line
        sys.stderr.write(f"{line}\n")
    text = "\n".join([ratio_table(done), *(quality_table(done, *each) for each in product(_models(), DOMAINS))])
    sys.stdout.write(text)
    if args.write:
        put_table("real models", text)


def cells() -> Iterator[Cell]:
    """Yield every cell, the most telling first."""
    yield from (("ratio", model, run) for model, run in product(GOALS, RUNS))
    for model, domain in product(_models(), DOMAINS):
        yield ("quality", model, domain, "dense", "dense")
        settings = FEW if model == "gemma-embedding" else SETTINGS
        for rows in (slice(2), slice(2, None)):  # ours and the strongest baseline first
            for setting in settings:
                yield from (("quality", model, domain, setting, row) for row in _rows(setting)[rows])


def _models() -> tuple[str, ...]:
    return ("all-mpnet-base-v2", "gemma-embedding")


def _rows(setting: str) -> tuple[str, ...]:
    return OF_WEIGHTS if setting.startswith("all") else OF_UNITS


def opened(name: str, folder: Path | None) -> SentenceTransformer:
    """Return a genuine model."""
    if name == "all-MiniLM-L6-v2":
        return load_model(demo_model(), device="cpu", max_length=LENGTH)
    if folder is None:
        raise SystemExit(f"Name the folder that holds {name}: real_models.py FOLDER")
    return load_model(folder / name, device="cpu", max_length=LENGTH)


def ratio(cell: Cell, folder: Path | None, count: int) -> dict[str, Any]:
    """Return the processor seconds of a plain pass over both kinds of triplets and of a whole run."""
    _, name, run = cell
    kinds = {kind: calibration(file, count) for kind, file in (("domain", "finance"), ("general", "general"))}
    model = opened(name, folder)
    start = time.process_time()
    for triplets in kinds.values():
        passes(model, triplets, all_weights=True)
    plain = time.process_time() - start
    model.requires_grad_(requires_grad=False)
    start = time.process_time()
    depth = {"depth": DEPTHS[name]} if "width" in RUNS[run] else {}
    result = gaprune.prune(model, **kinds, recipe=RUNS[run] | depth)
    whole = time.process_time() - start
    return {"plain": plain, "run": whole, "precision": result.recipe.precision}


def scores(cell: Cell, folder: Path | None, count: int, work: Path | None) -> dict[str, Any]:
    """Return the score of every task of the domain, and of general ones; ``work`` keeps measurements of the parent."""
    _, name, domain, setting, row = cell
    model = opened(name, folder)
    report = None
    if setting != "dense":
        criterion = row.removesuffix(" + reconstruction")
        kept = (
            {}
            if work is None
            else {"checkpoint": work / name / domain / criterion / setting.split()[0], "resume": True}
        )
        result = gaprune.prune(
            model,
            domain=testbed() / "calibration" / f"{domain}.jsonl",
            general=testbed() / "calibration" / "general.jsonl",
            criterion=criterion,
            reconstruct=row != criterion,
            recipe={"triplets": count} | SETTINGS[setting] | kept,
        )
        model, report = result.model, result.provenance().as_dict()["method"]["reconstruction"]
    found = {kind: quality(model, tasks(which)) for kind, which in (("domain", domain), ("general", "general"))}
    return {"scores": found, "reconstruct": report}


def ratio_table(done: dict[Any, Any]) -> str:
    """Return the Markdown of all ratios."""
    rows = []
    for model, run in product(GOALS, RUNS):
        found = [(key[-1], line) for key, line in done.items() if key[:3] == ("ratio", model, run)]
        for count, line in found:
            seconds = [f"{line[each]:.0f} s" for each in ("plain", "run")]
            share = line["run"] / line["plain"]
            rows.append([model, run, str(count), line["precision"], *seconds, f"{share:.2f}", f"{GOALS[model]:.1f}"])
        if not found:
            rows.append([model, run, "", "", "", "", "missing", f"{GOALS[model]:.1f}"])
    header = ["model", "run", "triplets of each kind", "precision", "plain pass", "run", "ratio", "goal"]
    return f"### Processor time of a run\n\n{markdown_table(header, rows)}"


def quality_table(done: dict[Any, Any], model: str, domain: str) -> str:
    """Return the Markdown of a model in a domain: means over tasks, with the change against the dense model."""
    start = ("quality", model, domain)
    dense = next((line for key, line in done.items() if key[:4] == (*start, "dense")), None)
    rows, missing = [], []
    order = ["dense", *SETTINGS]
    for _, _, _, setting, row in sorted(
        (each for each in cells() if each[:3] == start), key=lambda e: order.index(e[3])
    ):
        found = [(key[-1], line) for key, line in done.items() if key[:5] == (*start, setting, row)]
        rows += [[setting, row, "" if row == "dense" else str(count), *_means(line, dense)] for count, line in found]
        missing += [] if found else [f"{setting} by {row}"]
    header = ["pruning", "criterion", "triplets of each kind", ", ".join(TASKS[domain]), ", ".join(TASKS["general"])]
    table = markdown_table(header, rows) if rows else ""
    not_run = f"\nNot run: {'; '.join(missing)}.\n" if missing and rows else ""
    return f"### {model}, {domain}\n\n{table or 'Not run.' + chr(10)}{not_run}"


def _means(line: dict[str, Any], dense: dict[str, Any] | None) -> list[str]:
    means = {kind: fmean(found.values()) for kind, found in line["scores"].items()}
    if dense is None or line is dense:
        return [f"{mean:.4f}" for mean in means.values()]
    return [f"{mean:.4f} ({mean / fmean(dense['scores'][kind].values()) - 1:+.1%})" for kind, mean in means.items()]


if __name__ == "__main__":
    main()
