"""The texts that a model puts before queries and passages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gaprune.errors import ConfigError, suggest

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Role = Literal["query", "passage"]

TASKS: dict[Role, str] = {"query": "query", "passage": "document"}
"""What sentence-transformers calls the roles."""

PASSAGE_PROMPT_NAMES = ("document", "passage", "corpus")
"""Names that sentence-transformers looks for, in its order, when it encodes a passage."""


@dataclass(frozen=True)
class Prompts:
    """The text put before every query and every passage (empty for none)."""

    query: str = ""
    passage: str = ""

    def of(self, role: Role) -> str | None:
        """Return the prompt of ``role`` in the form sentence-transformers takes, ``None`` for none."""
        return (self.query if role == "query" else self.passage) or None


def resolve_prompts(model: SentenceTransformer, *, query: str | None = None, passage: str | None = None) -> Prompts:
    """Return the prompts that ``model`` defines for queries and passages, or those given instead.

    The model's own are found as ``encode_query`` and ``encode_document`` of sentence-transformers find
    them, its default prompt included, except that an empty passage prompt gives way to the next name's.

    Args:
        model: The model whose configuration is asked.
        query: Overrides the query prompt, by its text or by the name of one of the model's prompts; an empty string
            switches it off.
        passage: Overrides the passage prompt in the same way.

    Raises:
        ConfigError: If the model's default prompt is not among its prompts.
    """
    prompts = {name: prompt or "" for name, prompt in model.prompts.items()}
    default = ""
    if model.default_prompt_name is not None:
        if model.default_prompt_name not in prompts:
            raise ConfigError(
                f"The model's default prompt {model.default_prompt_name!r} is not among its prompts."
                + suggest(model.default_prompt_name, prompts),
                "Pass query_prompt and passage_prompt (--set query_prompt=...).",
            )
        default = prompts[model.default_prompt_name]
    # sentence-transformers adds an empty "document" to models that name only "passage", as E5 does: look past it.
    named = [prompts[name] for name in PASSAGE_PROMPT_NAMES if name in prompts]
    own_passage = next(filter(None, named), "" if named else default)
    return Prompts(
        query=prompts.get("query", default) if query is None else prompts.get(query, query),
        passage=own_passage if passage is None else prompts.get(passage, passage),
    )


def unused_prompts(model: SentenceTransformer, prompts: Prompts) -> list[str]:
    """Return a sentence about prompts of ``model`` that have other names than query and document and are not used.

    There is none if both roles have a prompt, or queries have one and no unused name is that of documents. Prompts
    with the usual names are unused only if someone switched them off.
    """
    used, usual = {prompts.query, prompts.passage, ""}, {"query", *PASSAGE_PROMPT_NAMES, model.default_prompt_name}
    names = [name for name, prompt in model.prompts.items() if name not in usual and (prompt or "") not in used]
    of_passages = [name for name in names if re.search(r"doc|passage|corpus", name, re.IGNORECASE)]
    unused = names if not prompts.query else of_passages if not prompts.passage else []
    if not unused:
        return []
    found = f"the model has prompts that are not used: {', '.join(map(repr, unused))}. "
    of_queries = [name for name in unused if name not in of_passages]
    named = {"query_prompt": of_queries, "passage_prompt": [name for name in unused if name in of_passages]}
    options = " ".join(f"--set {option}={found[0]}" for option, found in named.items() if found)
    others = f"for others, set query_prompt and passage_prompt ({options})."
    return [f"{found}Only those named query and document are found by their names; {others}"]
