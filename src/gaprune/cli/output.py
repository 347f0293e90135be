"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import os
from typing import Any

from rich.console import Console, RenderableType

__all__ = ["say", "show", "show_json"]

_WIDTH = 140
"""Columns if stdout is a file or a pipe, so that names of layers are not folded."""


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
