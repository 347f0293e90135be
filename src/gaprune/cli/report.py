"""``gaprune report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gaprune.cli.output import show


def report(
    folder: Annotated[Path, typer.Argument(help="Folder that shrink, prune, recover, export or compare wrote.")],
    is_opened: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Write report.html again from the records in a folder: a page that works offline.

    Example: gaprune report pruned --open
    """
    from gaprune.pipelines.report import answer_of, write_report

    page = write_report(folder)
    show(answer_of(folder), f"The page is {page}.")
    if is_opened and typer.launch(str(page)) != 0:
        show("No browser could be opened; open the file yourself.")
