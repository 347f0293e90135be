"""``gaprune push``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gaprune.cli.output import show


def push(
    folder: Annotated[Path, typer.Argument(help="Folder that prune, recover or export wrote.")],
    repository: Annotated[str, typer.Argument(help="Repository on the hub, as user/name; made if it is missing.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    revision: Annotated[str, typer.Option(help="Branch to upload to; the main branch by default.")] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Add a commit to a repository that exists, replacing equal names.")
    ] = False,
) -> None:
    """Upload a model to the Hugging Face hub, with its card and provenance. Log in first: hf auth login.

    Example: gaprune push pruned me/my-model --private
    """
    from gaprune.export.hub import push as upload

    address = upload(folder, repository, private=private or None, overwrite=overwrite, revision=revision)
    show(f"Uploaded: {address}")
