"""Prunes tiny models on the CPU and on the fake device, and says how far the results are apart.

    python tests/pruned_on_fake_device.py [CASE ...]

For a process of its own, because torch knows the fake device from the import of its module to the end of the process.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import torch
from sentence_transformers import SentenceTransformer

import gaprune
from fake_device import FakeDevice, is_on_device, moved
from families import FAMILIES, TEXTS
from gaprune.models import obstacles
from gaprune.models.load import load_model
from toys import GENERAL

CASES = {
    "bert, zeros": ("bert", {"sparsity": 0.5}),
    "bert, layers and neurons": ("bert", {"depth": 1, "width": 0.5, "round_to": 8}),
    "qwen3, heads and neurons": ("qwen3", {"heads": 0.5, "width": 0.5, "round_to": 8}),
    "bert, hidden dimensions": ("bert", {"hidden": 0.25, "round_to": 4}),
}


def compared(cases: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return by case the largest difference of a weight, the least share of equal zeros, and where the model is."""
    triplets = [gaprune.Triplet(text[:12], text, (TEXTS[place - 1],)) for place, text in enumerate(TEXTS)]
    found = {}
    with TemporaryDirectory() as folder:
        for case in cases:
            family, options = CASES[case]
            parent = FAMILIES[family](Path(folder) / case)
            common = {
                "domain": triplets,
                "general": GENERAL,
                "precision": "float32",
                "memory_budget": "1GB",
                **options,
            }

            def pruned(model: SentenceTransformer, common: dict[str, object] = common) -> dict[str, torch.Tensor]:
                return gaprune.prune(model, **common).model.state_dict()

            wanted = pruned(load_model(parent, device="cpu"))
            model = load_model(parent, device="cpu")
            # weights of any class but torch's own are refused, as they may be packed
            with mock.patch.object(obstacles, "_is_plain", return_value=True), FakeDevice():
                made = pruned(moved(model))
                on_device = all(is_on_device(tensor) for tensor in made.values())
                values = {name: tensor.cpu() for name, tensor in made.items()}
            found[case] = {
                "names": values.keys() == wanted.keys(),
                "on the device": on_device,
                "difference": max(float((values[name] - each).abs().max()) for name, each in wanted.items()),
                "zeros": min(
                    float(((values[name] == 0) == (each == 0)).float().mean()) for name, each in wanted.items()
                ),
            }
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(compared(sys.argv[1:] or CASES)) + "\n")
