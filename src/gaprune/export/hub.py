"""Uploading a model's folder to the Hugging Face hub."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gaprune.errors import ModelError, OutputError
from gaprune.export.folder import PAGE_FILE, QUERIES_FILE

_PLACE = re.compile(r'((?:SentenceTransformer|ExportedModel)\(|folder = )"[^"]*"')
"""The place of the model in the code of cards."""


def push(
    folder: str | Path, repository: str, *, private: bool | None = None, overwrite: bool = False, revision: str = ""
) -> str:
    """Upload the model in ``folder`` to the hub, and return the address of the commit.

    The code of the card gets the name of the repository in place of that of the folder. The page and its queries,
    which quote the user's texts, are left out; all other files are as they are.

    Args:
        folder: Folder of a model that GAPrune or another wrote.
        repository: Name of the repository, as ``user/name``; it is made if it does not exist.
        private: Whether a new repository is private; ``None`` for the default of your organisation.
        overwrite: Whether a repository that exists gets a new commit, in which equal names are replaced.
        revision: Branch to upload to; it is made if it does not exist. The main branch by default.

    Raises:
        ModelError: If the folder holds no model.
        OutputError: If the hub cannot be reached or refuses the upload.
    """
    from huggingface_hub import HfApi

    folder = Path(folder)
    if not (folder / "README.md").is_file() or not any(folder.glob("*.json")):
        raise ModelError(f"The folder {folder} holds no model with a card (README.md).", "Name a model's own folder.")
    api = HfApi()
    try:
        name = api.create_repo(repository, private=private, exist_ok=overwrite).repo_id
        if revision:
            api.create_branch(repo_id=name, branch=revision, exist_ok=True)
        options: dict[str, Any] = {"repo_id": name, "revision": revision or None}
        api.upload_folder(
            folder_path=folder,
            ignore_patterns=["README.md", PAGE_FILE, QUERIES_FILE, f"*/{PAGE_FILE}", f"*/{QUERIES_FILE}"],
            commit_message="Upload model",
            **options,
        )
        card = (folder / "README.md").read_text(encoding="utf-8")
        card = _PLACE.sub(rf'\1"{name}"', card)
        done = api.upload_file(
            path_or_fileobj=card.encode(), path_in_repo="README.md", commit_message="Upload card", **options
        )
        return str(done.commit_url)
    except Exception as error:  # without a connection, the HTTP client of the hub raises errors of its own
        status = getattr(getattr(error, "response", None), "status_code", None)
        remedy = (
            "Choose another name, or add a commit to it with --overwrite (overwrite=True)."
            if status == 409 and not overwrite
            else "Log in (hf auth login) with a token that may write there, and check the name and the connection."
        )
        reason = str(error).strip().partition("\n")[0]
        raise OutputError(f"{folder} cannot be uploaded to {repository}: {reason}", remedy) from error


class Pushable(ABC):
    """A result that can be uploaded, because it can be saved."""

    @abstractmethod
    def save(self, out: str | Path, *, overwrite: bool = False) -> Path:
        """Write the result to the folder ``out``."""

    def push_to_hub(self, repository: str, *, private: bool | None = None, overwrite: bool = False) -> str:
        """Upload the model, its card and its provenance to the hub, and return the address of the commit.

        Args:
            repository: Name of the repository, as ``user/name``; it is made if it does not exist.
            private: Whether a new repository is private.
            overwrite: Whether a repository that exists gets a new commit.

        Raises:
            OutputError: If the hub cannot be reached or refuses the upload.
        """
        with TemporaryDirectory() as folder:
            return push(self.save(Path(folder) / "model"), repository, private=private, overwrite=overwrite)
