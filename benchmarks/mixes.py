"""What to remove for a measured speed: layers and neurons, hidden dimensions too, in one round or in several.

    python benchmarks/mixes.py [--domain finance] [--speedup 3] [--arms NAME,...] [--speeds FILE] [--table] [--write]

all-MiniLM-L6-v2 is pruned for one target by `gaprune.prune` with the same 128 triplets of each kind, and not trained.
It is judged on held-out triplets of the calibration file, which share no text with the others: increase of the loss
and distance of the embeddings on 200 of them (and on 100 general ones), and nDCG@10 of 500 queries among their
passages, alone and with the parent's vectors of the passages. No task of the test bed is touched, so defaults may be
chosen here. Shapes are timed once and kept in --speeds, so that all arms see the same speeds; what does not depend on
the layers takes the median over the hidden sizes, because timings of single texts scatter. Finished cells are lines
of benchmarks/results/mixes.jsonl.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch.nn import functional

import gaprune
from gaprune.config.recipe import Recipe
from gaprune.data.read import read_triplets
from gaprune.data.triplets import Triplets
from gaprune.evaluation.cost.latency import measure_speed
from gaprune.models.demo import demo_model
from gaprune.models.encode import encode_tensor
from gaprune.models.encoders import TorchModel
from gaprune.models.load import load_model
from gaprune.models.prompts import Prompts
from gaprune.pruning.costs import Shape, of_shape
from gaprune.report.markdown import markdown_table
from gaprune.statistics.degradation import ReferenceOutputs
from testbed import RESULTS, Lines, machine, put_table, testbed

ARMS: dict[str, dict[str, Any]] = {
    "layers and neurons": {},
    "hidden size searched": {"search": ("depth", "width", "hidden")},
    "320 dimensions": {"hidden": (1 / 6,)},
    "three rounds": {"rounds": 3},
    "three rounds, hidden size searched": {"rounds": 3, "search": ("depth", "width", "hidden")},
}
SIZES, WIDTHS = (384, 352, 320, 288, 256), (64, 768, 1536)
TRIPLETS, TRAINING, MAX_LENGTH, JUDGED, QUERIES = 128, 5000, 64, {"domain": 200, "general": 100}, 500


class Speeds:
    """Speeds of shapes from a few that were timed, kept in a file."""

    def __init__(self, parent: SentenceTransformer, file: Path) -> None:
        self._whole = Shape.of(parent)
        if not file.exists():
            file.write_text(json.dumps(_timed(parent, self._whole)), encoding="utf-8")
        self._times = {tuple(shape): np.array(times) for shape, times in json.loads(file.read_text(encoding="utf-8"))}
        layers = self._whole.layers
        rests = []
        for size in SIZES:
            whole, one = (self._times[layers, WIDTHS[-1], size], self._times[1, WIDTHS[-1], size])
            rests.append(np.clip(whole - layers * (whole - one) / (layers - 1), 0, 0.9 * one))
        self._rest = {size: np.array([statistics.median(each[0] for each in rests), rests[place][1]])
                      for place, size in enumerate(SIZES)}  # fmt: skip

    def speedup(self, shape: Shape) -> float:
        """Return the geometric mean of both ratios."""
        found = np.array([self._times[self._whole.layers, width, shape.hidden] for width in WIDTHS])
        whole = np.array([np.interp(shape.width, WIDTHS, found[:, each]) for each in range(2)])
        rest: NDArray[np.float64] = self._rest[shape.hidden]
        times = rest + shape.layers * (whole - rest) / self._whole.layers
        return float(1 / np.sqrt(times.prod()))

    def confirms(self, shape: Shape) -> bool:
        """Return true, so that all arms see the same speeds."""
        del shape
        return True


def _timed(parent: SentenceTransformer, whole: Shape) -> list[tuple[tuple[int, int, int], tuple[float, float]]]:
    """Return the times of shapes for one text and for eight, as fractions of the parent's."""
    found = []
    for size, (layers, width) in product(SIZES, [(whole.layers, width) for width in WIDTHS] + [(1, WIDTHS[-1])]):
        model = of_shape(parent, whole.changed(hidden=size, layers=layers, width=width))
        speed = measure_speed(TorchModel(model), TorchModel(parent), rounds=5, texts=8)
        found.append(((layers, width, size), (1 / speed.latency, 1 / speed.throughput)))
    return found


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domain", default="finance")
    parser.add_argument("--speedup", type=float, default=3)
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--speeds", type=Path, default=Path(tempfile.gettempdir()) / "gaprune-mixes.json")
    parser.add_argument("--table", action="store_true", help="run nothing, show what is there")
    parser.add_argument("--write", action="store_true", help="put the table into docs/science.md")
    args = parser.parse_args()
    lines = Lines(RESULTS / "mixes.jsonl")
    done = {tuple(line["cell"]): line for line in lines}
    for arm in () if args.table else args.arms.split(","):
        cell = (args.domain, args.speedup, arm)
        if cell not in done:
            done[cell] = {"cell": cell, "machine": machine(), **made(*cell, args.speeds)}
            lines.add(done[cell])
    text = table(done)
    sys.stdout.write(text)
    if args.write:
        put_table("mixes", text, page="science.md")


