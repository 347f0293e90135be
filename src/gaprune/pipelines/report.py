"""``gaprune.write_report``: the page of a model, made again from what its folder holds."""

from __future__ import annotations

from pathlib import Path

from gaprune.errors import ModelError
from gaprune.export.folder import PAGE_FILE, read_queries
from gaprune.export.provenance import PROVENANCE_FILE, Provenance
from gaprune.report.page import report_page
from gaprune.util.files import write_text

__all__ = ["write_report"]


def write_report(folder: str | Path) -> Path:
    """Write ``report.html`` into the folder of a model, in place of an earlier one, and return its path.

    Args:
        folder: What ``shrink``, ``prune``, ``recover`` or ``export`` wrote.

    Raises:
        ModelError: If GAPrune did not make the folder, or its provenance cannot be read.
        OutputError: If the page cannot be written.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder.", "Name the folder of a model that GAPrune made.")
    provenance = Provenance.read(folder)
    if provenance is None:
        raise ModelError(
            f"GAPrune did not make {folder} (it has no {PROVENANCE_FILE}).",
            "Name a folder that gaprune shrink, prune, recover or export wrote.",
        )
    return write_text(folder / PAGE_FILE, report_page(provenance, read_queries(folder)))
