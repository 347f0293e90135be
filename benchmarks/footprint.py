"""What whole units save: size, memory and time of all-MiniLM-L6-v2 pruned for finance beside its parent; int8 on top.

    python benchmarks/footprint.py [--int8 [--quality] [--shapes] [--work DIR]] [--write]

Each model is measured by `gaprune.bench` with its parent in turn in one process; quality is that of the tasks of
benchmarks/units.py. With ``--int8``, the parent and its children in every int8 form are timed in turn with the parent
in PyTorch in fp32, all in one process on one thread, by the processor's time; ``--quality`` evaluates them. Finished
rows are kept in benchmarks/results/footprint.jsonl; models and exports in ``--work``, if that is given. Time depends
on shapes alone: with ``--shapes`` children are pruned by magnitude in seconds, and their quality means nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer

import gaprune
from gaprune.evaluation.cost.latency import computing_with, time_models
from gaprune.evaluation.cost.workload import Workload
from gaprune.evaluation.quality.evaluate import evaluate
from gaprune.export.provenance import Provenance
from gaprune.models.demo import demo_model
from gaprune.models.encoders import open_encoder
from gaprune.models.exported_module import open_model
from gaprune.models.load import load_model
from gaprune.report.markdown import markdown_table
from testbed import RESULTS, Lines, for_encoding, machine, put_table
from units import MAX_LENGTH, SIZES, chosen_tasks, corpus_file, mean, triplets

DOMAIN = "finance"
WORKLOAD: dict[str, Any] = {"batch_sizes": (1, 32), "lengths": (32, MAX_LENGTH), "rounds": 5, "threads": 2}
MEASURES = {
    "parameters": "parameters",
    "bytes on disk": "disk",
    "resident memory": "memory",
    "latency, batch 1, 32 tokens": "latency, 1 x 32",
    "throughput, batch 32, 32 tokens": "texts/s, 32 x 32",
    f"throughput, batch 32, {MAX_LENGTH} tokens": f"texts/s, 32 x {MAX_LENGTH}",
}
CHILDREN: dict[str, dict[str, Any] | None] = {
    "parent": None,
    "width 0.5": {"width": 0.5},
    "width 0.5, depth 2": {"width": 0.5, "depth": 2},
    "width 0.5, depth 3": {"width": 0.5, "depth": 3},
}
FORMS: dict[str, dict[str, Any]] = {
    "ONNX, dynamic": {"to": "onnx"},
    "ONNX, weights only": {"to": "onnx", "weights_only": True},
    "OpenVINO, static": {"to": "openvino"},
    "OpenVINO, weights only": {"to": "openvino", "weights_only": True},
}
ROUNDS = 21


def main() -> None:
    """Run what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--int8", action="store_true", help="measure the int8 forms, also where they were before")
    parser.add_argument("--quality", action="store_true", help="evaluate each of them too")
    parser.add_argument("--shapes", action="store_true", help="with --int8, prune by magnitude; for time alone")
    parser.add_argument("--work", type=Path, help="folder that keeps what --int8 makes")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    args = parser.parse_args()
    lines = Lines(RESULTS / "footprint.jsonl")
    with tempfile.TemporaryDirectory() as folder:
        if args.int8:
            for line in int8_forms(args.work or Path(folder), args):
                lines.add(line)
        done = {line["name"]: line for line in lines if "form" not in line}
        missing = [name for name in ("parent", *SIZES) if name not in done]
        if missing and not args.int8:
            run(missing, Path(folder), done, lines)
    tables = {"footprint": table(done)}
    tables["footprint in int8"] = int8_table({(line["name"], line["form"]): line for line in lines if "form" in line})
    for name, text in tables.items():
        sys.stdout.write(text + "\n")
        if args.write:
            put_table(name, text)


def run(missing: list[str], folder: Path, done: dict[str, dict[str, Any]], lines: Lines) -> None:
    """Make, measure and evaluate what is missing."""
    parent = write_parent(folder)
    made: dict[str, SentenceTransformer] = {"parent": parent}
    for name in missing:
        line: dict[str, Any] = {"name": name, "machine": machine(), "load": os.getloadavg()}
        if name not in made:
            made[name] = pruned(parent, SIZES[name], folder / name)
        line["scores"] = score(for_encoding(made[name]))
        found = gaprune.bench(folder / name, folder / "parent", **WORKLOAD)
        line["rows"] = {row.measure: [row.model, row.ratio] for row in found.rows() if row.measure in MEASURES}
        lines.add(line)
        done[name] = line
        sys.stderr.write(f"{name}: {line['rows']}\n")


