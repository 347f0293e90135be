"""What the defaults of recovery are chosen by: losses on calibration triplets that were not trained on.

    python benchmarks/tuning.py [--only "dai 0.5 mlp"] [--write]

all-MiniLM-L6-v2, pruned and fine-tuned as in benchmarks/recovery.py, seed 0. Two questions: the learning rate, in
finance, and whether the negatives that triplets come with help, in both domains. No evaluation task is looked at: the
domain is seen on its own triplets, what was forgotten on general ones. Finished cells are in
benchmarks/results/recovery-tuning.jsonl and recovery-negatives.jsonl, and a run goes on where another stopped.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from torch.nn.functional import cross_entropy

from gaprune.config.recovery import RecoveryOptions
from gaprune.data.read import read_triplets
from gaprune.models.load import load_model
from gaprune.recovery.data import read_recovery_data
from gaprune.report.markdown import markdown_table
from recovery import COMMON, CONTRASTIVE, MAX_LENGTH, pruned, recovered
from testbed import DOMAINS, RESULTS, Lines, for_encoding, machine, put_table, testbed

RATES = (5e-5, 2e-4, 1e-4, 2e-5, 4e-4)
"""Learning rates that are compared, in the order they are run."""

TUNED = ("dai 0.5 mlp", "width 0.5", "unpruned", "depth -2")
"""Prunings that they are compared on: both roads, and the parent."""

SHORT = 32
"""Tokens at which texts are cut where rates are compared."""

NEGATIVES = (0, 1)
GENERAL, UNSEEN, OTHERS = 256, 512, 1000
"""General pairs; pairs of the domain that share no text with what is trained on; passages beside theirs."""


def main() -> None:
    """Run what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=TUNED, help="learning rates of this pruning alone")
    parser.add_argument("--table", action="store_true", help="run nothing, show what is there")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "gaprune-recovery")
    args = parser.parse_args()
    for name, text in (("recovery rates", rates(args)), ("recovery negatives", negatives(args))):
        sys.stdout.write(f"{text}\n")
        if args.write:
            put_table(name, text)


def rates(args: argparse.Namespace) -> str:
    """Compare learning rates by the held-out loss of the trainer, and by general pairs."""
    domain = DOMAINS[0]
    lines = Lines(RESULTS / "recovery-tuning.jsonl")
    done = {(line["pruning"], line["rate"]): line for line in lines}
    for pruning, rate in product(TUNED, RATES):
        if args.table or (pruning, rate) in done or pruning != (args.only or pruning):
            continue
        folder = pruned(args.work, domain, pruning, 0)
        options = {"learning_rate": rate, "max_length": SHORT, "hard_negatives": 0}
        model, training = recovered(folder, domain, CONTRASTIVE, 0, **options)
        general = {"before": general_loss(load_model(folder, device="cpu")), "after": general_loss(model)}
        line = {
            "domain": domain, "pruning": pruning, "rate": rate, "training": training, "general": general,
            "machine": machine(),
        }  # fmt: skip
        lines.add(line)
        done[pruning, rate] = line
        sys.stderr.write(f"{(pruning, rate)}: {training['after']['loss']:.4f}, {general['after']:.4f}\n")
    rows = []
    for pruning, kind in product(TUNED, (domain, "general")):
        here = {rate: losses(done[pruning, rate], kind) for rate in sorted(RATES) if (pruning, rate) in done}
        if here:
            before = next(iter(here.values()))[0]
            after = [f"{here[rate][1]:.4f}" if rate in here else "not run" for rate in sorted(RATES)]
            rows.append([pruning, kind, f"{before:.4f}", *after])
    return markdown_table(["pruning", "loss on", "before", *(f"{rate:g}" for rate in sorted(RATES))], rows)


def losses(line: dict[str, Any], kind: str) -> list[float]:
    """Return the loss before and after, on the domain's held-out triplets or on general ones."""
    if kind == "general":
        return [line["general"][when] for when in ("before", "after")]
    return [line["training"][when]["loss"] for when in ("before", "after")]


