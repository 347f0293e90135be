"""The reference pages, made from the code when the site is built: every command and option, every public name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File, Files
from typer.models import ArgumentInfo

import gaprune
from gaprune import criteria
from gaprune.cli.commands import COMMANDS
from gaprune.cli.listing import options, rows_of

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig

_EXAMPLE = re.compile(r"Example: (.*)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that no file holds (called by mkdocs)."""
    for name, lines in (("commands", _commands()), ("python", _python())):
        files.append(File.generated(config, f"reference/{name}.md", content="\n".join(lines)))
    return files


def on_page_content(html: str, **_: object) -> str:
    """Remove the roles of Sphinx from docstrings (called by mkdocs)."""
    return re.sub(r":(?:func|class|meth|mod):(?=<code)", "", html)


def _commands() -> Iterator[str]:
    """Yield the lines of the page of all commands."""
    yield "# Commands"
    yield ""
    yield "Every command with all its options. An option without a flag is set by `--set NAME=VALUE` or, where there"
    yield "is `--recipe FILE`, in such a file, which takes all; in Python it is an argument of the same name."
    for name, function in {**COMMANDS, "options": options}.items():
        yield f"\n## gaprune {name}\n"
        yield _EXAMPLE.sub(r"\n```sh\n\1\n```", inspect.getdoc(function) or "")
        yield from _table(("argument", "meaning"), _arguments(function))
        rows = rows_of(name) if name in COMMANDS else ()
        for group in dict.fromkeys(row["group"] for row in rows):
            of_group = [row for row in rows if row["group"] == group]
            cells = [(f"`{row['flag'] or row['name']}`", row["type"], row["help"]) for row in of_group]
            yield from _table((group.lower(), "type", "meaning"), cells)


def _arguments(function: Any) -> Iterator[tuple[str, str]]:
    """Yield name and meaning of every argument that has no flag."""
    for each in inspect.signature(function, eval_str=True).parameters.values():
        for stated in getattr(each.annotation, "__metadata__", ()):
            if isinstance(stated, ArgumentInfo):
                yield f"`{each.name.upper()}`", stated.help or ""


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Yield the lines of a table, if it has rows."""
    cells = [tuple(cell.replace("|", "\\|").replace("<", "&lt;") for cell in row) for row in rows]
    if cells:
        yield from ("", f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}")
        yield from (f"| {' | '.join(row)} |" for row in cells)


def _python() -> Iterator[str]:
    """Yield the lines of the page of all public names of Python."""
    yield "# Python"
    verbs = [name for name in gaprune.__all__ if name.islower()]
    parts = {
        "Functions": ("gaprune", verbs),
        "Results, options and data": ("gaprune", [name for name in gaprune.__all__ if name not in verbs]),
        "Criteria of your own": ("gaprune.criteria", criteria.__all__),
    }
    for title, (module, names) in parts.items():
        yield f"\n## {title}\n"
        for name in names:
            yield f"\n::: {module}.{name}\n    options: {{heading_level: 3}}\n"
