"""Tokens: rows of the embedding table that the texts of the run do not need."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from gaprune.config.recipe import Recipe
from gaprune.criteria.base import Criterion, Granularity
from gaprune.criteria.needs import DataKind, Needs
from gaprune.data.read import read_texts
from gaprune.errors import require_extra
from gaprune.models.blocks import transformer_of
from gaprune.models.vocabulary import vocabulary
from gaprune.pruning.basis import Basis
from gaprune.pruning.calibration import Calibration
from gaprune.pruning.cut_vocabulary import cut_vocabulary
from gaprune.pruning.kept_tokens import VocabularyCut, close_vocabulary, rank_tokens, used_tokens
from gaprune.pruning.removable.base import Removable, RemovedUnits, register
from gaprune.pruning.tokenizers import VOCABULARY_EXTRA

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class RemovedTokens(RemovedUnits):
    """Tokens that are removed."""

    ids: tuple[int, ...] = ()


@register
class Tokens(Removable[RemovedTokens]):
    """Tokens; they are removed last, from the model as it is after reconstruction."""

    name: ClassVar[str] = "vocabulary"
    option: ClassVar[str] = "vocabulary"
    label: ClassVar[str] = "tokens"
    order: ClassVar[int] = 90
    ranked_by: ClassVar[Granularity | None] = None

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        require_extra(*VOCABULARY_EXTRA)
        self.texts = [] if recipe.vocabulary is None else read_texts(Path(recipe.vocabulary))

    @classmethod
    def is_asked(cls, recipe: Recipe) -> bool:
        """Return whether texts, or a fraction, are given."""
        return recipe.vocabulary is not None or recipe.tokens is not None

    @property
    def amount(self) -> float | None:
        """The fraction of the vocabulary; ``None`` removes all tokens that no text needs."""
        return self.recipe.tokens

    def needs(self, criterion: Criterion, named: Collection[DataKind]) -> Needs:  # noqa: ARG002 (no criterion ranks tokens)
        """Return the data whose tokens are kept."""
        return Needs(texts=frozenset(named or (() if self.recipe.vocabulary else ("domain",))))

    def check(self, model: SentenceTransformer) -> None:
        """Refuse a model whose vocabulary cannot be cut."""
        vocabulary(model)

    def parameters(self, model: SentenceTransformer) -> Iterator[Tensor]:
        """Yield the embedding table."""
        yield transformer_of(model).get_input_embeddings().get_parameter("weight")

    def choose(self, model: SentenceTransformer, amount: float | None, basis: Basis) -> RemovedTokens:
        """Return the tokens of all texts, or the most frequent of them."""
        cut = self.kept(model, basis.calibration, amount)
        return RemovedTokens(
            self.name, self.label, cut.removed, cut.rows, found={"kept_for": dict(cut.reasons)}, ids=cut.kept
        )

    def kept(self, model: SentenceTransformer, calibration: Calibration, fraction: float | None) -> VocabularyCut:
        """Return the decision for a fraction, or for all tokens of the texts."""
        triplets = [item for data in calibration.of_user().values() for item in data]
        texts = [*self.texts, *(text for item in triplets for text in (item.query, *item.passages))]
        prompts = calibration.prompts
        counts = used_tokens(model, texts, (prompts.query, prompts.passage))
        return close_vocabulary(model, counts) if fraction is None else rank_tokens(model, counts, fraction)

    def cut(self, model: SentenceTransformer, choice: RemovedTokens) -> SentenceTransformer:
        """Return a copy of ``model`` with a smaller table and tokenizer."""
        return cut_vocabulary(model, choice.ids)[0]

    def texts_identity(self) -> dict[str, Any]:
        """Return what identifies the texts, beside the triplets, whose tokens are kept."""
        digest = hashlib.sha256("\n".join(self.texts).encode()).hexdigest()
        return {"texts": len(self.texts), "sha256": digest}
