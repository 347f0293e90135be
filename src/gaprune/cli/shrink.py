"""``gaprune shrink``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gaprune.cli.files import named
from gaprune.cli.options import silence, with_options
from gaprune.cli.output import opening, show
from gaprune.config.shrink import ShrinkOptions

_VISIBLE = ("domain", "general", "speedup", "size", "runtime", "minutes", "out", "overwrite")
"""Options with a flag of their own."""


@with_options(ShrinkOptions, *_VISIBLE)
def shrink(
    options: dict[str, Any],
    model: Annotated[
        str | None, typer.Argument(help="Parent model: a folder, a hub id or demo.", callback=named)
    ] = None,
) -> None:
    """Make a model smaller and faster for a domain: prune, reconstruct, distil, judge, and write it.

    Example: gaprune shrink sentence-transformers/all-MiniLM-L6-v2 --domain documents --speedup 3 --out small
    """
    from gaprune.pipelines.shrink import shrink as verb
    from gaprune.report.answer import answer_text
    from gaprune.report.shrink import HEADER, remarks, shrink_rows
    from gaprune.report.tables import plain_table

    with silence(is_quiet=False, is_json=False):
        result = verb(model, recipe=options)
    title = answer_text(result.provenance, result.evaluation)
    notes = remarks(result.provenance, result.evaluation)
    show(plain_table(title, HEADER, shrink_rows(result.provenance, result.evaluation)), *notes, opening(result.out))
    if result.exported is not None:
        show(f"Written for {result.provenance.shrink.runtime} in int8 to {result.exported}.")  # type: ignore[union-attr]
