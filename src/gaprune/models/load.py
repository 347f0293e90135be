"""Loading sentence-transformers models from a folder or the hub, complete ones alone."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from gaprune.errors import ConfigError, ModelError, suggest
from gaprune.models.demo import DEMO, local_folder
from gaprune.models.formats import check_runnable, graph_of
from gaprune.models.modes import limit_length
from gaprune.util.hub import cache_if_unreachable
from gaprune.util.progress import say
from gaprune.util.text_files import is_pointer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# transformers replaces methods of its classes while it constructs a model (no_init_weights, no_tie_weights).
# Two threads that do so at the same time would leave the replacements behind, and later models untied.
CONSTRUCTION = threading.RLock()

MERGE = "Merge the adapter into the weights (docs/models.md) and give the merged model."

_ADAPTER = "adapter_config.json"

_COMPLETE = "Give a complete folder of the model; if it was copied or downloaded, do so again."


def load_model(
    name: str | Path,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    device: str | None = None,
    dtype: str | None = None,
    max_length: int | None = None,
) -> SentenceTransformer:
    """Load a sentence-transformers model from a folder or the hub.

    Args:
        name: Folder, hub id, or ``demo`` for the model of the extra of that name.
        revision: Branch, tag or commit on the hub.
        trust_remote_code: Whether code that comes with the model may run.
        device: Torch device; default: sentence-transformers chooses.
        dtype: Name of a torch dtype (``float32``, ``bfloat16``); default: the checkpoint's own.
        max_length: Texts are truncated to this many tokens; default: the model's own limit.

    Raises:
        ModelError: If the folder or the hub id cannot be loaded, or weights or tokens are missing in it.
        ConfigError: If ``device``, ``dtype`` or ``max_length`` makes no sense here.
    """
    import torch
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer

    if dtype is not None:
        known = getattr(torch, dtype, None)
        if not (isinstance(known, torch.dtype) and known.is_floating_point):
            raise ConfigError(
                f"dtype: {dtype!r} is not a floating-point torch dtype.", "Use float32, bfloat16 or float16."
            )
    if device is not None:
        _check_device(device)
    name = local_folder(name)
    folder = Path(name)
    check_runnable(folder)
    graph = graph_of(folder)
    if graph is not None:
        raise ModelError(
            f"{folder} is an exported model ({graph}), which cannot be loaded in PyTorch.",
            "Name the folder it was made from. evaluate, bench, inspect and ExportedModel take exported ones.",
        )
    if folder.is_dir() and not any(folder.glob("*.json")):
        inside = ", ".join(sorted(str(each.parent) for each in folder.glob("*/modules.json")))
        hint = f": {inside}." if inside else "."
        raise ModelError(
            f"The folder {folder} holds no model (no .json configuration).", f"Name a model's own folder{hint}"
        )
    check_named(name)
    try:
        with CONSTRUCTION, nullcontext(True) if folder.exists() else cache_if_unreachable() as answers:
            model = SentenceTransformer(
                str(name),
                revision=revision,
                trust_remote_code=trust_remote_code,
                device=device,
                model_kwargs={} if dtype is None else {"dtype": dtype},
            )
    except (OSError, ValueError, TypeError, LookupError, ImportError, RuntimeError, SafetensorError) as error:
        raise _not_loaded(name, error, answers=answers) from error
    check_complete(model, name)
    if folder.is_dir() and not (folder / "modules.json").is_file():
        modules = ", ".join(type(each).__name__ for each in model)
        say(f"{folder} has no modules.json; sentence-transformers opens it with its usual modules: {modules}.")
    most = most_tokens(model)
    if most is not None and (model.max_seq_length or most + 1) > most:
        say(f"Texts are truncated to {most} tokens: the model says {model.max_seq_length}, but has no more positions.")
        model.max_seq_length = most
    limit_length(model, max_length)
    return model


def _not_loaded(name: str | Path, error: Exception, *, answers: bool) -> ModelError:
    """Return the error for what cannot be loaded; ``answers`` says whether the hub could be asked for it."""
    reason = str(error).partition("\n")[0] or type(error).__name__
    if not answers and isinstance(error, OSError):
        reason = "there is no such folder, and as a hub id it is not in the cache, and the hub cannot be reached."
    elif not Path(name).exists() and "not found" not in reason:
        reason = f"there is no such folder, and as a hub id: {reason}"
    return ModelError(f"The model {name} cannot be loaded: {reason}", _way_out(Path(name), str(error)))


def check_named(name: str | Path) -> None:
    """Refuse a name that is a path, and no folder is there; hub ids are not looked up.

    Raises:
        ModelError: If there is no such folder.
    """
    folder = Path(name)
    if not folder.exists() and (str(name).startswith(("/", ".", "~")) or str(name).count("/") > 1):
        near = suggest(folder.name, (each.name for each in folder.parent.glob("*/")))
        raise ModelError(f"The model {name} cannot be loaded: there is no such folder.{near}", _way_out(folder, ""))


def _way_out(folder: Path, said: str) -> str:
    """Return what can be done about a folder that cannot be loaded."""
    if pointer := next(filter(is_pointer, (*folder.glob("*"), *folder.glob("*/*"))), None):
        return f"{pointer} is a pointer of Git LFS, not the file itself: run git lfs pull in the clone."
    if "trust_remote_code" in said:
        return "Its own code must run: pass trust_remote_code (--trust-remote-code) if you trust its authors."
    if (folder / _ADAPTER).is_file():
        return f"It holds an adapter (PEFT). {MERGE} If it is merged already, remove {_ADAPTER}."
    if "ignore_mismatched_sizes" in said:
        return "Its weights have other sizes than config.json says: give the files of one and the same model."
    return (
        "Give the folder of a sentence-transformers model, a hub id while the hub can be reached, or "
        f"{DEMO}: all-MiniLM-L6-v2 from the extra '{DEMO}'."
    )


def most_tokens(model: SentenceTransformer) -> int | None:
    """Return the tokens for which ``model`` has positions; ``None`` if that is not limited by a table.

    RoBERTa, XLM-R and MPNet count positions from the padding token's id: of 514 rows they use 512. BERT uses all rows.
    """
    from torch import nn

    found = [
        table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
        for module in model.modules()
        if isinstance(table := getattr(module, "position_embeddings", None), nn.Embedding)
    ]
    return min(found, default=None)


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(1, device=device).item()  # the device "meta" holds no numbers
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for a device
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"device: {device!r} cannot be used: {reason}", "Use cpu, or leave device out.") from error


def check_complete(model: SentenceTransformer, name: str | Path) -> None:
    """Refuse a loaded model with weights drawn at random that its embeddings depend on, or a tokenizer without tokens.

    transformers marks what it read from the checkpoint. A pooler that nothing reads may be missing.

    Raises:
        ModelError: If weights or tokens are missing.
    """
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from gaprune.models.fingerprints import reached

    tokenizer = model.tokenizer
    if isinstance(tokenizer, PreTrainedTokenizerBase) and len(tokenizer) <= len(set(tokenizer.all_special_tokens)):
        raise ModelError(f"The model {name} has a tokenizer without a vocabulary: its files are missing.", _COMPLETE)
    drawn = {
        weight: inside
        for module in model.modules()
        if isinstance(module, PreTrainedModel)
        for inside, weight in module.named_parameters()
        if not getattr(weight, "_is_hf_initialized", False)
    }
    needed = reached(model) if drawn else set()
    missing = [inside for weight, inside in drawn.items() if weight in needed]
    if missing:
        raise ModelError(
            f"The model {name} lacks {len(missing):,} weights that its embeddings depend on, such as {missing[0]}; "
            "they would be drawn at random.",
            f"{_COMPLETE} Their names must be those of the architecture in config.json.",
        )
