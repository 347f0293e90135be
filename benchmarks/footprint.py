"""What whole units save: size, memory and time of all-MiniLM-L6-v2 pruned for finance beside its parent; int8 on top.

    python benchmarks/footprint.py [--write]

Each model is measured by `gaprune.bench` with its parent in turn in one process; quality is that of the tasks of
benchmarks/units.py. Finished rows are kept in benchmarks/results/footprint.jsonl.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

import gaprune
from gaprune.evaluation.quality.evaluate import evaluate
from gaprune.evaluation.quality.task import Task
from gaprune.models.demo import demo_model
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
EXPORTED = ("parent, int8", "all three, int8")


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    args = parser.parse_args()
    lines = Lines(RESULTS / "footprint.jsonl")
    done = {line["name"]: line for line in lines}
    missing = [name for name in ("parent", *SIZES, *EXPORTED) if name not in done]
    if missing:
        with tempfile.TemporaryDirectory() as folder:
            run(missing, Path(folder), done, lines)
    text = table(done)
    sys.stdout.write(text)
    if args.write:
        put_table("footprint", text)


def run(missing: list[str], folder: Path, done: dict[str, dict[str, Any]], lines: Lines) -> None:
    """Make, measure and evaluate what is missing."""
    parent = load_model(demo_model(), max_length=MAX_LENGTH)
    own = folder / "parent"
    parent.save_pretrained(str(own), create_model_card=False)
    tasks = [*chosen_tasks(DOMAIN), *chosen_tasks("general")]
    made: dict[str, SentenceTransformer] = {"parent": parent}
    for name in missing:
        line: dict[str, Any] = {"name": name, "machine": machine(), "load": os.getloadavg()}
        cut = name.removesuffix(", int8")
        if cut not in made:
            made[cut] = pruned(parent, cut, folder)
        model = made[cut]
        place = folder / cut
        if name in EXPORTED:
            exported = gaprune.export_model(place, to="onnx", out=folder / "exported", int8=True, overwrite=True)
            place = folder / "exported"
            line["cosine"] = {"lowest": exported.record.cosine_min, "mean": exported.record.cosine_mean}
            line["scores"] = quality(encoding_with(model, gaprune.ExportedModel(place)), tasks)
        else:
            line["scores"] = quality(for_encoding(model), tasks)
        found = gaprune.bench(place, own, **WORKLOAD)
        line["rows"] = {row.measure: [row.model, row.ratio] for row in found.rows() if row.measure in MEASURES}
        lines.add(line)
        done[name] = line
        sys.stderr.write(f"{name}: {line['rows']}\n")


def pruned(parent: SentenceTransformer, cut: str, folder: Path) -> SentenceTransformer:
    """Prune the parent by dai with reconstruction, and write the result to the folder of that name."""
    options = dict(SIZES[cut])
    if options.get("vocabulary"):
        options["vocabulary"] = corpus_file(DOMAIN, folder)
    data = {"domain": triplets(DOMAIN), "general": triplets("general")}
    return gaprune.prune(parent, **data, recipe=options, out=folder / cut, overwrite=True).model


def encoding_with(model: SentenceTransformer, exported: gaprune.ExportedModel) -> SentenceTransformer:
    """Return a model that embeds by its export, so that it can be evaluated as any other."""
    wrapped = copy.copy(model)

    def encode(inputs: Any, *, convert_to_tensor: bool = False, normalize_embeddings: bool = False, **_: Any) -> Any:
        embeddings: Tensor = torch.from_numpy(exported.encode(list(inputs), prompt=""))
        if normalize_embeddings:
            embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        return embeddings if convert_to_tensor else embeddings.numpy()

    vars(wrapped)["encode"] = encode
    return wrapped


def quality(model: SentenceTransformer, tasks: list[Task]) -> dict[str, float]:
    """Return the score of every task."""
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


if __name__ == "__main__":
    main()