def made(domain: str, speedup: float, arm: str, speeds: Path) -> dict[str, Any]:
    """Return how a model is made and judged."""
    parent = load_model(demo_model(), device="cpu", max_length=MAX_LENGTH)
    (training, judged), (general, others) = split(domain), split("general")
    data = {"domain": training, "general": general, "triplets": TRIPLETS}
    start = time.process_time()
    result = gaprune.prune(parent, target=f"speedup={speedup}", speed=Speeds(parent, speeds), **data, **ARMS[arm])
    line: dict[str, Any] = {"seconds": round(time.process_time() - start)}
    found = result.provenance().method.pruning.target
    line |= {"shape": found.chosen.model_dump(), "candidates": [each.model_dump() for each in found.candidates]}
    for kind, triplets in (("domain", judged), ("general", others)):
        few = triplets[: JUDGED[kind]]
        reference = ReferenceOutputs(parent, few, prompts=Prompts(), options=Recipe.build({}))
        line[kind] = reference.changed(result.model)
    return line | {"ndcg": ranked(parent, result.model, judged[:QUERIES])}


def split(kind: str) -> tuple[Triplets, Triplets]:
    """Return triplets to prune on, and others that share no text with them."""
    triplets = list(read_triplets(testbed() / "calibration" / f"{kind}.jsonl"))
    random.Random(1).shuffle(triplets)
    training = triplets[:TRAINING]
    known = {text for item in training for text in (item.query, *item.passages)}
    rest = [item for item in triplets[TRAINING:] if known.isdisjoint((item.query, *item.passages))]
    return Triplets(training, kind), Triplets(rest, f"held-out {kind}")


def ranked(parent: SentenceTransformer, child: SentenceTransformer, triplets: Triplets) -> tuple[float, float, float]:
    """Return nDCG@10 of the child, of its queries among the parent's vectors, and of the parent."""
    passages = list(dict.fromkeys(text for item in triplets for text in item.passages))
    gold = torch.tensor([passages.index(item.positive) for item in triplets])
    vectors = {
        (name, kind): functional.normalize(encode_tensor(model, texts, None, None))
        for name, model in (("child", child), ("parent", parent))
        for kind, texts in (("queries", [item.query for item in triplets]), ("passages", passages))
    }

    def gain(queries: str, among: str) -> float:
        scores = vectors[queries, "queries"] @ vectors[among, "passages"].T
        rank = (scores > scores.gather(1, gold[:, None])).sum(1)
        return float(torch.where(rank < 10, 1 / torch.log2(rank + 2.0), 0.0).mean())

    return gain("child", "child"), gain("child", "parent"), gain("parent", "parent")


def table(done: dict[tuple[Any, ...], dict[str, Any]]) -> str:
    """Return the Markdown."""
    header = ["domain", "speedup", "what is chosen", "layers", "neurons", "dimensions", "parameters", "estimated"]
    header += ["domain: loss / distance", "general", "nDCG@10 (parent)", "in the parent's index", "processor time"]
    rows = []
    for (domain, speedup, arm), line in done.items():
        shape = line["shape"]
        row = [domain, f"{speedup:g}", arm, str(shape["layers"]), f"{shape['width']:,}", str(shape["hidden"])]
        row += [f"{shape['parameters'] / 1e6:.1f} M", f"{shape['estimated_degradation']:.3f}"]
        row += [" / ".join(f"{each:.3f}" for each in line.get(kind, ())) for kind in ("domain", "general")]
        own, index, its = line.get("ndcg", (None, None, None))
        row += ["", ""] if own is None else [f"{own:.3f} ({its:.3f})", f"{index:.3f}"]
        rows.append([*row, f"{line['seconds']} s"])
    return markdown_table(header, rows) + "\n"


if __name__ == "__main__":
    main()
