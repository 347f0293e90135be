"""A page of sections as one HTML file that loads nothing."""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gaprune.config.options import CommandOptions

_SHORT = 32
"""Letters of a cell that is not broken."""
_NUMBER = re.compile(r"[-+]?[\d,]*\.?\d+( ?(%|x|ms))?")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a section, in this order: a heading, paragraphs, a picture (SVG), a table, and code."""

    heading: str = ""
    lines: Sequence[str] = ()
    picture: str = ""
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    marked: int | None = None
    code: str = ""

    @property
    def looks(self) -> str:
        """How the table is set: ``facts`` without a header, ``texts`` with long cells, else ``figures``."""
        if not self.header:
            return "facts"
        return "texts" if any(len(cell) > _SHORT for row in self.rows for cell in row) else "figures"

    def is_number(self, column: int) -> bool:
        """Whether a column has numbers alone."""
        cells = [row[column] for row in self.rows if row[column]]
        return bool(self.header and cells) and all(_NUMBER.fullmatch(cell) for cell in cells)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.lines or self.picture or self.rows or self.code)


@dataclass(frozen=True)
class Section:
    """A section of the page."""

    id: str
    title: str
    parts: Sequence[Part]


def render(title: str, sections: Sequence[Section]) -> str:
    """Return the page as HTML; empty parts, and sections of nothing but these, are left out."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    shown = [Section(each.id, each.title, [part for part in each.parts if not part.is_empty]) for each in sections]
    template = Environment(
        loader=PackageLoader("gaprune", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("page.html")
    return template.render(title=title, sections=[each for each in shown if each.parts])


def recipe_text(
    command: str, recorded: Mapping[str, Any], options: type[CommandOptions], without: Collection[str]
) -> str:
    """Return a recipe to copy, under the command that takes it: the recorded options that are not the default.

    Options of the names ``without`` are left out.
    """
    from ruamel.yaml import YAML

    usual = options.model_construct().model_dump(mode="json")
    chosen = {
        name: recorded[name]
        for name in recorded
        if name in usual and name not in without and recorded[name] != usual[name]
    }
    file = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.dump(chosen, file)
    return f"# {command}\n{file.getvalue()}" if chosen else ""
