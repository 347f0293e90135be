"""Distillation: tokens per second by precision, and quality alone against quality in the parent's index.

    python benchmarks/distillation.py --speed
    python benchmarks/distillation.py --mixing [--domain finance] [--steps 50]
    python benchmarks/distillation.py --texts [--domain finance] [--tokens 150000] [--only NAME,...]

--speed times all-MiniLM-L6-v2 on texts of finance in processor time: embedding, as for the parent's embeddings, and a
step of training, as for the child; batches are sorted by characters here, so a third of the positions is padding.
--mixing fine-tunes half of its FFN neurons with other weights of the alignment to the parent, and judges by triplets
that are neither calibrated nor trained on: queries against all of their passages, nDCG@10. Nothing is chosen on
evaluation tasks. --texts distils on the texts of calibration triplets, after pruning for three times fewer operations,
by other learning rates, batches and weights of the loss, and keeps cosine and nDCG on held-out texts over tokens.
Results are lines of benchmarks/results/distillation.jsonl; finished cells are not made again.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import gaprune
from gaprune.data.read import read_triplets
from gaprune.data.triplets import Triplet, write_triplets
from gaprune.models.demo import demo_model
from gaprune.models.encode import encode
from gaprune.models.load import load_model
from recovery import pruned
from testbed import RESULTS, Lines, machine, testbed

ALIGNED = {"distil": True, "parent": demo_model(), "similarity_weight": 0.0}
CELLS: dict[str, dict[str, Any] | None] = {
    "no recovery": None,
    "contrastive": {},
    "fixed targets, alignment 1": {**ALIGNED, "fixed_targets": True, "embedding_weight": 1.0},
    "fixed targets, alignment 10": {**ALIGNED, "fixed_targets": True, "embedding_weight": 10.0},
    "own targets, alignment 1, similarity 10": {**ALIGNED, "similarity_weight": 10.0},
    "own targets, alignment 10, similarity 10": {**ALIGNED, "embedding_weight": 10.0, "similarity_weight": 10.0},
    "fixed targets, alignment 30": {**ALIGNED, "fixed_targets": True, "embedding_weight": 30.0},
}
COMMON = {
    "batch_size": 16, "max_length": 48, "bf16": True, "triplets": 3600, "held_out": 0.01, "device": "cpu", "seed": 0,
}  # fmt: skip
JUDGED = 400
SMALLER = {
    "target": "speedup=3", "triplets": 96, "layer_triplets": 24, "reconstruction_triplets": 64, "max_length": 64,
    "seed": 0,
}  # fmt: skip
ON_TEXTS: dict[str, dict[str, Any]] = {
    "1e-5, 32 pairs": {"learning_rate": 1e-5},
    "3e-5, 32 pairs": {"learning_rate": 3e-5},
    "1e-4, 32 pairs": {"learning_rate": 1e-4},
    "3e-4, 32 pairs": {"learning_rate": 3e-4},
    "1e-3, 32 pairs": {"learning_rate": 1e-3},
    "3e-4, 8 pairs": {"learning_rate": 3e-4, "batch_size": 8},
    "1e-3, 8 pairs": {"learning_rate": 1e-3, "batch_size": 8},
    "3e-4, 32 pairs, cosine alone": {"learning_rate": 3e-4, "similarity_weight": 0.0},
}
TEXTS, HELD_OUT = 1500, 0.06
"""Triplets whose texts are distilled on, and the share of the passages that are held out."""


def main() -> None:
    """Make what is missing, and print every line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--mixing", action="store_true")
    parser.add_argument("--texts", action="store_true")
    parser.add_argument("--tokens", type=int, default=150_000)
    parser.add_argument("--only", help="names of cells of --texts, separated by semicolons")
    parser.add_argument("--domain", default="finance")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "gaprune-recovery")
    args = parser.parse_args()
    lines = Lines(RESULTS / "distillation.jsonl")
    done = {line["cell"] for line in lines if (line["domain"], line["steps"]) == (args.domain, args.steps)}
    for cell, options in CELLS.items() if args.mixing else ():
        if cell not in done:
            lines.add(mixed(cell, options, args))
    kept = {(line["cell"], line["domain"], line["tokens"]) for line in lines if "tokens" in line}
    only = args.only.split(";") if args.only else list(ON_TEXTS)
    for cell in only if args.texts else ():
        if (cell, args.domain, args.tokens) not in kept:
            lines.add(on_texts(cell, args))
    if args.speed:
        for line in speeds():
            lines.add(line)
    for line in lines:
        sys.stdout.write(f"{line}\n")


