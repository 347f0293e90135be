"""``gaprune inspect``."""

from __future__ import annotations

from typing import Annotated

import typer

from gaprune import api
from gaprune.cli.options import JsonFlag
from gaprune.cli.output import show, show_json
from gaprune.report import footprint_table, percent

__all__ = ["inspect"]


def inspect(
    model: Annotated[str, typer.Argument(help="Model: a folder or a hub id.")],
    trust_remote_code: Annotated[bool, typer.Option(help="Let code that comes with the model run.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show sparsity by layer and kind, and where the model comes from."""
    footprint, provenance = api.inspect(model, trust_remote_code=trust_remote_code)
    if as_json:
        show_json({"footprint": footprint.as_dict(), "provenance": provenance})
        return
    selected = provenance["method"]["matrices"] if provenance else ()
    show(footprint_table(footprint, selected))
    if provenance is None:
        show("GAPrune did not make this model (it has no gaprune.json).")
        return
    method, sparsity = provenance["method"], provenance["sparsity"]
    show(
        f"Pruned from {provenance['parent']['name']} by {method['criterion']} ({', '.join(method['targets'])}): "
        f"{percent(sparsity['of_selected'])} of what was selected, {percent(sparsity['of_model'])} of the whole model."
    )
