"""Provenances as records, for tests that need one without a run."""

from __future__ import annotations

from typing import Any

from gaprune.export.provenance import Provenance


def data(name: str, triplets: int, own: int = 0, mined: int = 0, letters: str = "ab") -> dict[str, Any]:
    return {
        "name": name,
        "triplets": triplets,
        "with_own_negatives": own,
        "mined_negatives_each": mined,
        "sha256": letters * 32,
    }


def unstructured(**changes: Any) -> Provenance:
    """Return the provenance of a model with zeros."""
    pruning = {"type": "unstructured", "granularity": "weight", "allocation": "global"}
    content: dict[str, Any] = {
        "made": "2026-11-28T05:00:00+00:00",
        "versions": {"gaprune": "0.1.0"},
        "parent": {
            "name": "org/small-model",
            "local": False,
            "revision": "main",
            "commit": "c0ffee",
            "weights_sha256": "ab" * 32,
        },
        "method": {
            "criterion": "dai",
            "options": {"general_share": 0.2, "tempering": 0.8},
            "pruning": {**pruning, "targets": ["mlp", "attention"], "linear_layers": ["a", "b", "c"]},
        },
        "sparsity": {
            "of_selected": 0.5,
            "of_model": 0.23456,
            "removed": 1000,
            "selected": 2000,
            "parameters": 4263,
            "parent_parameters": 4263,
        },
        "calibration": {
            "domain": data("mine.jsonl", 1234, 1000, 2, "cd"),
            "general": data("sentence-transformers/all-nli", 99, 0, 0, "ef"),
        },
    }
    return Provenance.model_validate(content | changes)


def structured(**changes: Any) -> Provenance:
    """Return the provenance of a model without some of its layers and neurons."""
    removed = [
        {"kind": "depth", "label": "layers", "removed": 2, "total": 6},
        {"kind": "width", "label": "FFN neurons per layer", "removed": 512, "total": 1536},
    ]
    method = {"criterion": "dai", "pruning": {"type": "structured", "removed": removed}}
    sparsity = {
        "of_selected": 0.6,
        "of_model": 0.25,
        "removed": 1000,
        "selected": 1666,
        "parameters": 3000,
        "parent_parameters": 4000,
    }
    return unstructured(**{"method": method, "sparsity": sparsity} | changes)


def reconstruction(*, kept: bool = True) -> dict[str, Any]:
    return {
        "kept": kept,
        "ridge": 0.1,
        "general_share": 0.3,
        "triplets": 40,
        "held_out": 10,
        "degradation_pruned": {"domain": 0.25},
        "degradation_reconstructed": {"domain": 0.125},
    }


def recovery(**changes: Any) -> dict[str, Any]:
    content: dict[str, Any] = {
        "made": "2026-11-28T06:00:00+00:00",
        "versions": {},
        "data": {
            "domain": {"name": "mine.jsonl", "triplets": 900, "sha256": "00"},
            "general": None,
            "held_out": {"name": "mine.jsonl", "triplets": 100, "sha256": "11"},
            "negatives": 0,
            "negatives_left_out": False,
            "general_share": 0.25,
        },
        "steps": 100,
        "batch_size": 32,
        "loss": {"contrastive": 1.0},
        "options": {},
        "training": {
            "steps": 90,
            "best_step": 80,
            "before": {"loss": 0.5},
            "after": {"loss": 0.25},
            "curve": [[0, 0.5], [80, 0.25]],
            "learning_rate": 1e-4,
            "masked_weights": 1000,
            "held_out_triplets": 96,
            "processes": 1,
            "seconds": 2.5,
        },
    }
    return content | changes
