"""Names of criteria with constants: ``dai:tempering=0.6:alpha=0.1``.

The form is the same in Python, YAML and every shell: no character in it needs quotes.
"""

from __future__ import annotations

from gaprune.errors import ConfigError


def split_name(text: str) -> tuple[str, dict[str, str]]:
    """Return the name of a criterion and the constants that follow it.

    Raises:
        ConfigError: If a part is not ``constant=value``, or a constant is given twice.
    """
    name, *parts = text.split(":")
    options: dict[str, str] = {}
    for part in parts:
        option, sign, value = part.partition("=")
        if not (name and option and sign and value) or option in options:
            fault = f"the constant {option!r} is given twice" if option in options else f"{part!r} is not a constant"
            raise ConfigError(
                f"criterion {text!r}: {fault}.", "Write NAME:CONSTANT=VALUE, such as dai:tempering=0.6, once for each."
            )
        options[option] = value
    return name, options


def with_option(text: str, option: str, value: object) -> str:
    """Return the criterion ``text`` with one constant set to another value, which is written without rounding."""
    name, options = split_name(text)
    options[option] = _written(value)
    return ":".join([name, *(f"{key}={each}" for key, each in options.items())])


def _written(value: object) -> str:
    """Return the value as text that reads as the same value."""
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return short if not isinstance(value, float) or float(short) == value else repr(value)
