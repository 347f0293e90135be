"""Results as tables for the terminal, Markdown and the model card; nothing is computed here."""

from gaprune.report.card import model_card
from gaprune.report.figures import require_plots, write_figures
from gaprune.report.markdown import markdown_table
from gaprune.report.tables import (
    check_table,
    comparison_table,
    evaluation_table,
    footprint_table,
    percent,
    texts_table,
)

__all__ = [
    "check_table",
    "comparison_table",
    "evaluation_table",
    "footprint_table",
    "markdown_table",
    "model_card",
    "percent",
    "require_plots",
    "texts_table",
    "write_figures",
]
