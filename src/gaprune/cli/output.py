"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from rich.console import Console, RenderableType

__all__ = ["recovery_lines", "say", "show", "show_json"]

_WIDTH = 140
"""Columns where stdout is a file or a pipe, so that names of layers stand whole."""


def show(*parts: RenderableType) -> None:
    """Print tables and texts on stdout."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=_WIDTH)
    for part in parts:
        if isinstance(part, str):
            console.print(part, highlight=False, markup=False, soft_wrap=True)
        else:
            console.print(part)


def say(text: str) -> None:
    """Print a remark on stderr."""
    Console(stderr=True).print(text, highlight=False, markup=False, soft_wrap=True)


def show_json(content: Any) -> None:
    """Print JSON on stdout, alone."""
    Console(soft_wrap=True).out(json.dumps(content, indent=2), highlight=False)


def recovery_lines(recovery: Mapping[str, Any]) -> list[str]:
    """Return how a recovery went, from what the provenance says of it."""
    training = recovery["training"]
    masked = training["masked_weights"]
    held = f"{masked:,} weights were kept at zero" if masked else "there were no zeros to keep"
    lines = [f"Retrained for {training['steps']} steps, learning rate at most {training['learning_rate']:g}; {held}."]
    if training["before"]:
        before, after = training["before"]["loss"], training["after"]["loss"]
        lines.append(f"Held-out loss {before:.4f} before, {after:.4f} after (step {training['best_step']}).")
        if after >= before:
            lines.append("Note: it did not fall; try another learning rate, more triplets or more steps.")
    if recovery["data"]["negatives_left_out"]:
        lines.append("Negatives that triplets came with were not trained on; hard_negatives=1 takes one of each.")
    return lines
