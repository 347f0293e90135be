"""The small data sets that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from gaprune.errors import ConfigError, DataError, suggest

__all__ = ["SampleDomain", "sample_evaluation", "sample_triplets"]

SampleDomain = Literal["finance", "chemistry", "general"]

_SAMPLES = Path(__file__).resolve().parent / "sample_texts"


def _checked(domain: str) -> str:
    known = get_args(SampleDomain)
    if domain not in known:
        raise ConfigError(
            f"There is no sample data for {domain!r}.{suggest(domain, known)}",
            f"There is some for {', '.join(known)}.",
        )
    return domain


def _existing(path: Path) -> Path:
    if not path.exists():
        raise DataError("the sample data is missing.", "Install the package again: pip install gaprune.", source=path)
    return path


def sample_triplets(domain: SampleDomain) -> Path:
    """Return the file of sample triplets of ``domain``, for :func:`gaprune.data.read_triplets`.

    Raises:
        ConfigError: If there is no such domain.
        DataError: If the installation lacks the file.
    """
    return _existing(_SAMPLES / "triplets" / f"{_checked(domain)}.jsonl")


def sample_evaluation(domain: SampleDomain | None = None) -> Path:
    """Return the folder of sample evaluation tasks of ``domain``, of all domains for ``None``.

    Raises:
        ConfigError: If there is no such domain.
        DataError: If the installation lacks the folder.
    """
    folder = _SAMPLES / "evaluation"
    return _existing(folder if domain is None else folder / _checked(domain))
