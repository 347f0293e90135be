"""Prompts that stand in the texts already, and prompts of a model that are not used."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from gaprune.errors import DataError
from gaprune.models.prompts import Prompts, Role, unused_prompts
from gaprune.util.progress import say

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_KNOWN = re.compile(
    r"(?i:query|passage|search_query|search_document|instruct|represent this \w+[^:\n]{0,80}"
    r"|task: [^|:\n]{1,80}\| query|title: [^|:\n]{1,80}\| text): ?"
)
"""Beginnings that published models (E5, BGE, Nomic, Qwen3, EmbeddingGemma) want before texts."""

_MOST = 0.5
"""From this share of the texts on, a common beginning is a prompt."""


class Texts(Protocol):
    """Triplets, or an evaluation task."""

    @property
    def name(self) -> str:
        """Name of the set in messages."""

    def roles(self) -> Iterator[tuple[Role, str]]:
        """Yield every text that gets a prompt, with its role."""


def prompt_problems(model: SentenceTransformer, prompts: Prompts, texts: Texts) -> tuple[list[str], list[str]]:
    """Return two lists of sentences: what may be wrong with the prompts, and what makes the texts unusable.

    It may be right that texts begin like a prompt which is not put before them. If most texts of a role begin with
    the very prompt that is, the model would read it twice.
    """
    by_role: dict[Role, list[str]] = {"query": [], "passage": []}
    for role, text in dict.fromkeys(texts.roles()):
        by_role[role].append(text)
    doubtful = unused_prompts(model, prompts)
    fatal: list[str] = []
    for role, found in by_role.items():
        prompt = (prompts.of(role) or "").strip()
        twice = sum(text.startswith(prompt) for text in found) if prompt else 0
        if twice:
            (fatal if twice >= _MOST * len(found) else doubtful).append(
                f"{texts.name}: {twice:,} of {len(found):,} {role} texts begin with the prompt {prompt!r}, which is "
                "put before them again."
            )
        else:
            doubtful += _known(role, found, texts.name)
    return doubtful, fatal


def _known(role: Role, texts: Sequence[str], name: str) -> Iterator[str]:
    matches = [match[0] for text in texts if (match := _KNOWN.match(text))]
    if texts and len(matches) >= _MOST * len(texts):
        yield (
            f"{name}: {len(matches):,} of {len(texts):,} {role} texts begin with {matches[0]!r}, which looks like a "
            f"prompt and is read as text. If it is one, remove it from the texts and name it as {role}_prompt."
        )


def check_prompts(model: SentenceTransformer, prompts: Prompts, sets: Iterable[Texts | None]) -> None:
    """Say what may be wrong with the prompts that are put before texts.

    Raises:
        DataError: If most queries or passages of a set begin with the prompt that is put before them.
    """
    said: dict[str, None] = {}
    for texts in filter(None, sets):
        doubtful, fatal = prompt_problems(model, prompts, texts)
        if fatal:
            raise DataError(
                fatal[0],
                "Remove the prompt from the texts; or put none before them, with an empty query_prompt or "
                "passage_prompt (--set query_prompt=; for gaprune evaluate --query-prompt '').",
            )
        said |= dict.fromkeys(doubtful)
    for sentence in said:
        say(f"Note: {sentence}")
