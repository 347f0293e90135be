"""The page about a result: one HTML file that loads nothing, made from the provenance alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaprune.config.recipe import Recipe
from gaprune.config.recovery import RecoveryOptions
from gaprune.config.shrink import ShrinkOptions
from gaprune.export.records import Structured
from gaprune.report.answer import answer_text
from gaprune.report.front_matter import short_name
from gaprune.report.html import Part, Section, recipe_text, render
from gaprune.report.index import INDEX_COLUMNS, SIZE_COLUMNS, index_rows, index_text, size_rows
from gaprune.report.pictures import removed_picture, training_picture
from gaprune.report.rows import (
    DATA_COLUMNS,
    EVALUATION_COLUMNS,
    TRAINING_COLUMNS,
    data_rows,
    evaluation_rows,
    method_rows,
    recovery_rows,
    training_rows,
)
from gaprune.report.sentences import ZEROS, export_lines, leak_lines, recovery_lines, summary
from gaprune.report.shrink import HEADER, cost_rows, is_held_out, remarks

if TYPE_CHECKING:
    from gaprune.evaluation.quality.changed import ChangedQueries, Found
    from gaprune.evaluation.quality.scores import Evaluation
    from gaprune.export.provenance import Provenance

_MIX_COLUMNS = (
    "layers", "FFN neurons per layer", "hidden dimensions", "tokens", "parameters", "speedup",
    "estimated degradation",
)  # fmt: skip
_INTERVALS = (
    "In brackets: the 95 % interval of the change over the queries or texts of a task. If it holds 0, the change can "
    "be chance."
)
_NO_INTERVALS = (
    "A task without brackets has no interval, because no results of single queries are known: mteb gives none."
)
_PLACES = {"out", "tasks", "scores", "checkpoint", "overwrite", "resume"}
"""Options that name places of the run that was recorded."""


def report_page(provenance: Provenance, queries: ChangedQueries | None = None) -> str:
    """Return the page as HTML; the same provenance and queries give the same page.

    It has a section for everything that the provenance holds, and none for what it does not hold.
    """
    evaluation = provenance.evaluation
    sections = [
        Section("answer", "The answer", _answer(provenance, evaluation)),
        Section("quality", "Quality", _quality(provenance, evaluation)),
        Section("removed", "What was removed", _removed(provenance)),
        Section("cost", "Cost", _cost(provenance)),
        Section("mixes", "Mixes that were considered", _mixes(provenance)),
        Section("recovery", "Recovery", _recoveries(provenance)),
        Section("queries", "Queries that changed", _queries(provenance, evaluation, queries)),
        Section("data", "Data", _data(provenance)),
        Section("provenance", "Provenance", _provenance(provenance)),
        Section("recipe", "Recipe", _recipes(provenance)),
    ]
    title = f"{short_name(provenance.parent.name)}, {'pruned' if provenance.method.criterion else 'fine-tuned'}"
    return render(title, sections)


def _answer(provenance: Provenance, evaluation: Evaluation | None) -> list[Part]:
    notes = [] if evaluation is None or provenance.shrink is None else remarks(provenance, evaluation)
    return [Part(lines=[answer_text(provenance, evaluation), *notes, *leak_lines(provenance)])]


def _quality(provenance: Provenance, evaluation: Evaluation | None) -> list[Part]:
    if evaluation is None:
        return []
    said = index_text(evaluation, short_name(provenance.beside or provenance.parent.name))
    index = [said] if said else []
    changed = [each.interval is not None for each in evaluation.scores if each.parent is not None]
    return [
        Part(
            lines=[_INTERVALS] * any(changed) + [_NO_INTERVALS] * (not all(changed)),
            header=EVALUATION_COLUMNS,
            rows=evaluation_rows(evaluation),
        ),
        Part(heading="In the parent's index", lines=index, header=INDEX_COLUMNS, rows=index_rows(evaluation)),
        Part(heading="Size of the index", header=SIZE_COLUMNS, rows=size_rows(evaluation)),
    ]


def _queries(provenance: Provenance, evaluation: Evaluation | None, queries: ChangedQueries | None) -> list[Part]:
    if evaluation is None or queries is None:
        return []
    changed = [
        Part(
            heading=each.query,
            lines=[f"{word}: nDCG@10 {each.value:.3f}, the parent's {each.parent:.3f}."],
            header=("this model finds", "its parent finds"),
            rows=[(_hit(mine), _hit(its)) for mine, its in zip(each.found, each.found_by_parent, strict=True)],
        )
        for word, found in (("Worse", queries.worse), ("Better", queries.better))
        for each in found
    ]
    kind = "held-out queries" if is_held_out(provenance, evaluation) else "queries of the tasks"
    lines = [f"The {kind} whose nDCG@10 changed most; ✓ marks the relevant documents."]
    return [Part(lines=lines), *changed] if changed else []


def _hit(found: Found) -> str:
    return f"✓ {found.text}" if found.is_relevant else found.text


def _removed(provenance: Provenance) -> list[Part]:
    if provenance.method.criterion is None:
        return []
    lines = [f"{summary(provenance)}."]
    return [Part(lines=lines, picture=removed_picture(provenance), rows=method_rows(provenance))]


def _cost(provenance: Provenance) -> list[Part]:
    if not isinstance(provenance.method.pruning, Structured):
        return [Part(lines=[ZEROS])] if provenance.sparsity.removed else []
    made = provenance.shrink
    if made is None:
        lines = ["Its speed was not measured: `gaprune bench` does so, beside its parent."]
        return [Part(lines=lines, header=HEADER, rows=cost_rows(provenance))]
    stages = ", ".join(f"{stage} {minutes:.1f}" for stage, minutes in made.minutes.items())
    lines = [
        f"The speed was measured with {made.runtime}, the models in turn, each the median of several rounds.",
        f"Making it took {sum(made.minutes.values()):.1f} minutes (by stage: {stages}).",
        *(
            [f"The search expected a speedup of {', then '.join(f'{each:.2f}' for each in made.expected)}."]
            if made.expected
            else []
        ),
    ]
    return [Part(lines=lines, header=HEADER, rows=cost_rows(provenance))]


def _mixes(provenance: Provenance) -> list[Part]:
    pruning = provenance.method.pruning
    if not isinstance(pruning, Structured) or pruning.target is None:
        return []
    target = pruning.target
    rows = [
        (
            f"{each.layers} of {target.parent.layers}",
            f"{each.width:,} of {target.parent.width:,}",
            f"{each.hidden}" if each.heads is None else f"{each.hidden}, {each.heads} head groups",
            f"{each.tokens:,}",
            f"{each.parameters:,}",
            f"{each.speedup:.2f}",
            f"{each.estimated_degradation:.4f}",
        )
        for each in target.candidates
    ]
    marked = target.candidates.index(target.chosen) if target.chosen in target.candidates else None
    speeds = (
        "are expected, by timings of such layers"
        if target.measured
        else "are numbers of operations per token in the linear layers"
    )
    said = "The mix in bold type was chosen: of those expected to meet the target it is estimated to lose least."
    lines = [f"{said} Speedups {speeds}."]
    return [Part(lines=lines, header=_MIX_COLUMNS, rows=rows, marked=marked)]


def _recoveries(provenance: Provenance) -> list[Part]:
    several = len(provenance.recoveries) > 1
    return [
        Part(
            heading=f"Recovery {number}" if several else "",
            lines=recovery_lines(each),
            picture=training_picture(each, f"recovery-{number}"),
            rows=recovery_rows(each),
        )
        for number, each in enumerate(provenance.recoveries, start=1)
    ]


def _data(provenance: Provenance) -> list[Part]:
    parts = [Part(heading="Calibration", header=DATA_COLUMNS, rows=data_rows(provenance.calibration))]
    rows = [row for each in provenance.recoveries for row in training_rows(each.data)]
    parts.append(Part(heading="Training", header=TRAINING_COLUMNS, rows=list(dict.fromkeys(rows))))
    made = provenance.shrink
    if made is not None:
        origin = "given by the user" if made.is_labelled else "made from documents"
        counts = (
            f"{made.training_triplets:,} training triplets ({origin}), {made.texts:,} texts for distillation, and "
            f"{made.held_out_queries:,} held-out queries."
        )
        parts.append(Part(heading="Domain", lines=[counts, *made.warnings]))
    return parts


def _provenance(provenance: Provenance) -> list[Part]:
    parent = provenance.parent
    identity = [
        ("parent", parent.name),
        ("revision", parent.revision or ""),
        ("commit", parent.commit or ""),
        ("SHA-256 of the values of the parent's weights", parent.weights_sha256),
        ("made", provenance.made or ""),
        ("versions", ", ".join(f"{package} {number}" for package, number in provenance.versions.items())),
    ]
    exported = [] if provenance.export is None else export_lines(provenance.export)
    return [Part(lines=exported, rows=[row for row in identity if row[1]])]


def _recipes(provenance: Provenance) -> list[Part]:
    """Return the options that differ from their defaults, of every step, as YAML to copy."""
    paths = "Of every path only the last part is recorded: put the folder before it."
    tasks = " --tasks TASKS" if provenance.evaluation is not None else ""
    parts, recoveries = [], list(provenance.recoveries)
    if provenance.shrink is not None and provenance.shrink.options:
        command = "gaprune shrink --recipe shrink.yaml --out DIR"
        parts.append(Part(lines=[paths], code=recipe_text(command, provenance.shrink.options, ShrinkOptions, _PLACES)))
        del recoveries[: 2 if provenance.shrink.is_labelled else 1]  # its own: on texts, then on labels
    elif provenance.recipe:
        command = f"gaprune prune --recipe prune.yaml{tasks if not provenance.recoveries else ''} --out DIR"
        parts.append(Part(lines=[paths], code=recipe_text(command, provenance.recipe, Recipe, _PLACES)))
    for each in recoveries:
        judged = tasks if each is provenance.recoveries[-1] else ""
        command = f"gaprune recover DIR --recipe recover.yaml{judged} --out DIR2"
        parts.append(Part(code=recipe_text(command, each.options, RecoveryOptions, _PLACES)))
    return parts
