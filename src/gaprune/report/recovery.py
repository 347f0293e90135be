"""What a model card says of a recovery."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gaprune.report.markdown import markdown_table
from gaprune.report.reconstruction import reconstruction_text
from gaprune.report.tables import percent

__all__ = ["recovery_section"]


def recovery_section(recovery: Mapping[str, Any]) -> str:
    """Return how a model was recovered, as Markdown, from what its provenance says of it."""
    options, training, data = recovery["options"], recovery["training"], recovery["data"]
    kinds = [kind for kind in ("domain", "general", "held_out") if data[kind] is not None]
    rows = [
        *_round(recovery),
        ("steps", f"{training['steps']} of {options['steps']}, weights of step {training['best_step']}"),
        ("triplets a step", f"{options['batch_size']}, {data['general_share']:.0%} of them general"),
        ("loss", _loss(options)),
        ("learning rate", f"{training['learning_rate']:g}"),
        ("trained", f"low-rank updates of rank {options['lora']}, merged" if options["lora"] else "all weights"),
        ("weights kept at zero", f"{training['masked_weights']:,}"),
        *_held_out(training),
        *(
            (f"{kind.replace('_', ' ')} triplets", f"{data[kind]['triplets']:,} of {data[kind]['name']}")
            for kind in kinds
        ),
    ]
    return markdown_table(["", "value"], rows)


def _round(recovery: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what was pruned just before, where pruning and recovery took turns."""
    if "round" not in recovery:
        return []
    sparsity, reconstruct = recovery["round"]["sparsity"], recovery["round"]["reconstruct"]
    return [
        (
            "pruned before it",
            f"to {percent(sparsity)} of the selected weights; repair: {reconstruction_text(reconstruct)}",
        )
    ]


def _loss(options: Mapping[str, Any]) -> str:
    terms = [(options["contrastive_weight"], "contrastive")]
    if options["distil"]:
        terms += [
            (options["embedding_weight"], "distance to the parent's embeddings"),
            (options["similarity_weight"], "distance to the parent's similarities"),
        ]
    return " + ".join(f"{weight:g} * {name}" for weight, name in terms if weight)


def _held_out(training: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not training["before"]:
        return []
    return [("held-out loss", f"{training['before']['loss']:.4f} before, {training['after']['loss']:.4f} after")]