def mixed(cell: str, options: dict[str, Any] | None, args: argparse.Namespace) -> dict[str, Any]:
    """Return the quality of one cell, alone and in the parent's index."""
    folder, start = pruned(args.work, args.domain, "width 0.5", 0), time.process_time()
    data = testbed() / "calibration" / f"{args.domain}.jsonl"
    model = load_model(folder, device="cpu")
    if options is not None:
        given = {**COMMON, **options, "steps": args.steps, "evaluate_every": args.steps}
        model = gaprune.recover(folder, domain=data, **given).model
    triplets = judged(data)
    documents = list(dict.fromkeys(text for item in triplets for text in item.passages))
    queries = [item.query for item in triplets]
    mine, its = ([embed(each, texts) for texts in (queries, documents)] for each in (model, load_model(demo_model())))
    return {
        "cell": cell, "domain": args.domain, "steps": args.steps, "parent": ndcg(*its, triplets, documents),
        "alone": ndcg(*mine, triplets, documents), "in_the_index": ndcg(mine[0], its[1], triplets, documents),
        "cosine_of_queries": float((mine[0] * its[0]).sum(1).mean()),
        "cosine_of_passages": float((mine[1] * its[1]).sum(1).mean()),
        "options": None if options is None else {**COMMON, **options, "parent": "all-MiniLM-L6-v2"},
        "machine": machine(), "processor_seconds": time.process_time() - start,
    }  # fmt: skip


def on_texts(cell: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return how a distillation on texts went."""
    start, bed = time.process_time(), testbed() / "calibration"
    child, texts = args.work / f"{args.domain} speedup 3", args.work / f"{args.domain} texts.jsonl"
    if not child.exists():
        data = {"domain": bed / f"{args.domain}.jsonl", "general": bed / "general.jsonl"}
        gaprune.prune(demo_model(), **data, recipe={**SMALLER, "device": "cpu"}, out=child)
    if not texts.exists():
        write_triplets(read_triplets(bed / f"{args.domain}.jsonl").take(TEXTS, seed=3), texts)
    options = {
        "texts": texts, "parent": demo_model(), "tokens": args.tokens, "max_length": 64, "held_out": HELD_OUT,
        "patience": 100, "device": "cpu", "seed": 0, **ON_TEXTS[cell],
    }  # fmt: skip
    training = gaprune.recover(child, recipe=options).training
    return {
        "cell": cell, "domain": args.domain, "steps": training.steps, "best_step": training.best_step,
        "tokens": args.tokens, "looks": [each.model_dump(mode="json") for each in training.distillation],
        "machine": machine(), "processor_seconds": round(time.process_time() - start, 1),
    }  # fmt: skip


def judged(data: Path) -> list[Triplet]:
    """Return triplets whose queries and positives are neither calibrated nor trained on."""
    everything = read_triplets(data)
    used = [*everything.take(COMMON["triplets"], seed=0), *everything.take(512, seed=0)]
    queries, passages = {item.query for item in used}, {text for item in used for text in item.passages}
    rest = [item for item in everything if item.query not in queries and item.positive not in passages]
    random.Random(1).shuffle(rest)
    return rest[:JUDGED]


def embed(model: Any, texts: list[str]) -> np.ndarray:
    """Return normalised embeddings, in bfloat16."""
    model.max_seq_length = 64
    with torch.autocast("cpu", torch.bfloat16):
        return encode(model, texts, None, None, batch_size=64, normalize=True)


def ndcg(queries: np.ndarray, passages: np.ndarray, triplets: list[Triplet], documents: list[str]) -> float:
    """Return nDCG@10 with the positives of a query as its relevant passages."""
    relevant: dict[str, set[str]] = {}
    for item in triplets:
        relevant.setdefault(item.query, set()).add(item.positive)
    gains = 1 / np.log2(np.arange(2, 12))
    values = []
    for item, row in zip(triplets, np.argsort(-(queries @ passages.T), axis=1)[:, :10], strict=True):
        wanted = relevant[item.query]
        values.append(sum(gains[[documents[at] in wanted for at in row]]) / gains[: len(wanted)].sum())
    return float(np.mean(values))


def speeds() -> list[dict[str, Any]]:
    """Return tokens per second of processor time by work and precision."""
    model = load_model(demo_model(), device="cpu", max_length=128)
    items = read_triplets(testbed() / "calibration" / "finance.jsonl")[:400]
    texts = sorted((item.positive for item in items), key=len)[100:356]
    batches = [model.preprocess(texts[start : start + 32]) for start in range(64, 224, 64)]
    tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
    found = []
    for work, bf16, precision in (
        (work, *each)
        for work in ("embedding", "training")
        for each in ((False, "highest"), (False, "medium"), (True, "highest"))
    ):
        torch.set_float32_matmul_precision(precision)
        model.train(work == "training")
        for turn in range(3):  # the first one warms up
            if turn < 2:
                start = time.process_time()
            for batch in batches:
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16), torch.set_grad_enabled(work == "training"):
                    embeddings = model(dict(batch))["sentence_embedding"]
                if work == "training":
                    embeddings.float().sum().backward()
                    model.zero_grad()
        speed = 2 * tokens / (time.process_time() - start)
        name = "bf16 autocast" if bf16 else f"float32, {precision}"
        line = {"cell": f"{work}, {name}", "domain": "finance", "steps": None, "tokens_per_second": speed}
        found.append({**line, "machine": machine()})
    return found


if __name__ == "__main__":
    main()
