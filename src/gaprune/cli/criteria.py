"""``gaprune criteria``."""

from __future__ import annotations

from rich.table import Table

from gaprune.cli.options import JsonFlag
from gaprune.cli.output import show, show_json


def criteria(as_json: JsonFlag = False) -> None:
    """List the importance criteria with their formulas, constants and sources."""
    from gaprune.criteria.registry import available
    from gaprune.report.sentences import constants_text

    known = available()
    if as_json:
        show_json(
            {
                name: {
                    "summary": kind.summary,
                    "units": getattr(kind, "unit_summary", None),
                    "layers": getattr(kind, "layer_summary", None),
                    "source": kind.source,
                    "allocation": getattr(kind, "default_allocation", None),
                    "options": {key: field.default for key, field in kind.model_fields.items()},
                }
                for name, kind in known.items()
            }
        )
        return
    table = Table(title="Criteria", title_justify="left", title_style="bold")
    for column in ("name", "importance", "allocation", "constants", "source"):
        table.add_column(column)
    for name, kind in known.items():
        constants = constants_text({key: field.default for key, field in kind.model_fields.items()})
        table.add_row(name, kind.summary, getattr(kind, "default_allocation", None), constants, kind.source)
    units = Table(title="Importance of neurons, head groups and layers", title_justify="left", title_style="bold")
    for column in ("name", "neuron or head group", "layer"):
        units.add_column(column)
    for name, kind in known.items():
        if getattr(kind, "unit_summary", None) or getattr(kind, "layer_summary", None):
            units.add_row(name, getattr(kind, "unit_summary", None) or "", getattr(kind, "layer_summary", None) or "")
    show(table, units, "A criterion with the constant calibration also has the names NAME-general and NAME-mix.")
