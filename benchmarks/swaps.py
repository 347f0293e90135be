"""Time and result of swap refinement on genuine weights: layers 1 and 4 of all-MiniLM-L6-v2, 96 finance texts.

    python benchmarks/swaps.py [LABEL]

Every linear layer is pruned by ``w² A_jj``, half and 0.7 of every row and 2:4, and refined by one thread. Time is that
of the processor per weight, the better of two. Results are kept in benchmarks/results/swaps.jsonl under the label; the
table compares all labels; without a label nothing is run. To measure another commit, set PYTHONPATH to its ``src``.
"""

from __future__ import annotations

import argparse
import sys
import time
from statistics import fmean

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from gaprune.criteria.swaps import refine_by_swaps
from gaprune.data.read import read_triplets
from gaprune.models.demo import demo_model
from gaprune.models.load import load_model
from gaprune.report.markdown import markdown_table
from testbed import RESULTS, Lines, machine, testbed

PATTERNS = ("0.5", "0.7", "2:4")
LAYERS = ("layer.1.", "layer.4.")
TEXTS = 96


def main() -> None:
    """Measure the installed version, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("label", nargs="?", help="name of this version in the table; without it, only show the table")
    args = parser.parse_args()
    lines = Lines(RESULTS / "swaps.jsonl")
    if args.label:
        torch.set_num_threads(1)
        model = load_model(demo_model(), device="cpu", max_length=128)
        texts = [each.positive for each in read_triplets(testbed() / "calibration" / "finance.jsonl")[:TEXTS]]
        for name, (weight, moments) in layers(model, texts).items():
            for pattern in PATTERNS:
                figures = measure(weight, moments, pattern)
                lines.add({"label": args.label, "layer": name, "pattern": pattern, "machine": machine(), **figures})
    sys.stdout.write(table(list(lines)))


@torch.no_grad()
def layers(model: SentenceTransformer, texts: list[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the weight and the second moments of the inputs of every linear layer of the two blocks."""
    chosen = {
        name: module
        for name, module in model.transformers_model.named_modules()
        if isinstance(module, torch.nn.Linear) and any(layer in name for layer in LAYERS)
    }
    sums = {name: torch.zeros(module.in_features, module.in_features) for name, module in chosen.items()}
    counts = dict.fromkeys(chosen, 0)

    def add(name: str, inputs: Tensor) -> None:
        rows = inputs.flatten(0, -2)
        sums[name] += rows.T @ rows
        counts[name] += len(rows)

    hooks = [
        module.register_forward_pre_hook(lambda _, args, name=name: add(name, args[0]))
        for name, module in chosen.items()
    ]
    model.encode(texts, batch_size=16)
    for hook in hooks:
        hook.remove()
    return {name: (module.weight.detach(), sums[name] / counts[name]) for name, module in chosen.items()}


def measure(weight: Tensor, moments: Tensor, pattern: str) -> dict[str, float]:
    """Return the time per weight in microseconds, and the sum of the errors of the rows before and after."""
    group = 4 if pattern == "2:4" else weight.shape[1]
    count = 2 if pattern == "2:4" else int(float(pattern) * weight.shape[1])
    order = (weight.square() * moments.diagonal()).unflatten(1, (-1, group)).argsort(2)
    keep = torch.ones_like(order, dtype=torch.bool).scatter_(2, order[:, :, :count], False).view_as(weight)
    times = []
    for _ in range(2):
        begin = time.process_time()
        refined = refine_by_swaps(weight, moments, keep, group=group)
        times.append(time.process_time() - begin)
    errors = {"before": error(weight, moments, keep), "after": error(weight, moments, refined)}
    return {"columns": weight.shape[1], "microseconds": 1e6 * min(times) / weight.numel(), **errors}


def error(weight: Tensor, moments: Tensor, keep: Tensor) -> float:
    """Return the sum of the errors of the rows."""
    pruned = weight * ~keep
    return float(((pruned @ moments) * pruned).sum())


def table(cells: list[dict]) -> str:
    """Return one line for each pattern and number of inputs: means over the layers, for every label."""
    labels = list(dict.fromkeys(cell["label"] for cell in cells))
    header = ["pattern", "inputs", *(f"{label}, {what}" for label in labels for what in ("µs a weight", "error left"))]
    rows = []
    for pattern, columns in dict.fromkeys((cell["pattern"], cell["columns"]) for cell in cells):
        row = [pattern, str(columns)]
        for label in labels:
            those = [
                cell
                for cell in cells
                if (cell["label"], cell["pattern"], cell["columns"]) == (label, pattern, columns)
            ]
            row.append(f"{fmean(cell['microseconds'] for cell in those):.3f}")
            row.append(f"{fmean(cell['after'] / cell['before'] for cell in those):.4f}")
        rows.append(row)
    return markdown_table(header, rows)


if __name__ == "__main__":
    main()
