"""The answer about a model in one sentence: how much smaller and faster it is, and how much quality is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaprune.export.records import Structured
from gaprune.report.sentences import percent
from gaprune.report.shrink import answer_sentence, is_held_out

if TYPE_CHECKING:
    from gaprune.evaluation.quality.index import ParentIndex
    from gaprune.evaluation.quality.scores import Evaluation
    from gaprune.export.provenance import Provenance


def answer_text(provenance: Provenance, evaluation: Evaluation | None) -> str:
    """Return size, speed, quality and index beside the parent, each as far as it was measured."""
    index = _index(provenance.parent_index)
    if evaluation is not None and is_held_out(provenance, evaluation):
        return answer_sentence(provenance, evaluation).rstrip(".") + index
    return _size(provenance) + _quality(evaluation) + index


def _size(provenance: Provenance) -> str:
    found = provenance.sparsity
    if isinstance(provenance.method.pruning, Structured):
        is_router = provenance.export is not None and provenance.export.to == "router"
        smaller = f"{found.parent_parameters / found.parameters:.2f} times smaller than its parent"
        return f"The model for queries is {smaller}, which embeds the passages" if is_router else smaller
    zeros = f" ({percent(found.of_selected)} of the selected weights are zero)" if found.removed else ""
    return f"As large as its parent{zeros}"


def _quality(evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return "; its quality was not measured"
    said, is_beside = [], False
    for domain in evaluation.domains:
        mine, its = evaluation.mean(domain), evaluation.parent_mean(domain)
        count = sum(score.domain == domain for score in evaluation.scores)
        where = f"{count} {'task' if count == 1 else 'tasks'}" + (f" of {domain}" if domain else "")
        is_beside = is_beside or bool(its)
        said.append(
            f"{mine / its:.1%} of its mean score in {where}" if its else f"a mean score of {mine:.4f} in {where}"
        )
    return f", with {' and '.join(said)}" + ("" if is_beside else "; its parent was not evaluated")


def _index(found: ParentIndex | None) -> str:
    if found is None:
        return "."
    if found.same_space:
        return "; the parent's index can be kept."
    if found.gains_alone:
        return "; all passages must be embedded again."
    change = found.change or 0
    return (
        f"; over all tasks it scores {abs(change):.1%} {'more' if change > 0 else 'less'} than its parent in the "
        "parent's index, and no more in its own."
    )
