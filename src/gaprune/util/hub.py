"""Whether the Hugging Face hub answers, before its library tries every file six times."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

_SECONDS = 10
"""Time in which the hub has to answer."""


@contextmanager
def cache_if_unreachable() -> Iterator[bool]:
    """Yield whether the hub can be asked; if it cannot, only its cache is read inside the block."""
    from huggingface_hub import constants

    was_offline = constants.HF_HUB_OFFLINE
    answers = not was_offline and _answers(constants.ENDPOINT)
    constants.HF_HUB_OFFLINE = not answers
    try:
        yield answers
    finally:
        constants.HF_HUB_OFFLINE = was_offline


def _answers(address: str) -> bool:
    """Return whether a server answers; what it answers, and certificates, are for the library to judge."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=_SECONDS):  # noqa: S310
            return True
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:
        return not isinstance(error.reason, socket.gaierror | ConnectionError | TimeoutError)
    except OSError:  # the connection broke off, or nothing came within the time
        return False
