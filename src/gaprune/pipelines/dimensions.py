"""Fewer dimensions: a linear head that shortens a model's embeddings, by PCA or by truncation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gaprune.errors import ConfigError
from gaprune.models.prompts import Role, resolve_prompts
from gaprune.reconstruction.head import add_head, pca_head, truncation_head

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from gaprune.data.triplets import Triplet


def shorten(model: SentenceTransformer, folder: Path, dimensions: int, triplets: Sequence[Triplet]) -> str:
    """Give ``model`` a head with fewer dimensions, and return how, in words.

    The embeddings of a Matryoshka model are truncated; those of another are projected on the first principal
    components of the embeddings of ``triplets``.

    Args:
        model: The model, which is changed.
        folder: Where it was loaded from, which says whether it is a Matryoshka model.
        dimensions: Fewer than it has.
        triplets: Triplets of the domain.

    Raises:
        ConfigError: If ``dimensions`` does not fit, or texts are missing or too few.
    """
    own = model.get_embedding_dimension()
    if is_matryoshka(model, folder):
        add_head(model, truncation_head(model, dimensions))
        return f"the first {dimensions} of {own} dimensions"
    if not triplets:
        raise ConfigError(
            "dimensions: the model is no Matryoshka model, so its principal components are needed.",
            "Name triplets of the domain, on whose texts they are computed: --domain FILE (domain=...).",
        )
    texts: dict[Role, list[str]] = {
        "query": list(dict.fromkeys(each.query for each in triplets)),
        "passage": list(dict.fromkeys(text for each in triplets for text in each.passages)),
    }
    add_head(model, pca_head(model, texts, dimensions, prompts=resolve_prompts(model)))
    return f"{dimensions} of {own} dimensions by PCA of {sum(map(len, texts.values())):,} texts"


def is_matryoshka(model: SentenceTransformer, folder: Path) -> bool:
    """Return whether a model was trained so that the first dimensions of its embeddings are embeddings themselves.

    Its configuration says so with ``matryoshka_dimensions`` or ``is_matryoshka``, as vLLM reads them, or its card with
    the loss that sentence-transformers trained it with.
    """
    config = getattr(model[0], "config", None)
    if getattr(config, "matryoshka_dimensions", None) or getattr(config, "is_matryoshka", False):
        return True
    card = folder / "README.md"
    return card.is_file() and "loss:MatryoshkaLoss" in card.read_text(encoding="utf-8", errors="replace")
