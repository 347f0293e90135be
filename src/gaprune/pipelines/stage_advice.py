"""Advice of the stages of ``gaprune.shrink``, with the names that their options have there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

from gaprune.config.shrink import ShrinkOptions
from gaprune.errors import GapruneError
from gaprune.util.progress import rewording

_NAMED = re.compile(r"--set (?P<set>\w+)=|--(?P<flag>[a-z][a-z0-9-]*)(?: (?P<value>[A-Z\d][\w.]*))?")
"""An option in a sentence: ``--set NAME=``, or a flag, perhaps with a value."""


@contextmanager
def advising(stage: Literal["prune", "recover"]) -> Iterator[None]:
    """Let remarks and errors inside the block name the options of a stage as ``shrink`` has them."""

    def reworded(text: str) -> str:
        return advice_in_shrink(text, stage)

    try:
        with rewording(reworded):
            yield
    except GapruneError as error:
        error.remedy = reworded(error.remedy)
        error.args = (f"{error.problem}\n{error.remedy}",)
        raise


def advice_in_shrink(text: str, stage: Literal["prune", "recover"]) -> str:
    """Return a sentence that advises options of a stage so that it advises options of ``shrink``.

    ``--set precision=float32`` of the pruning becomes ``--set prune.precision=float32``, and so does a flag. Options
    that ``shrink`` has under the same name remain.
    """
    fields = ShrinkOptions.sections[stage].model_fields

    def renamed(found: re.Match[str]) -> str:
        name = (found["set"] or found["flag"]).replace("-", "_")
        option = name.removeprefix("no_")
        if option not in fields or option in ShrinkOptions.model_fields:
            return found[0]
        if found["set"]:
            return f"--set {stage}.{option}="
        kind = fields[option].annotation
        default = "false" if option != name else "true" if bool in (kind, *get_args(kind)) else "VALUE"
        return f"--set {stage}.{option}={found['value'] or default}"

    return _NAMED.sub(renamed, text)
