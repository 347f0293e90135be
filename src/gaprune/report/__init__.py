"""Results as tables for the terminal, Markdown and the model card; nothing is computed here."""

from gaprune.report.card import model_card
from gaprune.report.export_card import export_card
from gaprune.report.figures import require_plots, write_figures
from gaprune.report.markdown import markdown_table
from gaprune.report.repair import harm_text
from gaprune.report.section import put_section
from gaprune.report.tables import (
    benchmark_table,
    check_table,
    comparison_table,
    evaluation_table,
    footprint_table,
    percent,
    texts_table,
)
from gaprune.report.targets import target_text

__all__ = [
    "benchmark_table",
    "check_table",
    "comparison_table",
    "evaluation_table",
    "export_card",
    "footprint_table",
    "harm_text",
    "markdown_table",
    "model_card",
    "percent",
    "put_section",
    "require_plots",
    "target_text",
    "texts_table",
    "write_figures",
]
