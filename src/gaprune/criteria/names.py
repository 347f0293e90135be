"""How a criterion with constants of its own is written: ``dai:tempering=0.6:alpha=0.1``.

The same in Python, YAML and every shell: no character in it needs quotes.
"""

from __future__ import annotations

from gaprune.errors import ConfigError

__all__ = ["split_name", "with_option"]


def split_name(text: str) -> tuple[str, dict[str, str]]:
    """Return the name of a criterion and the constants that stand after it.

    Raises:
        ConfigError: If a part is not ``constant=value``, or a constant stands there twice.
    """
    name, *parts = text.split(":")
    options: dict[str, str] = {}
    for part in parts:
        option, sign, value = part.partition("=")
        if not (name and option and sign and value) or option in options:
            fault = f"the constant {option!r} stands there twice" if option in options else f"{part!r} is none of them"
            raise ConfigError(
                f"criterion {text!r}: {fault}.", "Write NAME:CONSTANT=VALUE, such as dai:tempering=0.6, once for each."
            )
        options[option] = value
    return name, options


def with_option(text: str, option: str, value: object) -> str:
    """Return the criterion ``text`` with one constant set to another value."""
    name, options = split_name(text)
    options[option] = f"{value:g}" if isinstance(value, float) else str(value)
    return ":".join([name, *(f"{key}={each}" for key, each in options.items())])
