"""The choice between forms of domain importance, on held-out calibration triplets of finance alone.

    python benchmarks/forms.py

All linear weights of all-MiniLM-L6-v2 at 65 %; InfoNCE over all held-out passages and nDCG@10 of the positive among
them, for 160 finance and 160 general triplets that are not in the calibration sample.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping

import torch
from sentence_transformers import SentenceTransformer
from torch.nn import functional

from gaprune.anatomy import matrices, select
from gaprune.config import Allocation, Recipe
from gaprune.criteria import create
from gaprune.data import Triplets, read_triplets
from gaprune.demo import demo_model
from gaprune.models import load_model, resolve_prompts
from gaprune.report import markdown_table
from gaprune.scores import score
from gaprune.signals import info_nce, measure
from gaprune.surgery import apply
from testbed import testbed

CALIBRATION, HELD_OUT, SPARSITY = 512, 160, 0.65
FORMS: tuple[tuple[str, Mapping[str, object], Allocation], ...] = (
    ("wanda", {}, "row"),
    ("obd", {}, "global"),
    ("obd", {}, "row"),
    ("dai", {"smoothing": 1.0}, "global"),
    ("dai", {"smoothing": 1.0}, "matrix"),
    ("dai", {"smoothing": 1.0}, "row"),
    ("dai", {"smoothing": 0.8}, "global"),
    ("dai", {"smoothing": 0.6}, "global"),
    ("dai", {"smoothing": 0.8, "general": 0.3}, "global"),
    ("dai", {"smoothing": 0.8, "alpha": 0.3}, "global"),
)


def split(kind: str) -> tuple[Triplets, Triplets]:
    """Return a calibration sample of the test bed, and held-out triplets."""
    triplets = read_triplets(testbed() / "calibration" / f"{kind}.jsonl")
    order = random.Random(0).sample(range(len(triplets)), CALIBRATION + HELD_OUT)
    return (
        Triplets([triplets[index] for index in order[:CALIBRATION]], kind),
        Triplets([triplets[index] for index in order[CALIBRATION:]], kind),
    )


def quality(model: SentenceTransformer, triplets: Triplets) -> tuple[float, float]:
    """Return the mean InfoNCE loss over all passages, and nDCG@10 of the positives."""
    passages = [passage for item in triplets for passage in item.passages]
    owners = torch.tensor([index for index, item in enumerate(triplets) for _ in item.passages])
    queries = model.encode([item.query for item in triplets], convert_to_tensor=True, show_progress_bar=False)
    found = model.encode(passages, convert_to_tensor=True, show_progress_bar=False)
    loss = info_nce(queries, found, owners, temperature=0.05, in_batch=True).mean()
    similarity = functional.normalize(queries, dim=1) @ functional.normalize(found, dim=1).T
    own = torch.searchsorted(owners, torch.arange(len(triplets)))
    rank = (similarity > similarity.gather(1, own[:, None])).sum(1)
    gain = torch.where(rank < 10, 1 / torch.log2(rank + 2.0), torch.zeros(()))
    return float(loss), float(gain.mean())


def main() -> None:
    """Print the table."""
    model = load_model(demo_model(), max_length=128)
    chosen = select(matrices(model), ["all"])
    weights = {matrix.name: matrix.module.weight.detach() for matrix in chosen}
    (domain, domain_held), (general, general_held) = split("finance"), split("general")
    signals = [
        measure(
            model,
            triplets,
            chosen,
            quantities=quantities,
            prompts=resolve_prompts(model),
            options=Recipe(),
            label=triplets.name,
        )
        for triplets, quantities in (
            (domain, ("fisher", "gradient", "input_square")),
            (general, ("fisher", "gradient")),
        )
    ]

    def row(name: str, pruned: SentenceTransformer) -> list[str]:
        numbers = [*quality(pruned, domain_held), *quality(pruned, general_held)]
        sys.stderr.write(f"{name} {numbers}\n")
        return [name, *(f"{number:.4f}" for number in numbers)]

    rows = [row("dense", model)]
    for name, options, allocation in FORMS:
        scores = score(chosen, create(name, options), name, domain=signals[0], general=signals[1], seed=0)
        pruning = scores.decide(weights, sparsity=SPARSITY, allocation=allocation)
        constants = "".join(f" {key}={value}" for key, value in options.items())
        rows.append(row(f"{name}{constants}, {allocation}", apply(model, pruning)))
    header = ["form", "finance loss", "finance nDCG@10", "general loss", "general nDCG@10"]
    sys.stdout.write(markdown_table(header, rows))


if __name__ == "__main__":
    main()
