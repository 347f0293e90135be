"""The choice between forms of domain importance, on held-out calibration triplets of finance alone.

    python benchmarks/forms.py [--only "dai,dai + reconstruction"] [--write]

All linear weights of all-MiniLM-L6-v2 at 65 %, and half of its FFN neurons; InfoNCE over all held-out passages,
nDCG@10 of the positive among them and the mean cosine distance of their embeddings to the parent's, for 160 finance
and 160 general triplets that are not in the calibration sample. Finished rows are kept in
benchmarks/results/forms.jsonl.
"""

from __future__ import annotations

import argparse
import random
import sys

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from torch.nn import functional

from criteria import WIDTH, Sample, constants
from gaprune.data.read import read_triplets
from gaprune.data.triplets import Triplets
from gaprune.pruning.calibration import CalibrationData
from gaprune.report.markdown import markdown_table
from gaprune.statistics.losses import info_nce
from testbed import RESULTS, Lines, for_encoding, machine, put_table, testbed

CALIBRATION, HELD_OUT = 512, 160
SETTING = "all 0.65"
_ALONE = "dai:general_share=0"
ROWS = (
    "dense", "magnitude", "wanda", "wanda-mix", "obd", f"{_ALONE}:swaps=0", f"{_ALONE}:swaps=0:tempering=0",
    f"{_ALONE}:swaps=0:tempering=1", f"{_ALONE}:tempering=0", f"{_ALONE}:tempering=0.25", _ALONE,
    f"{_ALONE}:tempering=0.75", f"{_ALONE}:tempering=1", f"{_ALONE}:swaps=16", f"{_ALONE}:swaps=512",
    f"{_ALONE}:alpha=0.3", "dai:centred=false", "dai", "sparsegpt", "sparsegpt-mix", "wanda + reconstruction",
    f"{_ALONE}:swaps=0 + reconstruction", f"{_ALONE} + reconstruction", "dai:centred=false + reconstruction",
    "dai + reconstruction",
)  # fmt: skip
WIDTH_ROWS = (
    "magnitude", "activation", "wanda", "dai:centred=false", "dai:general_share=0", "dai",
    "activation + reconstruction",
    "dai:centred=false + reconstruction", "dai + reconstruction",
)  # fmt: skip
QUALITIES = ("loss", "nDCG@10", "distance")


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
    parser.add_argument("--only", default="", help="these rows alone, comma-separated")
    parser.add_argument("--table", action="store_true", help="run nothing, show what is there")
    parser.add_argument("--write", action="store_true", help="put the table into docs/science.md")
    args = parser.parse_args()
    lines = Lines(RESULTS / "forms.jsonl")
    done = {(line["setting"], line["row"]): line for line in lines if line["constants"] == constants(line["row"])}
    cells = [*((SETTING, row) for row in ROWS), *((WIDTH, row) for row in WIDTH_ROWS)]
    only = set(filter(None, args.only.split(",")))
    missing = [cell for cell in cells if cell not in done and (not only or cell[1] in only)]
    if missing and not args.table:
        (domain, domain_held), (general, general_held) = split("finance"), split("general")
        rows = [row for setting, row in missing if setting == SETTING and row != "dense"]
        sample = Sample(
            "finance", 0, data=CalibrationData(domain, general, frozenset(("domain", "general"))), rows=rows
        )
        held = (domain_held, general_held)
        dense = [quality(for_encoding(sample.model), triplets)[2] for triplets in held]
        for setting, row in missing:
            model, report = sample.pruned(row if row == "dense" else setting, row)
            numbers: list[float] = []
            for triplets, before in zip(held, dense, strict=True):
                loss, ndcg, embeddings = quality(for_encoding(model), triplets)
                numbers += [loss, ndcg, 1 - float(functional.cosine_similarity(embeddings, before, dim=1).mean())]
            line = {
                "setting": setting, "row": row, "constants": constants(row), "numbers": numbers, "reconstruct": report,
                "machine": machine(),
            }  # fmt: skip
            done[setting, row] = line
            lines.add(line)
            sys.stderr.write(f"{setting}, {row}: {[round(number, 4) for number in numbers]}\n")
    table = [[*cell, *(f"{number:.4f}" for number in done[cell]["numbers"])] for cell in cells if cell in done]
    header = ["pruning", "form", *(f"{kind} {what}" for kind in ("finance", "general") for what in QUALITIES)]
    text = markdown_table(header, table)
    sys.stdout.write(text)
    if args.write:
        put_table("forms", text, page="science.md")


if __name__ == "__main__":
    main()