def write_parent(folder: Path) -> SentenceTransformer:
    """Return the parent, with texts cut as in the other benchmarks, and write it to ``parent``."""
    parent = load_model(demo_model(), max_length=MAX_LENGTH)
    parent.save_pretrained(str(folder / "parent"), create_model_card=False)
    return parent


def int8_forms(folder: Path, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a line for the parent in PyTorch and for every model in every form."""
    parent = write_parent(folder)
    places = {("parent", "PyTorch, fp32"): folder / "parent"}
    for name, options in CHILDREN.items():
        if options is not None and not (folder / name).exists():
            how = {"criterion": "magnitude", "reconstruct": False} if args.shapes else {}
            pruned(parent, options | how, folder / name)
        for form, export in FORMS.items():
            place = places[name, form] = folder / f"export-{len(places)}"
            if not place.exists():
                gaprune.export_model(folder / name, out=place, int8=True, force=True, **export)
    workload = Workload(batch_sizes=(1, 32), lengths=(32,), rounds=ROUNDS)
    with computing_with(1):
        encoders = {key: open_encoder(place, threads=1) for key, place in places.items()}
        found = time_models(list(encoders.values())[::-1], workload, clock=time.process_time)[::-1]
    for key, timings in zip(places, found, strict=True):
        line: dict[str, Any] = {"name": key[0], "form": key[1], "machine": machine(), "load": os.getloadavg()}
        line["milliseconds"] = {each.batch_size: 1000 * each.median for each in timings}
        line["bytes"] = sum(file.stat().st_size for file in places[key].rglob("*") if file.is_file())
        made = Provenance.read(places[key])
        if made is not None and made.export is not None:
            line["cosine"], line["note"] = [made.export.cosine_mean, made.export.cosine_min], made.export.form
        line["shapes"] = args.shapes
        if args.quality:
            line["scores"] = score(open_model(places[key]))
        yield line


def pruned(parent: SentenceTransformer, options: dict[str, Any], out: Path) -> SentenceTransformer:
    """Prune the parent by dai with reconstruction, and write the result."""
    if options.get("vocabulary"):
        options = options | {"vocabulary": corpus_file(DOMAIN, out.parent)}
    needed = options.get("criterion") != "magnitude"
    data = {"domain": triplets(DOMAIN), "general": triplets("general")} if needed else {}
    return gaprune.prune(parent, **data, recipe=options, out=out, overwrite=True).model


def score(model: SentenceTransformer) -> dict[str, float]:
    """Return the score of every task."""
    tasks = [*chosen_tasks(DOMAIN), *chosen_tasks("general")]
    return {score.task: score.value for score in evaluate(model, tasks).scores}


def table(done: dict[str, dict[str, Any]]) -> str:
    """Return the Markdown: a row a model."""
    rows = []
    for name, line in done.items():
        cells = []
        for measure in MEASURES:
            value, ratio = line["rows"][measure]
            cells.append(value.partition(" (")[0] + ("" if name == "parent" else f" ({ratio:.2f} x)"))
        rows.append([name, *cells, *(f"{mean(line, kind):.4f}" for kind in (DOMAIN, "general"))])
    return markdown_table(["model", *MEASURES.values(), DOMAIN, "general"], rows)


def int8_table(done: dict[tuple[str, str], dict[str, Any]]) -> str:
    """Return the Markdown: a row for every model and form, with the ratio to the parent in PyTorch."""
    rows = []
    for (name, form), line in done.items():
        base = done["parent", "PyTorch, fp32"]
        cells = [f"{line['bytes'] / 1e6:.1f} MB"]
        for size, took in line["milliseconds"].items():
            ratio = base["milliseconds"][size] / took
            cells.append(f"{took:.2f} ms" + ("" if line is base else f" ({ratio:.2f} x)"))
        cells += ["", ""] if line is base else [f"{cosine:.4f}" for cosine in line["cosine"]]
        cells += [f"{mean(line, kind):.4f}" if "scores" in line else "not run" for kind in (DOMAIN, "general")]
        rows.append([name, form, *cells])
    header = ["model", "form", "disk", "1 x 32", "32 x 32", "mean cosine", "lowest cosine", DOMAIN, "general"]
    return markdown_table(header, rows)


if __name__ == "__main__":
    main()
