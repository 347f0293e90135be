"""Mistakes on the command line, in the words of all other errors: what is near, and how the command is used."""

from __future__ import annotations

import re
from typing import Any

from gaprune.cli.commands import COMMANDS
from gaprune.cli.listing import rows_of
from gaprune.errors import ConfigError, suggest

_CHOICE = re.compile(r"'([^']*)' is not one of (.*)\.")
_COMMAND = re.compile(r"No such command '(.*)'\.")


def explain(error: Any) -> ConfigError:
    """Return what typer says about the words after ``gaprune`` as an error of ours."""
    said, context = error.format_message().replace("Value error, ", ""), error.ctx
    if context is None:  # an option without its value
        return ConfigError(said, "gaprune --help lists the commands, and --help after a command its options.")
    if hasattr(error, "possibilities"):
        said = _unknown_option(error.option_name, context)
    elif found := _COMMAND.match(said):
        said = _unknown_command(found[1], context)
    elif found := _CHOICE.search(said):
        said += suggest(found[1], re.findall("'(.*?)'", found[2]))
    return ConfigError(said, f"{context.get_usage()} ({context.command_path} --help says more)")


def _unknown_option(flag: str, context: Any) -> str:
    """Return that there is no such flag; an option without a flag is set."""
    command, name = context.command_path.partition(" ")[2], flag.lstrip("-").replace("-", "_")
    rows = {row["name"]: row["flag"] for row in rows_of(command)} if command in COMMANDS else {}
    if name in rows and rows[name] is None:
        return f"The option {flag} has no flag of its own: write --set {name}=VALUE."
    near = suggest(name, rows)
    for each, own in rows.items():
        near = near.replace(f"'{each}'", f"'{own or f'--set {each}=VALUE'}'")
    return f"No such option: {flag}.{near}"


def _unknown_command(word: str, context: Any) -> str:
    group = context.command_path.partition(" ")[2]
    known = [name.removeprefix(f"{group} ") for name in COMMANDS if name.startswith(group)]
    whole = [name for name in COMMANDS if name.endswith(f" {word}")]
    near = f" Did you mean {whole[0]!r}?" if whole else suggest(word, known)
    return f"No such command {word!r}.{near}"
