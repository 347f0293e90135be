"""The tokenizer's files: what loading and calibration left in them is removed, and what older readers expect is added.

The parent's own files are kept where they still describe the tokenizer. A vocabulary that was cut gets files of its
own in the forms that the parent had; those that only another library can write (SentencePiece) are left out.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from gaprune.export.portable import FindFile
from gaprune.util.files import write_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

_VOCABULARIES = (
    "vocab.txt", "vocab.json", "merges.txt", "added_tokens.json",
    "sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "spm.model",
)  # fmt: skip
"""Names under which tokenizers keep their vocabulary beside ``tokenizer.json``."""

_LEFTOVERS = frozenset(
    {
        "backend", "is_local", "local_files_only", "name_or_path", "special_tokens_map_file", "tokenizer_file",
        "max_length", "stride", "truncation_strategy", "pad_to_multiple_of",
    }
)  # fmt: skip
"""Settings that say how a tokenizer was loaded, or how it was last called."""

_CLASSES = {"TokenizersBackend": "PreTrainedTokenizerFast"}
"""Classes of transformers 5 by their names before."""


def rewrite_tokenizer(
    tokenizer: PreTrainedTokenizerFast, folder: Path, *, max_length: int | None, parents: FindFile
) -> None:
    """Rewrite the files of ``tokenizer``, which was saved to ``folder``.

    Args:
        tokenizer: The tokenizer.
        folder: Where it was saved.
        max_length: Tokens of the longest text that the model reads.
        parents: Finds a file of the model that it was loaded from.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        return
    now = _read(path)
    now.save(str(path))
    before = parents("tokenizer.json")
    parent = None if before is None else _read(before)
    unchanged = parent is not None and parent.to_str() == now.to_str()
    _write_settings(folder, parents("tokenizer_config.json") if unchanged else None, max_length)
    _write_special_tokens(tokenizer, folder, parents("special_tokens_map.json"))
    same_words = parent is not None and parent.get_vocab() == now.get_vocab()
    _write_vocabulary(now, folder, parents, same_words=same_words)


def _read(path: Path) -> Tokenizer:
    """Return a tokenizer without the padding and truncation of its last call."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _write_settings(folder: Path, parents: Path | None, max_length: int | None) -> None:
    path = folder / "tokenizer_config.json"
    found = json.loads((parents or path).read_text(encoding="utf-8"))
    settings = {name: value for name, value in found.items() if name not in _LEFTOVERS}
    if isinstance(settings.get("extra_special_tokens"), list):
        settings["additional_special_tokens"] = settings.pop("extra_special_tokens")
    if "tokenizer_class" in settings:
        settings["tokenizer_class"] = _CLASSES.get(settings["tokenizer_class"], settings["tokenizer_class"])
    if max_length is not None:
        settings["model_max_length"] = max_length
    write_json(path, settings, ascii_only=False)


def _write_special_tokens(tokenizer: PreTrainedTokenizerFast, folder: Path, parents: Path | None) -> None:
    found = {str(token): token for token in tokenizer.added_tokens_decoder.values()}

    def described(token: str) -> str | dict[str, Any]:
        added = found.get(token)
        flags = {name: getattr(added, name, False) for name in ("lstrip", "normalized", "rstrip", "single_word")}
        return {"content": token, **flags} if any(flags.values()) else token

    tokens: dict[str, Any] = {
        role: described(str(token)) for role, token in tokenizer.special_tokens_map.items() if isinstance(token, str)
    }
    if tokenizer.extra_special_tokens:
        tokens["additional_special_tokens"] = [described(str(token)) for token in tokenizer.extra_special_tokens]
    path = folder / "special_tokens_map.json"
    if parents is not None and _contents(json.loads(parents.read_text(encoding="utf-8"))) == _contents(tokens):
        shutil.copyfile(parents, path)
    else:
        write_json(path, tokens, ascii_only=False)


def _contents(tokens: dict[str, Any]) -> dict[str, Any]:
    """Return special tokens without their flags."""

    def content(token: Any) -> Any:
        if isinstance(token, list):
            return [content(each) for each in token]
        return token.get("content") if isinstance(token, dict) else token

    return {role: content(token) for role, token in tokens.items()}


def _write_vocabulary(tokenizer: Tokenizer, folder: Path, parents: FindFile, *, same_words: bool) -> None:
    with TemporaryDirectory() as name:
        tokenizer.model.save(name)
        written = {file.name: file for file in Path(name).iterdir()}
        for vocabulary in _VOCABULARIES:
            theirs = parents(vocabulary)
            source = theirs if same_words else written.get(vocabulary)
            (folder / vocabulary).unlink(missing_ok=True)
            if theirs is not None and source is not None:
                shutil.copyfile(source, folder / vocabulary)
