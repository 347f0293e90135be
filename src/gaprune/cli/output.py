"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from gaprune.util.progress import say

_WIDTH = 140
"""Columns if stdout is a file or a pipe, so that names of layers are not cut."""


def show(*parts: RenderableType) -> None:
    """Print tables and texts on stdout."""
    console = Console(markup=False)  # brackets are brackets
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=_WIDTH, markup=False)
    for part in parts:
        if isinstance(part, str):
            console.print(part, highlight=False, soft_wrap=True)
        else:
            console.print(part)


def show_json(content: Any) -> None:
    """Print JSON on stdout, and nothing else."""
    Console(soft_wrap=True).out(json.dumps(content, indent=2), highlight=False)


def answer(content: Any, *parts: RenderableType, quiet: bool, as_json: bool) -> None:
    """Print a result: as JSON, as tables and texts, or not at all."""
    if as_json:
        show_json(content)
    elif not quiet:
        show(*(part for part in parts if part))


def opening(folder: str | Path) -> str:
    """Return where a model was written, and how it is opened; a folder here is named from here."""
    path, here = Path(folder), Path.cwd()
    shown = path.relative_to(here) if path.is_relative_to(here) else path
    return f'Written to {shown}; open it with SentenceTransformer("{shown}"). Its page is {shown / "report.html"}.'


def remark(text: str, *, quiet: bool = False) -> None:
    """Print a remark on stderr, unless ``quiet``."""
    if not quiet:
        say(text)