def negatives(args: argparse.Namespace) -> str:
    """Compare training with and without the negatives of the triplets, by retrieval among unseen ones."""
    pruning = "dai 0.5 mlp"
    lines = Lines(RESULTS / "recovery-negatives.jsonl")
    done = {(line["domain"], line["negatives"]): line["quality"] for line in lines}
    for domain, count in product(DOMAINS, (None, *NEGATIVES)):
        if args.table or (domain, count) in done:
            continue
        folder = pruned(args.work, domain, pruning, 0)
        if count is None:
            model = load_model(folder, device="cpu")
        else:
            model, _ = recovered(folder, domain, CONTRASTIVE, 0, hard_negatives=count)
        found = quality(model, domain)
        lines.add({"domain": domain, "negatives": count, "quality": found, "machine": machine()})
        done[domain, count] = found
    names = ("loss", "ndcg", "general")
    rows = [
        [domain, "before" if count is None else str(count), *(f"{found[name]:.4f}" for name in names)]
        for (domain, count), found in done.items()
    ]
    return markdown_table(["domain", "negatives per triplet", "loss", "nDCG@10", "loss on general"], rows)


def quality(model: SentenceTransformer, domain: str) -> dict[str, float]:
    """Return loss and nDCG@10 of unseen pairs of the domain among more passages, and the loss on general pairs."""
    positives, queries, others = unseen(domain)
    model = for_encoding(model)
    model.max_seq_length = MAX_LENGTH
    similarities = embed(model, queries) @ embed(model, [*positives, *others]).T
    ranks = (similarities > similarities.diagonal()[:, None]).sum(1) + 1
    gains = torch.where(ranks <= 10, 1 / torch.log2(ranks + 1.0), 0.0)
    return {"loss": loss_of(similarities), "ndcg": gains.mean().item(), "general": general_loss(model)}


def unseen(domain: str) -> tuple[list[str], list[str], list[str]]:
    """Return positives and their queries, none of which a recovery trains on, and other passages of the domain."""
    triplets = read_triplets(testbed() / "calibration" / f"{domain}.jsonl")
    corpus = read_recovery_data(RecoveryOptions.build(COMMON, {"general_share": 0.0}), domain=triplets)
    used = {text for item in (*corpus.domain, *(corpus.held_out or ())) for text in (item.query, item.positive)}
    found = [(item.positive, item.query) for item in triplets if used.isdisjoint((item.query, item.positive))]
    query_of = different(found)
    others = list(dict.fromkeys(text for item in triplets for text in item.negatives[:1] if text not in query_of))
    drawn = random.Random(1).sample(list(query_of.items()), UNSEEN)
    return *map(list, zip(*drawn, strict=True)), random.Random(2).sample(others, OTHERS)


def different(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return pairs of which no text stands twice on its side, the last one of each."""
    back = {second: first for first, second in dict(pairs).items()}
    return {first: second for second, first in back.items()}


def general_loss(model: SentenceTransformer) -> float:
    """Return the contrastive loss on general pairs, none of which a contrastive recovery trains on."""
    triplets = read_triplets(testbed() / "calibration" / "general.jsonl")
    positive_of = different((item.query, item.positive) for item in triplets)
    queries, positives = zip(*random.Random(0).sample(list(positive_of.items()), GENERAL), strict=True)
    model = for_encoding(model)
    model.max_seq_length = SHORT
    return loss_of(embed(model, queries) @ embed(model, positives).T)


def embed(model: SentenceTransformer, texts: Sequence[str]) -> Tensor:
    """Return normalised embeddings ``(texts, dim)``."""
    return model.encode(list(texts), convert_to_tensor=True, normalize_embeddings=True).float()


def loss_of(similarities: Tensor) -> float:
    """Return the contrastive loss of similarities ``(queries, passages)``, each query's own on the diagonal."""
    temperature = RecoveryOptions.model_fields["temperature"].default
    return cross_entropy(similarities / temperature, torch.arange(len(similarities))).item()


if __name__ == "__main__":
    main()
