"""An ordinary sentence-transformers folder, for a model that the export changes first (its number of dimensions)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from gaprune.export.formats.base import ExportFormat, register
from gaprune.export.model_files import write_model
from gaprune.models.encode import encode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

_USAGE = """\
```python
from sentence_transformers import SentenceTransformer

embeddings = SentenceTransformer("path/to/this/folder").encode(["a text", "another text"])
```
"""


@register
class TorchFolder(ExportFormat):
    """The files that sentence-transformers and the servers read."""

    name: ClassVar[str] = "torch"
    runtime: ClassVar[str] = "sentence-transformers"

    def write(self, model: SentenceTransformer, folder: Path, texts: Sequence[str]) -> str:  # noqa: ARG002
        """Write the model in fp32."""
        write_model(model, folder)
        return "fp32"

    def embeddings(
        self, model: SentenceTransformer, folder: Path, texts: Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the embeddings by the folder, opened again, and by the model."""
        opened = self.request.load(folder)
        return encode(opened, texts, None, ""), encode(model, texts, None, "")

    def usage(self) -> str:
        """Return the call that opens the folder."""
        return _USAGE
