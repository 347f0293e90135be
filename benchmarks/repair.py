"""Whether repair pays and how strong its ridge should be, on held-out calibration triplets of finance alone.

    python benchmarks/repair.py [--write]

InfoNCE over all held-out passages and nDCG@10 of the positive among them, for 160 finance and 160 general triplets
that are not in the calibration sample; all linear weights of all-MiniLM-L6-v2 at 65 %, and half of its FFN neurons.
Finished rows are kept in benchmarks/results/repair.jsonl.
"""

from __future__ import annotations

import argparse
import copy
import sys
from typing import Any

import torch

import gaprune
from forms import quality, split
from gaprune.demo import demo_model
from gaprune.models import load_model
from gaprune.report import markdown_table
from testbed import RESULTS, Lines, machine, put_table

MAX_LENGTH = 64
ROADS: dict[str, dict[str, Any]] = {
    "all weights, 65 %": {"targets": "all", "sparsity": 0.65},
    "width 0.5": {"width": 0.5},
}
FORMS: dict[str, dict[str, Any]] = {
    "dai, not repaired": {"repair": False},
    "dai, ridge 0.01": {"ridge": 0.01},
    "dai, ridge 0.1": {"ridge": 0.1},
    "dai, ridge 1": {"ridge": 1.0},
    "dai, ridge 0.1, no general texts": {"general_share": 0.0},
    "wanda, not repaired": {"criterion": "wanda", "repair": False},
    "wanda, ridge 0.1": {"criterion": "wanda"},
    "sparsegpt, its own update": {"criterion": "sparsegpt"},
}


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    args = parser.parse_args()
    lines = Lines(RESULTS / "repair.jsonl")
    done = {(line["road"], line["form"]): line for line in lines}
    model = load_model(demo_model(), max_length=MAX_LENGTH)
    (domain, domain_held), (general, general_held) = split("finance"), split("general")
    jobs = [("dense", "")] + [
        (road, form) for road in ROADS for form in FORMS if not (road == "width 0.5" and form.startswith("sparsegpt"))
    ]
    for road, form in jobs:
        if (road, form) not in done:
            pruned = model
            if form:
                recipe = ROADS[road] | FORMS[form]
                pruned = gaprune.prune(model, domain=domain, general=general, recipe=recipe).model
            pruned = copy.deepcopy(pruned).to(torch.bfloat16)
            numbers = [*quality(pruned, domain_held), *quality(pruned, general_held)]
            done[road, form] = {"road": road, "form": form, "numbers": numbers, "machine": machine()}
            lines.add(done[road, form])
            sys.stderr.write(f"{road} {form} {numbers}\n")
    rows = [[*job, *(f"{number:.4f}" for number in done[job]["numbers"])] for job in jobs]
    header = ["cut", "form", "finance loss", "finance nDCG@10", "general loss", "general nDCG@10"]
    text = markdown_table(header, rows)
    sys.stdout.write(text)
    if args.write:
        put_table("repair", text)


if __name__ == "__main__":
    main()
