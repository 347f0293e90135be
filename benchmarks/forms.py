"""The choice between forms of domain importance, on held-out calibration triplets of finance alone.

    python benchmarks/forms.py [--write]

All linear weights of all-MiniLM-L6-v2 at 65 %, and half of its FFN neurons; InfoNCE over all held-out passages,
nDCG@10 of the positive among them and the mean cosine distance of their embeddings to the parent's, for 160 finance
and 160 general triplets that are not in the calibration sample. Finished rows are kept in
benchmarks/results/forms.jsonl.
"""

from __future__ import annotations

import argparse
import copy
import random
import sys
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from torch.nn import functional

import gaprune
from gaprune.criteria import create
from gaprune.data import Triplets, read_triplets
from gaprune.demo import demo_model
from gaprune.models import load_model
from gaprune.report import markdown_table
from gaprune.signals import info_nce
from testbed import RESULTS, Lines, machine, put_table, testbed

CALIBRATION, HELD_OUT, MAX_LENGTH = 512, 160, 64
WEIGHTS: dict[str, dict[str, Any]] = {
    "dense": {},
    "magnitude": {"criterion": "magnitude"},
    "wanda": {"criterion": "wanda"},
    "dai without exchanges": {"exchanges": 0},
    "dai without exchanges, tempering 0": {"exchanges": 0, "tempering": 0.0},
    "dai without exchanges, tempering 1": {"exchanges": 0, "tempering": 1.0},
    "dai, budget by row": {"allocation": "row"},
    "dai, tempering 0": {"tempering": 0.0},
    "dai, tempering 0.25": {"tempering": 0.25},
    "dai": {},
    "dai, tempering 0.75": {"tempering": 0.75},
    "dai, tempering 1": {"tempering": 1.0},
    "dai, 16 exchanges": {"exchanges": 16},
    "dai, general 0.3": {"general": 0.3},
    "dai, alpha 0.3": {"alpha": 0.3},
    "sparsegpt (updates)": {"criterion": "sparsegpt"},
    "dai + repair": {"repair": True},
    "dai + repair, ridge 0.01": {"repair": True, "ridge": 0.01},
    "dai + repair, ridge 1": {"repair": True, "ridge": 1.0},
    "dai + repair on 384 triplets": {"repair": True, "repair_triplets": 384},
    "dai + repair, no general texts": {"repair": True, "general_share": 0.0},
}
UNITS: dict[str, dict[str, Any]] = {
    "magnitude": {"criterion": "magnitude"},
    "activation": {"criterion": "activation"},
    "wanda": {"criterion": "wanda"},
    "dai": {},
    "dai, general 0.3": {"general": 0.3},
    "activation + repair": {"criterion": "activation", "repair": True},
    "dai + repair": {"repair": True},
}
ROADS = {
    "all weights, 65 %": (WEIGHTS, {"targets": "all", "sparsity": 0.65}),
    "width 0.5": (UNITS, {"width": 0.5}),
}


def split(kind: str) -> tuple[Triplets, Triplets]:
    """Return a calibration sample of the test bed, and held-out triplets."""
    triplets = read_triplets(testbed() / "calibration" / f"{kind}.jsonl")
    order = random.Random(0).sample(range(len(triplets)), CALIBRATION + HELD_OUT)
    return (
        Triplets([triplets[index] for index in order[:CALIBRATION]], kind),
        Triplets([triplets[index] for index in order[CALIBRATION:]], kind),
    )


def quality(model: SentenceTransformer, triplets: Triplets) -> tuple[float, float, Tensor]:
    """Return the mean InfoNCE loss over all passages, nDCG@10 of the positives, and all embeddings."""
    passages = [passage for item in triplets for passage in item.passages]
    owners = torch.tensor([index for index, item in enumerate(triplets) for _ in item.passages])
    queries = model.encode([item.query for item in triplets], convert_to_tensor=True, show_progress_bar=False)
    found = model.encode(passages, convert_to_tensor=True, show_progress_bar=False)
    queries, found = functional.normalize(queries.float(), dim=1), functional.normalize(found.float(), dim=1)
    loss = info_nce(queries, found, owners, temperature=0.05, in_batch=True).mean()
    similarity = queries @ found.T
    own = torch.searchsorted(owners, torch.arange(len(triplets)))
    rank = (similarity > similarity.gather(1, own[:, None])).sum(1)
    gain = torch.where(rank < 10, 1 / torch.log2(rank + 2.0), torch.zeros(()))
    return float(loss), float(gain.mean()), torch.cat([queries, found])


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="run nothing, show what is there")
    parser.add_argument("--write", action="store_true", help="put the table into docs/science.md")
    args = parser.parse_args()
    lines = Lines(RESULTS / "forms.jsonl")
    defaults = create("dai").model_dump()
    done = {(line["road"], line["form"]): line for line in lines if line["defaults"] == defaults}
    parent = load_model(demo_model(), device="cpu", max_length=MAX_LENGTH)
    (domain, domain_held), (general, general_held) = split("finance"), split("general")
    held = (domain_held, general_held)
    dense = [] if args.table else [quality(rounded(parent), triplets)[2] for triplets in held]
    for road, (forms, options) in ROADS.items():
        for form, changes in forms.items():
            if (road, form) in done or args.table:
                continue
            model = parent
            if form != "dense":
                constants = {key: value for key, value in changes.items() if key in defaults}
                rest = {key: value for key, value in changes.items() if key not in defaults}
                recipe = {"repair": False, "criterion_options": constants} | options | rest
                model = gaprune.prune(parent, domain=domain, general=general, recipe=recipe).model
            numbers: list[float] = []
            for triplets, before in zip(held, dense, strict=True):
                loss, ndcg, embeddings = quality(rounded(model), triplets)
                distance = 1 - float(functional.cosine_similarity(embeddings, before, dim=1).mean())
                numbers += [loss, ndcg, distance]
            line = {"road": road, "form": form, "defaults": defaults, "numbers": numbers, "machine": machine()}
            done[road, form] = line
            lines.add(line)
            sys.stderr.write(f"{road}, {form}: {[round(number, 4) for number in numbers]}\n")
    rows = [
        [road, form, *(f"{number:.4f}" for number in done[road, form]["numbers"])]
        for road, (forms, _) in ROADS.items()
        for form in forms
        if (road, form) in done
    ]
    header = ["cut", "form", *(f"{kind} {what}" for kind in ("finance", "general") for what in QUALITIES)]
    text = markdown_table(header, rows)
    sys.stdout.write(text)
    if args.write:
        put_table("forms", text, page="science.md")


QUALITIES = ("loss", "nDCG@10", "distance")


def rounded(model: SentenceTransformer) -> SentenceTransformer:
    """Return a copy in bfloat16."""
    return copy.deepcopy(model).to(torch.bfloat16)


if __name__ == "__main__":
    main()
