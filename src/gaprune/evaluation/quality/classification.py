"""Classification tasks: a logistic regression on the embeddings."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from gaprune.errors import DataError, suggest
from gaprune.evaluation.quality.files import fingerprint, read_records, require_files
from gaprune.evaluation.quality.task import Measured, Task

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sentence_transformers import SentenceTransformer

    from gaprune.models.prompts import Prompts

_ITERATIONS = 500


@dataclass(frozen=True, kw_only=True)
class ClassificationTask(Task):
    """Predict the label of texts with a logistic regression on labelled texts.

    Texts are encoded with the model's default prompt, if it has one, as ``model.encode`` does, and normalised.
    """

    kind: ClassVar[str] = "classification"
    metric: ClassVar[str] = "accuracy"

    train: tuple[tuple[str, str], ...] = field(repr=False, compare=False)
    test: tuple[tuple[str, str], ...] = field(repr=False, compare=False)

    @classmethod
    def load(cls, folder: Path, domain: str = "") -> ClassificationTask:
        """Read ``train.jsonl`` and ``test.jsonl`` with lines of ``{"text", "label"}``; an integer label is a text too.

        Raises:
            DataError: If a file is missing, or a line of one cannot be used.
        """
        files = require_files(folder, "classification", "train.jsonl", "test.jsonl")
        records = [[record.require("text", "label") for record in read_records(file)] for file in files]
        train = tuple((record.text("text"), record.identifier("label")) for record in records[0])
        labels = {label for _, label in train}
        if len(labels) < 2:
            raise DataError(
                f"all {len(train)} texts have the label {train[0][1]!r}; the task needs different ones.",
                "Add texts with other labels, or remove the task.",
                source=files[0],
            )
        test = []
        for record in records[1]:
            label = record.identifier("label")
            if label not in labels:
                raise record.error(
                    f"the label {label!r} is in no line of train.jsonl.{suggest(label, labels)}",
                    "Add texts with it to train.jsonl, or remove the line.",
                )
            test.append((record.text("text"), label))
        return cls(name=folder.name, domain=domain, fingerprint=fingerprint(*files), train=train, test=tuple(test))

    def texts(self) -> Iterator[str]:
        """Yield the test texts."""
        return (text for text, _ in self.test)

    def measure(self, model: SentenceTransformer, *, prompts: Prompts, batch_size: int) -> Measured:  # noqa: ARG002
        """Return the accuracy, whether the regression converged within 500 iterations, and 0 or 1 for each text."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        from gaprune.evaluation.quality.metrics import embed

        texts = [text for text, _ in self.train + self.test]
        vectors = embed(model, texts, None, None, batch_size=batch_size, task=self.name).cpu().numpy()
        cut = len(self.train)
        regression = LogisticRegression(C=10, max_iter=_ITERATIONS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # reported as `converged`
            regression.fit(vectors[:cut], [label for _, label in self.train])
        items = (regression.predict(vectors[cut:]) == [label for _, label in self.test]).astype(np.float64)
        converged = float(max(regression.n_iter_) < _ITERATIONS)
        return Measured({"accuracy": float(items.mean()), "converged": converged}, items)
