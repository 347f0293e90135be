"""``gaprune inspect``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from gaprune.cli.options import JsonFlag
from gaprune.cli.output import recovery_lines, show, show_json
from gaprune.evaluation.cost.footprint import Footprint
from gaprune.pipelines.inspect import inspect as verb
from gaprune.report.tables import footprint_table, percent

__all__ = ["inspect"]

_TOLERANCE = 1e-6


def inspect(
    model: Annotated[str, typer.Argument(help="Model: a folder or a hub id.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a model on the hub.")] = None,
    device: Annotated[str | None, typer.Option(help="Torch device.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Torch dtype to load the model in; its own by default.")] = None,
    trust_remote_code: Annotated[bool, typer.Option(help="Let code that comes with the model run.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show sparsity by matrix, layer and kind, and where the model comes from."""
    footprint, provenance = verb(
        model, revision=revision, device=device, dtype=dtype, trust_remote_code=trust_remote_code
    )
    if as_json:
        show_json({"footprint": footprint.as_dict(), "provenance": provenance})
        return
    show(footprint_table(footprint, provenance["method"].get("matrices", ()) if provenance else ()))
    if provenance is not None:
        show(*_origin(footprint, provenance))
    elif Path(model).is_dir():
        show("GAPrune did not make this model (it has no gaprune.json).")
    else:
        show("Where a model on the hub comes from is not looked up; inspect its downloaded folder for that.")


def _origin(footprint: Footprint, provenance: Mapping[str, Any]) -> list[str]:
    """Return what made the model and what it has now, and whether these differ."""
    method, said = provenance["method"], provenance["sparsity"]["of_selected"]
    if "cuts" in method:
        return _units_origin(footprint, provenance)
    how = f"Pruned from {{}} by {method['criterion']}" if method["criterion"] else "Retrained from {}"
    made = f"{how.format(provenance['parent']['name'])} ({', '.join(method['targets'])})"
    selected = set(method["matrices"])
    if not selected or not selected <= {matrix.name for matrix in footprint.linear_layers}:
        return [f"{made}, says its gaprune.json, but the layers it names are not those of this model."]
    now, whole = footprint.sparsity(selected), footprint.sparsity()
    lines = [
        f"{made}: {percent(now)} of what was selected is zero now, {percent(whole)} of the whole model.",
        *_recoveries(provenance),
    ]
    if abs(now - said) > _TOLERANCE:
        lines.append(
            f"Its gaprune.json says {percent(said)} of what was selected: the weights have changed since it was "
            "written, as they do when retraining fills zeros."
        )
    return lines


def _recoveries(provenance: Mapping[str, Any]) -> list[str]:
    """Return how it was retrained, in the words of the command that did it."""
    return [line for recovery in provenance.get("recovery", ()) for line in recovery_lines(recovery)]


def _units_origin(footprint: Footprint, provenance: Mapping[str, Any]) -> list[str]:
    """Return what was cut out of the parent, and whether the size is still what it was then."""
    sparsity = provenance["sparsity"]
    cuts = ", ".join(f"{cut['kind']} {cut['removed']:,} of {cut['total']:,}" for cut in provenance["method"]["cuts"])
    made = f"Cut out of {provenance['parent']['name']} by {provenance['method']['criterion']}: {cuts}"
    lines = [
        f"{made}; {footprint.parameters:,} of its {sparsity['parent_parameters']:,} parameters are left.",
        *_recoveries(provenance),
    ]
    if footprint.parameters != sparsity["parameters"]:
        lines.append(f"Its gaprune.json says {sparsity['parameters']:,}: the model has changed since it was written.")
    return lines
