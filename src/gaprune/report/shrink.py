"""What ``gaprune shrink`` made: parent and child side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaprune.config.removal import Target
from gaprune.data.held_out import FEWEST_TO_JUDGE, says_little
from gaprune.report.markdown import markdown_table

if TYPE_CHECKING:
    from gaprune.evaluation.quality.scores import Evaluation
    from gaprune.export.provenance import Provenance
    from gaprune.export.records import Shrink

HEADER = ("", "parent", "this model", "ratio")

DOMAIN = "domain"
"""The domain that ``gaprune shrink`` judges by."""

_PERFECT = 0.999
"""nDCG@10 from which held-out queries are too easy to judge a model by."""


def shrink_rows(provenance: Provenance, evaluation: Evaluation) -> list[tuple[str, ...]]:
    """Return the rows of a table: a measure, the parent's value, the child's, and their ratio."""
    return cost_rows(provenance) + _quality_rows(evaluation)


def cost_rows(provenance: Provenance) -> list[tuple[str, ...]]:
    """Return the rows about size, and about speed if it was measured."""
    found, sizes = provenance.shrink, provenance.sparsity
    size = (
        "parameters",
        f"{sizes.parent_parameters:,}",
        f"{sizes.parameters:,}",
        f"{sizes.parent_parameters / sizes.parameters:.2f} x smaller",
    )
    if found is None:
        return [size]
    speed = found.speed
    return [
        size,
        (
            "one query of 32 tokens",
            *(f"{each:.2f} ms" for each in speed.milliseconds),
            f"{speed.latency:.2f} x faster",
        ),
        (
            "32 passages of 128 tokens",
            *(f"{each:,.0f} texts/s" for each in speed.texts_per_second),
            f"{speed.throughput:.2f} x faster",
        ),
    ]


def _quality_rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for domain in evaluation.domains:
        mine, its = evaluation.mean(domain), evaluation.parent_mean(domain)
        label = "held-out queries of the domain" if domain == DOMAIN else f"held-out {domain} queries"
        rows.append((f"nDCG@10, {label}", _score(its), _score(mine), _kept(mine, its)))
        index = evaluation.parent_index(domain)
        if index is not None and index.value is not None and index.parent:
            rows.append(
                (
                    "  in the parent's index",
                    _score(index.parent),
                    _score(index.value),
                    _kept(index.value, index.parent),
                )
            )
    return rows


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _kept(mine: float, its: float | None) -> str:
    if not its:
        return ""
    return f"{mine / its:.1%} kept" if mine <= its else f"{mine / its - 1:.1%} above"


def answer_sentence(provenance: Provenance, evaluation: Evaluation) -> str:
    """Return the outcome in a sentence."""
    found, sizes = provenance.shrink, provenance.sparsity
    if found is None:
        raise ValueError("this model was not made by shrink")
    mine, its = evaluation.mean(DOMAIN), evaluation.parent_mean(DOMAIN)
    trained = "training on your labels" if found.is_labelled else "distillation on your texts"
    if not its:
        quality = f"an nDCG@10 of {mine:.3f} (its parent has 0)"
    elif mine > its:
        quality = f"an nDCG@10 {mine / its - 1:.1%} above that of the untrained parent, after {trained},"
    else:
        quality = f"{mine / its:.1%} of its nDCG@10"
    return (
        f"{sizes.parent_parameters / sizes.parameters:.1f} times smaller and {found.speed.speedup:.1f} times faster "
        f"than its parent ({found.runtime}, measured: {found.speed.latency:.1f} times for one query, "
        f"{found.speed.throughput:.1f} for a batch), with {quality} on {found.held_out_queries} held-out queries of "
        "the domain."
    )


def remarks(provenance: Provenance, evaluation: Evaluation) -> list[str]:
    """Return what must be known before the outcome is believed: a missed or uncertain speed, few or easy queries."""
    found = [] if provenance.shrink is None else [f"Note: {each}" for each in provenance.shrink.warnings]
    found += _missed(provenance.shrink)
    if provenance.shrink is not None and provenance.shrink.speed.scatters:
        low, high = provenance.shrink.speed.interval
        found.append(
            f"Note: the timings scattered, as they do while other programs run: the speedup is between {low:.2f} and "
            f"{high:.2f} (95 %). `gaprune bench` measures it again."
        )
    if is_held_out(provenance, evaluation) and evaluation.mean(DOMAIN) >= _PERFECT:
        found.append(_too_easy("the held-out queries of the domain"))
    return found


def is_held_out(provenance: Provenance, evaluation: Evaluation) -> bool:
    """Return whether a model was judged by the queries that ``gaprune shrink`` held out, not by tasks of its user."""
    return provenance.shrink is not None and DOMAIN in evaluation.domains


def _missed(found: Shrink | None) -> list[str]:
    """Return by how much a speed was missed that was asked for."""
    target = None if found is None else Target.parse(found.target)
    if found is None or target is None or target.kind != "speedup" or found.speed.speedup >= 0.995 * target.limit:
        return []
    miss = f"{found.speed.speedup:.2f} was measured ({found.speed.speedup / target.limit - 1:+.0%})"
    return [f"Note: a speedup of {target.limit:g} was asked for; {miss}."]


def quality_remarks(evaluation: Evaluation) -> list[str]:
    """Return what has to be known before scores in retrieval tasks are believed: few or too easy queries.

    A task is too easy if the parent answers everything, or the model itself where no parent was evaluated.
    """
    found = []
    for score in evaluation.scores:
        if score.kind != "retrieval":
            continue
        if score.items is not None and len(score.items) < FEWEST_TO_JUDGE:
            found.append(f"Note: {score.task} has {says_little(len(score.items))}")
        if (score.value if score.parent is None else score.parent) >= _PERFECT:
            found.append(_too_easy(f"the queries of {score.task}"))
    return found


def _too_easy(queries: str) -> str:
    return (
        f"Note: {queries} are all answered, so they are too easy to judge a model by: the "
        "data may consist of near-copies, such as texts from templates, or hold too few different passages."
    )


def shrink_markdown(provenance: Provenance, evaluation: Evaluation) -> str:
    """Return the section of the card."""
    table = markdown_table(HEADER, shrink_rows(provenance, evaluation))
    notes = "".join(f"\n{each}\n" for each in remarks(provenance, evaluation))
    return f"## Beside its parent\n\n{answer_sentence(provenance, evaluation)}\n\n{table}{notes}"
