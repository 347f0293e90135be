"""Constants that were chosen on all-MiniLM-L6-v2, tried on larger models: what is lost on triplets nothing else saw.

    python benchmarks/constants.py FOLDER [--model all-mpnet-base-v2] [--only ridge] [--work FOLDER] [--write]
    python benchmarks/constants.py --table [--write]

Half of the FFN neurons, half of all weights, a third of the layers or the mix that a search finds for half of the
parameters of the blocks are removed, with 256 triplets of finance and of general text at 128 tokens, and one constant
is changed at a time. What the model loses (the increase of its loss and
five times the distance of its embeddings) is measured on 128 further triplets of each kind. No evaluation task is
looked at. FOLDER holds the models of benchmarks/real_models.py. Every finished cell is a line of
benchmarks/results/constants.jsonl, and a run continues where another stopped. With --write the table goes into
docs/science.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import gaprune
from gaprune.config.measurement import MeasurementOptions
from gaprune.data.read import read_triplets
from gaprune.data.triplets import Triplets
from gaprune.models.prompts import Prompts
from gaprune.report.markdown import markdown_table
from gaprune.statistics.degradation import ReferenceOutputs
from real_models import DEPTHS, opened
from testbed import RESULTS, Lines, machine, put_table, testbed

MODELS = ("all-MiniLM-L6-v2", "all-mpnet-base-v2", "gemma-embedding")
FITTED, JUDGED = 256, 128
REMOVALS: dict[str, dict[str, Any]] = {"width": {"width": 0.5}, "weights": {"targets": ("all",), "sparsity": 0.5}}
PARAMETERS = {"all-MiniLM-L6-v2": 17_400_000, "all-mpnet-base-v2": 66_500_000, "gemma-embedding": 218_000_000}
"""Targets of the search, which leave half of the blocks."""

CONSTANTS: dict[str, tuple[str, str, tuple[Any, ...]]] = {
    "ridge": ("width", "ridge", (0.1, 0.03, 0.3, 0.01)),
    "reconstruction_triplets": ("width", "reconstruction_triplets", (128, 64, 192)),
    "general_share": ("width", "general_share", (0.3, 0.0, 0.5)),
    "tempering": ("weights", "criterion", ("dai", "dai:tempering=0", "dai:tempering=1")),
    "criterion": ("weights", "criterion", ("dai", "sparsegpt", "wanda")),
    "layer_triplets": ("depth", "layer_triplets", (32, 64, 16)),
    "layer_triplets of a search": ("search", "layer_triplets", (32, 64, 16)),
}
"""For each constant: what is removed, the option, and its values, the default first."""

Cell = tuple[str, str, str]


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="?", help="folder of the genuine models")
    parser.add_argument("--model", choices=MODELS, help="this model alone")
    parser.add_argument("--only", default="", help="these constants alone, comma-separated")
    parser.add_argument("--work", type=Path, help="folder in which measurements of the parents are kept")
    parser.add_argument("--table", action="store_true", help="run nothing, show what is there")
    parser.add_argument("--write", action="store_true", help="put the table into docs/science.md")
    args = parser.parse_args()
    lines = Lines(RESULTS / "constants.jsonl")
    done = {tuple(line["cell"]): line for line in lines}
    only = set(filter(None, args.only.split(","))) or set(CONSTANTS)
    for cell in cells():
        model, constant, _ = cell
        if args.table or cell in done or model != (args.model or model) or constant not in only:
            continue
        line = {"cell": cell, **tried(cell, args.models, args.work), "machine": machine()}
        lines.add(line)
        done[cell] = line
        sys.stderr.write(f"{cell}: {line['lost']}\n")
    text = table(done)
    sys.stdout.write(text)
    if args.write:
        put_table("constants", text, page="science.md")


def cells() -> Iterator[Cell]:
    """Yield every cell: model, constant and value."""
    for model, (constant, (_, _, values)) in product(MODELS, CONSTANTS.items()):
        yield from ((model, constant, str(value)) for value in values)


def tried(cell: Cell, folder: Path | None, work: Path | None) -> dict[str, Any]:
    """Return what a model loses with a constant, by kind of data, and the layers that are left if some are removed."""
    name, constant, written = cell
    removal, option, values = CONSTANTS[constant]
    value = next(each for each in values if str(each) == written)
    model = opened(name, folder)
    fitted, judged = triplets()
    others = {"depth": {"depth": DEPTHS.get(name, 6)}, "search": {"target": f"parameters={PARAMETERS[name]}"}}
    removed = (REMOVALS | others)[removal]
    kept = {} if work is None else {"checkpoint": work / name / removal, "resume": True}
    start = time.process_time()
    result = gaprune.prune(model, **fitted, recipe={option: value} | removed | kept)
    seconds = time.process_time() - start
    options = MeasurementOptions(precision=result.recipe.precision)
    lost = {
        kind: ReferenceOutputs(model, found, prompts=Prompts(), options=options).degradation(result.model)
        for kind, found in judged.items()
    }
    layers = next(
        (
            each["kept"]["layers"]
            for each in result.provenance().as_dict()["method"]["pruning"].get("removed", ())
            if "layers" in each["kept"]
        ),
        None,
    )
    return {"lost": lost, "layers": layers, "processor_seconds": round(seconds)}


def triplets() -> tuple[dict[str, Triplets], dict[str, Triplets]]:
    """Return the triplets of each kind that a run sees, and those that it is judged on."""
    drawn = {
        kind: read_triplets(testbed() / "calibration" / f"{file}.jsonl").take(FITTED + JUDGED, seed=0)
        for kind, file in (("domain", "finance"), ("general", "general"))
    }
    return {kind: each[:FITTED] for kind, each in drawn.items()}, {kind: each[FITTED:] for kind, each in drawn.items()}


def table(done: dict[Any, Any]) -> str:
    """Return the Markdown of all constants: a row for each value, domain / general for each model."""
    rows, missing = [], []
    for constant, (_, _, values) in CONSTANTS.items():
        for value in map(str, values):
            found = [done.get((model, constant, value)) for model in MODELS]
            shown = [
                "not run" if line is None else " / ".join(f"{each:.3f}" for each in line["lost"].values())
                for line in found
            ]
            default = " (default)" if value == str(values[0]) else ""
            if any(found):
                rows.append([constant, f"{value}{default}", *shown])
            else:
                missing.append(f"{constant} {value}")
    not_run = f"\nNot run on any model: {', '.join(missing)}.\n" if missing else ""
    return f"{markdown_table(['constant', 'value', *MODELS], rows)}{not_run}"


if __name__ == "__main__":
    main()
