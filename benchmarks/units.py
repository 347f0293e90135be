"""Structured pruning on the test bed: all-MiniLM-L6-v2, finance and chemistry, 512 triplets a side.

    python benchmarks/units.py [--table] [--write]

Width 0.5, 2 of 6 layers, the vocabulary, and all three together, by dai and by baselines of the same size, with and
without reconstruction; quality in tasks of the domain and in general ones. Every finished cell is kept in
benchmarks/results/units.jsonl, and a run goes on where another stopped. The tables go to stdout, and with --write into
docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

from sentence_transformers import SentenceTransformer

import gaprune
from gaprune.criteria.registry import create
from gaprune.data.read import read_triplets
from gaprune.data.triplets import Triplets
from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.evaluation.quality.evaluate import evaluate
from gaprune.evaluation.quality.task import Task
from gaprune.models.demo import demo_model
from gaprune.models.load import load_model
from gaprune.report.markdown import markdown_table
from testbed import DOMAINS, RESULTS, Lines, for_encoding, machine, put_table, testbed

CRITERIA = ("random", "magnitude", "activation", "dai")
TASKS = {
    "finance": ("TATQA", "FinanceTerms", "Banking77"),
    "chemistry": ("ChemMethods", "MethodSynonyms", "MoleculeFamilies"),
    "general": ("ImageCaptionsSTS", "Clinc150"),
}
SIZES: dict[str, dict[str, Any]] = {
    "width 0.5": {"width": 0.5},
    "depth 2": {"depth": 2},
    "vocabulary": {"vocabulary": True},
    "all three": {"width": 0.5, "depth": 2, "vocabulary": True},
}
TRIPLETS, MAX_LENGTH = 512, 64


def main() -> None:
    """Run what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    parser.add_argument("--table", action="store_true", help="run nothing, show what is there")
    args = parser.parse_args()
    lines = Lines(RESULTS / "units.jsonl")
    done = {tuple(cell["cell"]): cell for cell in lines if cell.get("constants") == constants(*cell["cell"][1:3])}
    for domain in () if args.table else DOMAINS:
        run(domain, done, lines)
    text = "\n".join(table(domain, done) for domain in DOMAINS if (domain, "dense", "", False) in done)
    sys.stdout.write(text)
    if args.write:
        put_table("units", text)


def cells(domain: str) -> list[tuple[str, str, str, bool]]:
    """Return every cell of a domain: what is cut, by which criterion, and whether it is reconstructed."""
    found = [(domain, "dense", "", False)]
    for size in SIZES:
        for criterion in CRITERIA if size != "vocabulary" else ("dai",):
            both = size in ("width 0.5", "depth 2") or (size == "all three" and criterion in ("activation", "dai"))
            reconstructs = (False, True) if both else (size != "vocabulary",)
            found += [(domain, size, criterion, reconstruct) for reconstruct in reconstructs]
    return found


def constants(size: str, criterion: str) -> dict[str, Any] | None:
    """Return the constants of `dai`, whose cells are made again where they were others; tokens need no criterion."""
    return create(criterion).model_dump() if criterion == "dai" and size != "vocabulary" else None


def run(domain: str, done: dict[tuple[Any, ...], dict[str, Any]], lines: Lines) -> None:
    """Make and evaluate every model of a domain that is missing."""
    missing = [cell for cell in cells(domain) if cell not in done]
    if not missing:
        return
    parent = load_model(demo_model(), max_length=MAX_LENGTH)
    tasks = [*chosen_tasks(domain), *chosen_tasks("general")]
    data = {kind: triplets(kind) for kind in (domain, "general")}
    with tempfile.TemporaryDirectory() as folder:
        corpus = corpus_file(domain, Path(folder))
        for cell in missing:
            _, size, criterion, reconstruct = cell
            line: dict[str, Any] = {"cell": cell, "constants": constants(size, criterion), "machine": machine()}
            model = parent
            if size != "dense":
                options = dict(SIZES[size])
                if options.get("vocabulary"):
                    options["vocabulary"] = corpus
                result = gaprune.prune(
                    parent,
                    domain=data[domain],
                    general=data["general"],
                    recipe=options | {"criterion": criterion, "reconstruct": reconstruct},
                )
                model = result.model
                line["reconstruct"] = result.provenance().as_dict()["method"]["reconstruction"]
                line["cuts"] = [
                    {"kind": each.kind, "removed": each.removed, "total": each.total} for each in result.change.cuts
                ]
            line["parameters"] = sum(weight.numel() for weight in model.parameters())
            line["scores"] = quality(model, tasks)
            lines.add(line)
            done[cell] = line
            means = {kind: round(mean(line, kind), 4) for kind in (domain, "general")}
            sys.stderr.write(f"{cell}: {means} {line.get('reconstruct') and line['reconstruct']['kept']}\n")


def triplets(kind: str) -> Triplets:
    """Return the calibration sample of one kind of data."""
    return read_triplets(testbed() / "calibration" / f"{kind}.jsonl").take(TRIPLETS, seed=0)


def chosen_tasks(kind: str) -> list[Task]:
    """Return the tasks of one kind."""
    return [task for task in find_tasks(testbed() / "evaluation" / kind) if task.name in TASKS[kind]]


def corpus_file(domain: str, folder: Path) -> str:
    """Write the texts of all calibration triplets of a domain, a line each: what its users' texts look like."""
    found = read_triplets(testbed() / "calibration" / f"{domain}.jsonl")
    texts = [" ".join(text.split()) for item in found for text in (item.query, *item.passages)]
    path = folder / "corpus.txt"
    path.write_text("\n".join(dict.fromkeys(texts)) + "\n", encoding="utf-8")
    return str(path)


def quality(model: SentenceTransformer, tasks: list[Task]) -> dict[str, float]:
    """Return the score of every task."""
    found = evaluate(for_encoding(model), tasks)
    return {score.task: score.value for score in found.scores}


def mean(line: dict[str, Any], kind: str) -> float:
    """Return the mean over the tasks of one kind."""
    return fmean(line["scores"][task] for task in TASKS[kind])


def table(domain: str, done: dict[tuple[Any, ...], dict[str, Any]]) -> str:
    """Return the Markdown of one domain."""
    dense = done[domain, "dense", "", False]
    rows = []
    for cell in cells(domain):
        if cell in done:
            line = done[cell]
            _, size, criterion, reconstruct = cell
            entries = [
                f"{mean(line, kind):.4f} ({mean(line, kind) / mean(dense, kind) - 1:+.1%})"
                for kind in (domain, "general")
            ]
            reconstructed = ("kept" if line["reconstruct"]["kept"] else "rolled back") if reconstruct else ""
            rows.append([size, criterion, reconstructed, f"{line['parameters'] / 1e6:.1f} M", *entries])
    header = [
        "pruning",
        "criterion",
        "reconstruction",
        "parameters",
        f"{domain}: {', '.join(TASKS[domain])}",
        "general",
    ]
    return f"### {domain}\n\n{markdown_table(header, rows)}"


if __name__ == "__main__":
    main()
