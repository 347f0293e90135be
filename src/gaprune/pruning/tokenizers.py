"""Removing tokens from a tokenizer so that it still splits every text."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from gaprune.errors import ModelError, require_extra

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

VOCABULARY_EXTRA = ("Cutting a vocabulary", "vocabulary", "skeletoken")
"""What needs the extra, its name, and its module, for :func:`gaprune.errors.require_extra`."""


def cut_tokenizer(tokenizer: PreTrainedTokenizerFast, keep: Collection[int]) -> PreTrainedTokenizerFast:
    """Return ``tokenizer`` with the tokens of ``keep`` alone, numbered anew from zero; ``tokenizer`` is untouched.

    Merges of BPE that need or make a removed token are removed too; the ids in the post-processor, in the added tokens
    and of padding and the unknown token are the new ones. The result has been written and read again once, so it is
    what a saved folder gives.

    Raises:
        MissingExtraError: If skeletoken is not installed.
        ModelError: If the tokenizer cannot be changed, or does not come back as it was changed.
    """
    require_extra(*VOCABULARY_EXTRA)
    removed = {token for token, each in tokenizer.get_vocab().items() if each not in keep}
    backend = _without(tokenizer.backend_tokenizer, removed)
    with TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer.save_pretrained(folder)
        for vocabulary_file in tokenizer.vocab_files_names.values():
            (folder / vocabulary_file).unlink(missing_ok=True)  # of the parent: tokenizer.json holds it all
        backend.save(str(folder / "tokenizer.json"))
        settings = folder / "tokenizer_config.json"
        content = json.loads(settings.read_text(encoding="utf-8"))
        settings.write_text(json.dumps(_settings_without(content, removed)), encoding="utf-8")
        child: PreTrainedTokenizerFast = type(tokenizer).from_pretrained(folder)
    child.name_or_path = tokenizer.name_or_path
    if child.get_vocab() != backend.get_vocab():
        raise ModelError(
            f"The {type(tokenizer).__name__} with fewer tokens does not come back as it was written.",
            "Leave this model's vocabulary whole, and please report it.",
        )
    return child


def _without(tokenizer: Tokenizer, removed: Collection[str]) -> Tokenizer:
    from skeletoken import TokenizerModel

    with _quiet("skeletoken"):  # it reports every added token that it numbers
        try:
            parent = TokenizerModel.from_tokenizer(tokenizer)
            unknown = parent.unk_token
            child = parent.remove_tokens_from_vocabulary([token for token in removed if token in parent.vocabulary])
            if unknown is not None:
                child.model.unk_token = unknown  # Unigram kept its number, which is another token's now, or none
            added = {str(token) for token in tokenizer.get_added_tokens_decoder().values()}
            for token in [each.content for each in child.added_tokens.root if each.content not in added]:
                child.added_tokens.maybe_remove_token(token)  # an added token is found in texts that spell it
            return child.to_tokenizer()
        except ValueError as error:
            reason = str(error).partition("\n")[0]
            raise ModelError(
                f"The tokenizer cannot be cut: {reason}", "Leave this model's vocabulary whole, and please report it."
            ) from error


def _settings_without(settings: Mapping[str, Any], removed: Collection[str]) -> dict[str, Any]:
    """Return the content of ``tokenizer_config.json`` without removed tokens, which loading would add again."""
    kept = {name: value for name, value in settings.items() if name != "added_tokens_decoder"}
    for name, value in settings.items():
        if name.endswith("_token") and _content(value) in removed:
            del kept[name]
        elif name.endswith("special_tokens") and isinstance(value, list):
            kept[name] = [each for each in value if _content(each) not in removed]
        elif name.endswith("special_tokens") and isinstance(value, dict):
            kept[name] = {role: each for role, each in value.items() if _content(each) not in removed}
    return kept


def _content(token: object) -> object:
    return token.get("content") if isinstance(token, dict) else token


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
