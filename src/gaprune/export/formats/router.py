"""A sentence-transformers folder that embeds queries with the child and documents with its parent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from gaprune.errors import ConfigError, ModelError
from gaprune.export.formats.base import ExportFormat, register
from gaprune.export.model_files import write_model
from gaprune.export.provenance import Provenance
from gaprune.models.encode import encode
from gaprune.models.fingerprints import weights_fingerprint
from gaprune.models.prompts import Prompts, resolve_prompts
from gaprune.util.files import write_json
from gaprune.util.progress import say

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

_ROUTER = "sentence_transformers.models.Router"
_QUERY, _DOCUMENT = "query", "document"
"""Names of the routes of sentence-transformers, and of the folders of their models."""

_USAGE = """\
```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("path/to/this/folder")
queries = model.encode_query(["a question"])         # by {child}
documents = model.encode_document(["a document"])    # by {parent}
```

An index of documents that `{parent}` embedded remains valid. The folders `query` and `document` are the two models,
and open by themselves too: a server that answers queries needs `query` alone.
"""


@register
class RouterFolder(ExportFormat):
    """The child for queries and the parent for documents, in one folder."""

    name: ClassVar[str] = "router"
    runtime: ClassVar[str] = "sentence-transformers"
    has_parent: ClassVar[bool] = True

    def check(self) -> None:
        """Check that the parent is known."""
        super().check()
        self._recorded = Provenance.read(self.request.folder)
        found = self._recorded and self._recorded.parent.find(self.request.folder)
        self._name = str(self.request.parent or found or "")
        if not self._name:
            raise ConfigError(
                f"parent: nothing says where the parent of {self.request.folder} is.",
                "Name it: --parent (parent=...).",
            )

    def check_model(self, model: SentenceTransformer) -> None:
        """Load the parent, and refuse one in whose index the model cannot search."""
        recorded = self._recorded and self._recorded.parent
        revision = recorded.revision if recorded and self.request.parent is None else None
        self._parent = self.request.load(self._name, revision=revision)
        self._note = "" if self._recorded is None else self._difference(self._recorded, revision)
        mine, its = model.get_embedding_dimension(), self._parent.get_embedding_dimension()
        if mine != its:
            raise ModelError(
                f"The embeddings of the model have {mine} dimensions, those of its parent {its}.",
                "Both must have the same: the model cannot search documents that the parent embeds.",
            )
        for each, name in ((model, self.request.folder), (self._parent, self._name)):
            if type(each[0]).__name__ == "Router":
                raise ModelError(f"{name} is a router already.", "Name the folders of two models.")
            if any("--" not in str(code) for code in getattr(each[0].config, "auto_map", {}).values()):
                raise ModelError(
                    f"{name} comes with code of its own, which sentence-transformers does not find inside a router.",
                    "Keep both folders: embed queries with the one and documents with the other.",
                )

    def _difference(self, recorded: Provenance, revision: str | None) -> str:
        """Return a note that the model for documents is neither the recorded parent nor a teacher; empty if it is.

        Raises:
            ModelError: If it is another model and was not asked for by force.
        """
        known = (recorded.parent, *(each.teacher for each in recorded.recoveries if each.teacher is not None))
        types = {each.dtype for each in known}
        loaded = (
            self._parent if each is None else self.request.load(self._name, revision=revision, dtype=each)
            for each in types
        )
        if {weights_fingerprint(each) for each in loaded} & {each.weights_sha256 for each in known}:
            return ""
        name = recorded.parent.name
        if not self.request.force:
            raise ModelError(
                f"parent: {self._name} has other weights than the parent {name} that gaprune.json names.",
                "Name that model: --parent (parent=...). --force (force=True) takes this one all the same, and the "
                "card says so.",
            )
        note = (
            f"note: {Path(self._name).name} has other weights than {name}, from which the model for queries was made"
        )
        say(f"Warning: {note.removeprefix('note: ')}.")
        return f"; {note}"

    def write(self, model: SentenceTransformer, folder: Path, texts: Sequence[str]) -> str:  # noqa: ARG002
        """Write both models, each in its own folder and type of numbers, and the router around them."""
        child = self.request.load(self.request.folder)
        self._prompts = Prompts(resolve_prompts(child).query, resolve_prompts(self._parent).passage)
        types, structure = {}, {}
        for route, each in ((_QUERY, child), (_DOCUMENT, self._parent)):
            write_model(each, folder / route)
            entries = json.loads((folder / route / "modules.json").read_text(encoding="utf-8"))
            places = {f"{route}/{entry['path']}".rstrip("/"): entry["type"] for entry in entries}
            types.update(places)
            structure[route] = list(places)
        settings = json.loads((folder / _QUERY / "config_sentence_transformers.json").read_text(encoding="utf-8"))
        prompts = {_QUERY: self._prompts.query, _DOCUMENT: self._prompts.passage}
        router = {
            "types": types,
            "structure": structure,
            "parameters": {"default_route": _DOCUMENT, "allow_empty_key": True, "route_mappings": {}},
        }
        modules = [{"idx": 0, "name": "0", "path": "", "type": _ROUTER}]
        write_json(folder / "modules.json", modules, ascii_only=False)
        write_json(folder / "router_config.json", router, ascii_only=False)
        settings = settings | {"prompts": prompts, "default_prompt_name": None}
        write_json(folder / "config_sentence_transformers.json", settings, ascii_only=False)
        return f"both models as they are{self._note}"

    def embeddings(
        self, model: SentenceTransformer, folder: Path, texts: Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the embedding of every text as a query and as a document, side by side.

        The cosine of such a pair is the mean of the cosines of both.
        """
        opened = self.request.load(folder)
        prompts = resolve_prompts(opened)
        if prompts != self._prompts:
            raise ModelError(f"The router reads the prompts {prompts}, not {self._prompts}.", "Please report this.")
        routed = [encode(opened, texts, role, prompts, normalize=True) for role in ("query", "passage")]
        query = encode(model, texts, "query", self._prompts, normalize=True)
        document = encode(self._parent, texts, "passage", self._prompts, normalize=True)
        return np.hstack(routed), np.hstack([query, document])

    def usage(self) -> str:
        """Return how both sides are encoded."""
        return _USAGE.format(child=self.request.folder.name, parent=Path(self._name).name)
