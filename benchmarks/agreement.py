"""How far the paper's DAI, with its published constants, ranks like magnitude.

    python benchmarks/agreement.py

Masks of dai-paper and magnitude are compared at 50 % of the MLP weights of all-MiniLM-L6-v2, with the paper's batch
Fisher and with per-triplet Fisher, on the sample triplets of the package.
"""

from __future__ import annotations

import sys

from gaprune.config.measurement import FisherKind
from gaprune.config.recipe import Recipe
from gaprune.criteria.registry import create
from gaprune.data.read import read_triplets
from gaprune.data.samples import sample_triplets
from gaprune.models.demo import demo_model
from gaprune.models.linear_layers import linear_layers, select
from gaprune.models.load import load_model
from gaprune.models.prompts import resolve_prompts
from gaprune.pruning.scoring import score
from gaprune.report.markdown import markdown_table
from gaprune.statistics.measure import measure

TRIPLETS = 128


def agreement(fisher: FisherKind) -> dict[str, float]:
    """Return the share of equal decisions, and the size of the formula's two terms."""
    model = load_model(demo_model(), max_length=128)
    chosen = select(linear_layers(model), ["mlp"])
    paper = create("dai-paper")
    options = Recipe(fisher=fisher)
    domain, general = (
        measure(
            model,
            read_triplets(sample_triplets(kind)).take(TRIPLETS, seed=0),
            chosen,
            statistics=paper.weight_needs.domain,
            prompts=resolve_prompts(model),
            options=options,
            label=kind,
        )
        for kind in ("finance", "general")
    )
    masks = [
        score(chosen, create(name), name, domain=domain, general=general, seed=0).decide({}, sparsity=0.5).keep
        for name in ("dai-paper", "magnitude")
    ]
    equal = sum(int((masks[0][name] == masks[1][name]).sum()) for name in masks[0])
    size = sum(mask.numel() for mask in masks[0].values())
    weights = {matrix.name: matrix.module.weight.detach().abs() for matrix in chosen}
    return {
        "agreement": equal / size,
        "F|w|": sum(float((domain[name].fisher * weight).sum()) for name, weight in weights.items()) / size,
        "0.5 sqrt|w|": sum(float((0.5 * weight.sqrt()).sum()) for weight in weights.values()) / size,
    }


def main() -> None:
    """Print the table."""
    rows = []
    for fisher in ("batch", "triplet"):
        found = agreement(fisher)
        rows.append([fisher, f"{found['agreement']:.4%}", f"{found['F|w|']:.1e}", f"{found['0.5 sqrt|w|']:.2f}"])
    sys.stdout.write(markdown_table(["Fisher", "same decision", "mean F·abs(w)", "mean 0.5·sqrt(abs(w))"], rows))


if __name__ == "__main__":
    main()
