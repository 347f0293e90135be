"""What can be wrong with the options of ``gaprune.shrink``, found before anything is done."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gaprune.config.data import DataReading
from gaprune.config.recovery import RecoveryOptions
from gaprune.config.shrink import ShrinkOptions
from gaprune.errors import ConfigError, require_extra
from gaprune.export.folder import check_destination
from gaprune.pipelines.arguments import check_outside
from gaprune.pipelines.runtimes import check_runtime
from gaprune.pipelines.shrink_plan import recipe_of
from gaprune.pruning.spaces import check_target, spaces
from gaprune.pruning.tokenizers import VOCABULARY_EXTRA

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_DECIDED = {
    "prune": {
        "model", "domain", "general", "target", "out", "overwrite", "tasks", "trust_remote_code",
        "revision", "dtype", "device", "max_length", *DataReading.model_fields,
    },
    "recover": {
        "model", "parent", "domain", "general", "texts", "out", "overwrite", "tasks", "checkpoint", "resume",
        "minutes", "trust_remote_code", *DataReading.model_fields,
    },
}  # fmt: skip
"""Options of the stages that ``shrink`` decides."""


def check_shrink(asked: ShrinkOptions) -> Path:
    """Return the folder to write; what can be wrong with options is refused here."""
    for option, said in (("model", "the parent, a folder or a hub id"), ("domain", "texts of your domain")):
        if getattr(asked, option) is None:
            raise ConfigError(f"{option}: nothing is named.", f"Name {said}.")
    if asked.out is None:
        raise ConfigError("out: the result would be lost.", "Name a folder: --out DIR (out=...).")
    _check_stages(asked)
    check_runtime(asked.measured_in)
    destination = check_destination(asked.out, overwrite=asked.overwrite)
    check_exported(asked)
    read = {option: getattr(asked, option) for option in ("model", "domain", "general")}
    check_outside({destination}, read=read, written={})
    return destination


def with_prompts(asked: ShrinkOptions) -> ShrinkOptions:
    """Return the options with prompts that are set for one stage in both, so that the model is judged with them too.

    Raises:
        ConfigError: If the stages have different prompts.
    """
    found: dict[str, str] = {}
    for option in ("query_prompt", "passage_prompt"):
        given = [stage[option] for stage in (asked.prune, asked.recover) if option in stage]
        if len(set(given)) > 1:
            raise ConfigError(
                f"{option}: prune has {given[0]!r} and recover {given[1]!r}.",
                f"Give the prompt that the model will be used with: --set prune.{option}=TEXT serves both.",
            )
        found |= dict.fromkeys((option,), given[0]) if given else {}
    return asked.model_copy(update={"prune": {**asked.prune, **found}, "recover": {**asked.recover, **found}})


def check_exported(asked: ShrinkOptions) -> None:
    """Refuse a folder of the model for a runtime that exists already, if one is written and known."""
    if asked.measured_in != "torch":
        check_destination(exported_folder(asked), overwrite=asked.overwrite)


def check_size(parent: SentenceTransformer, asked: ShrinkOptions) -> None:
    """Refuse a size or a number of parameters that is out of reach, then one that needs what is not installed."""
    if asked.target.kind == "speedup":
        return
    check_target(asked.target, parent, spaces(parent, asked.target, recipe_of(asked), tokens=1, speed=None), tokens=1)
    require_extra(*VOCABULARY_EXTRA)


def _check_stages(asked: ShrinkOptions) -> None:
    """Refuse options of the stages that are unknown, are not valid, or are decided here."""
    for stage, given in (("prune", asked.prune), ("recover", asked.recover)):
        for option in given:
            if option in _DECIDED[stage]:
                raise ConfigError(
                    f"{stage}: {option} is decided by shrink.",
                    "Leave it out, or give it to shrink itself if it has it.",
                )
    recipe_of(asked)
    RecoveryOptions.build({"texts": "texts", "minutes": asked.minutes}, asked.recover)


def exported_folder(asked: ShrinkOptions) -> Path:
    """Return the folder of the model that is written for a runtime."""
    out = Path(str(asked.out)).resolve()
    return out.with_name(f"{out.name}-{asked.measured_in}")
