"""The small data sets that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from gaprune.errors import ConfigError, DataError, suggest

SampleDomain = Literal["finance", "chemistry", "general"]

_SAMPLES = Path(__file__).resolve().parent / "sample_texts"


def sample_triplets(domain: SampleDomain) -> Path:
    """Return the file of sample triplets of ``domain``.

    Raises:
        ConfigError: If there is no such domain.
        DataError: If the installation lacks the file.
    """
    return _path(domain, "triplets", f"{domain}.jsonl")


def sample_evaluation(domain: SampleDomain | None = None) -> Path:
    """Return the folder of sample evaluation tasks of ``domain``; ``None`` means all domains.

    Raises:
        ConfigError: If there is no such domain.
        DataError: If the installation lacks the folder.
    """
    return _path(domain, "evaluation", domain or "")


def _path(domain: str | None, *parts: str) -> Path:
    known = get_args(SampleDomain)
    if domain is not None and domain not in known:
        raise ConfigError(
            f"There are no sample data for {domain!r}.{suggest(domain, known)}",
            f"There are sample data for {', '.join(known)}.",
        )
    path = _SAMPLES.joinpath(*parts)
    if not path.exists():
        raise DataError("the sample data are missing.", "Install the package again: pip install gaprune.", source=path)
    return path
