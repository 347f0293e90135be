"""The page about a comparison of criteria."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from gaprune.config.recipe import Recipe
from gaprune.evaluation.curves import make_curves
from gaprune.report.front_matter import short_name
from gaprune.report.html import Part, Section, recipe_text, render
from gaprune.report.pictures import curves_picture
from gaprune.report.tables import COMPARISON

if TYPE_CHECKING:
    from gaprune.evaluation.comparison import Comparison

_SPREAD = "± is the standard deviation over samples of the calibration data."
_TITLES = {"sparsity": "By sparsity", "triplets": "By number of triplets"}
_ELSEWHERE = {"triplets", "tasks", "overwrite"}
"""Options of the recipe that are arguments of the command or name places of the run."""


def comparison_page(comparison: Comparison) -> str:
    """Return the page as HTML: who is best, the table, the curves, the data, and how to make it again."""
    several = any(comparison.summary(*each.key[:2], domain, each.triplets).spread is not None
                  for each in comparison.cells for domain in comparison.domains)  # fmt: skip
    table = Part(
        lines=[f"{COMPARISON}.", *([_SPREAD] if several else [])], header=comparison.header(), rows=comparison.rows()
    )
    curves = [
        Part(heading=_TITLES.get(each.name.removeprefix("by-"), f"By {each.x}"), picture=curves_picture(each))
        for each in make_curves(comparison)
    ]
    sections = [
        Section("answer", "The answer", [Part(lines=comparison_answer(comparison))]),
        Section("quality", "Quality", [table]),
        Section("curves", "Curves", curves),
        Section("data", "Data", [_data(comparison.settings)]),
        Section("provenance", "Provenance", [_provenance(comparison.settings)]),
        Section("recipe", "Recipe", [_recipe(comparison)]),
    ]
    what = "criteria compared" if comparison.cells else "beside other models"
    return render(f"{short_name(comparison.name)}, {what}", sections)


def comparison_answer(comparison: Comparison) -> list[str]:
    """Return which criterion is best and how other models compare, in sentences, and the warnings about the scores."""
    return [*_best(comparison), *_others(comparison), *comparison.warnings]


def _best(comparison: Comparison) -> Iterator[str]:
    """Yield the best criterion at each sparsity, in a sentence, and whether it is ahead by more than chance."""
    leads = {(lead.sparsity, lead.domain): lead for lead in comparison.leads}
    for sparsity in comparison.sparsities:
        parts = []
        for domain in comparison.domains:
            found = [(comparison.summary(*cell.key[:2], domain, cell.triplets).mean, cell.criterion)
                     for cell in comparison.cells if cell.sparsity == sparsity]  # fmt: skip
            value, name = max(found)
            where = f"in {domain}" if domain else "over all tasks"
            said = f"{where} {name} is best with {value:.4f}"
            if lead := leads.get((sparsity, domain)):
                ahead = f"{lead.difference} points (95 %)"
                said = f"{where} {lead.best} is best with {value:.4f}, ahead of {lead.following} by {ahead}"
                if lead.is_level:
                    said = f"{where} {lead.best} ({value:.4f}) and {lead.following} are level, {ahead} apart"
            parts.append(f"{said} (the dense parent has {comparison.dense.mean(domain):.4f})")
        yield f"At a sparsity of {sparsity:g}, {', and '.join(parts)}."


def _others(comparison: Comparison) -> Iterator[str]:
    """Yield how fast and how good every other model is, in a sentence."""
    for other in comparison.others:
        differences = " and ".join(
            f"{found} points{f' in {domain}' if domain else ''}" for domain, found in other.differences.items()
        )
        yield (
            f"{other.name} is {other.speed.latency:.1f} times as fast as {short_name(comparison.name)} for one query "
            f"and {other.speed.throughput:.1f} times for batches; its quality differs by {differences} (95 %)."
        )


def _data(settings: Mapping[str, Any]) -> Part:
    rows = [
        (str(sample.get("seed")), kind, str(data["name"]), f"{data['triplets']:,}", str(data["sha256"])[:16])
        for sample in settings.get("calibration", ())
        for kind in ("domain", "general")
        if (data := sample.get(kind))
    ]
    return Part(header=("seed", "kind", "name", "triplets", "SHA-256 of the texts"), rows=rows)


def _provenance(settings: Mapping[str, Any]) -> Part:
    parent, versions = settings.get("parent", {}), settings.get("versions", {})
    rows = [
        ("parent", str(parent.get("name") or settings.get("model") or "")),
        ("tasks", str(settings.get("tasks") or "")),
        ("commit", str(parent.get("commit") or parent.get("revision") or "")),
        ("SHA-256 of the values of the parent's weights", str(parent.get("weights_sha256") or "")),
        ("versions", ", ".join(f"{package} {number}" for package, number in versions.items())),
    ]
    return Part(rows=[row for row in rows if row[1]])


def _recipe(comparison: Comparison) -> Part:
    settings, variants = comparison.settings, comparison.variants
    counts = [str(count) for count in settings.get("triplets", ()) if count is not None]
    seeds = len({cell.seed for cell in comparison.cells})
    sweeps = {sweep.option: ",".join(str(value) for value, _ in sweep.points) for sweep in variants.sweeps}
    ablated = any(variant.change.startswith("without") for variant in variants.by_name.values())
    given = [
        ("--criteria", ",".join(dict.fromkeys(variant.base for variant in variants.by_name.values()))),
        ("--triplets", ",".join(counts)),
        ("--seeds", str(seeds) if seeds > 1 else ""),
        *(("--sweep", f"{option}={values}") for option, values in sweeps.items()),
        *(("--against", name) for name in settings.get("against", ())),
        ("--tasks", "TASKS"),
        ("--out", "DIR"),
    ]
    words = [f"{option} {value}" for option, value in given if value]
    command = " ".join(["gaprune compare --recipe compare.yaml", *(["--ablate"] if ablated else []), *words])
    return Part(
        lines=["Of every path only the last part is recorded: put the folder before it."],
        code=recipe_text(command, settings, Recipe, _ELSEWHERE),
    )
