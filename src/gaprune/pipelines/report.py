"""``gaprune.write_report``: the page of a model or a comparison, made again from what its folder holds."""

from __future__ import annotations

from pathlib import Path

from gaprune.errors import ModelError
from gaprune.evaluation.comparison import COMPARISON_FILE, Comparison
from gaprune.export.folder import PAGE_FILE, read_queries
from gaprune.export.provenance import PROVENANCE_FILE, Provenance
from gaprune.report.answer import answer_text
from gaprune.report.comparison import comparison_answer, comparison_page
from gaprune.report.page import report_page
from gaprune.util.files import write_text


def write_report(folder: str | Path) -> Path:
    """Write ``report.html`` into a folder, in place of an earlier one, and return its path.

    Args:
        folder: What ``shrink``, ``prune``, ``recover``, ``export`` or ``compare`` wrote.

    Raises:
        ModelError: If GAPrune did not make the folder, or its records cannot be read.
        OutputError: If the page cannot be written.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder.", "Name a folder that GAPrune made.")
    if (provenance := Provenance.read(folder)) is not None:
        page = report_page(provenance, read_queries(folder))
    elif (comparison := Comparison.read(folder)) is not None:
        page = comparison_page(comparison)
    else:
        raise ModelError(
            f"GAPrune did not make {folder} (it has neither {PROVENANCE_FILE} nor {COMPARISON_FILE}).",
            "Name a folder that gaprune shrink, prune, recover, export or compare wrote.",
        )
    return write_text(folder / PAGE_FILE, page)


def answer_of(folder: str | Path) -> str:
    """Return the first sentences of the page of a folder, which :func:`write_report` wrote."""
    if (provenance := Provenance.read(folder)) is not None:
        return answer_text(provenance, provenance.evaluation)
    comparison = Comparison.read(Path(folder))
    return "" if comparison is None else " ".join(comparison_answer(comparison))
