"""Classification tasks: a logistic regression on the embeddings."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from gaprune.errors import DataError, suggest
from gaprune.evaluation.quality.lines import Line, fingerprint, read_json_lines
from gaprune.evaluation.quality.task import Task
from gaprune.models.encode import encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from sentence_transformers import SentenceTransformer

    from gaprune.models.prompts import Prompts

__all__ = ["ClassificationTask"]

_ITERATIONS = 500


@dataclass(frozen=True, kw_only=True)
class ClassificationTask(Task):
    """Give texts their label, after learning from labelled ones.

    Texts are encoded as ``model.encode`` does, with the model's default prompt if it has one, and normalised.

    Args:
        train: Texts learned from, with their labels.
        test: Texts that are scored, with their labels.
    """

    kind: ClassVar[str] = "classification"
    metric: ClassVar[str] = "accuracy"

    train: tuple[tuple[str, str], ...] = field(repr=False, compare=False)
    test: tuple[tuple[str, str], ...] = field(repr=False, compare=False)

    @classmethod
    def load(cls, folder: Path, domain: str = "") -> ClassificationTask:
        """Read ``train.jsonl`` and ``test.jsonl`` of ``{"text", "label"}`` a line.

        Raises:
            DataError: If a file is missing, or a line of one cannot be used.
        """
        files = [folder / "train.jsonl", folder / "test.jsonl"]
        for file in files:
            if not file.is_file():
                raise DataError(
                    f"A classification task needs the file {file.name}, which is missing.",
                    "Give the folder train.jsonl and test.jsonl.",
                    source=folder,
                )
        train = tuple((line.text("text"), _label(line)) for line in read_json_lines(files[0]))
        labels = {label for _, label in train}
        if len(labels) < 2:
            raise DataError(
                f"All {len(train)} texts have the label {train[0][1]!r}; there is nothing to tell apart.",
                "Add texts with other labels, or remove the task.",
                source=files[0],
            )
        test = []
        for line in read_json_lines(files[1]):
            label = _label(line)
            if label not in labels:
                raise line.error(
                    f"The label {label!r} is in no line of train.jsonl.{suggest(label, labels)}",
                    "Add texts with it to train.jsonl, or remove the line.",
                )
            test.append((line.text("text"), label))
        return cls(name=folder.name, domain=domain, fingerprint=fingerprint(*files), train=train, test=tuple(test))

    def texts(self) -> Iterator[str]:
        """Yield the tested texts."""
        return (text for text, _ in self.test)

    def measure(self, model: SentenceTransformer, *, prompts: Prompts, batch_size: int) -> Mapping[str, float]:  # noqa: ARG002
        """Return the accuracy, and 1 as ``converged`` if the regression came to its end within 500 iterations."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        from gaprune.evaluation.quality.evaluators import check_finite

        texts = [text for text, _ in self.train + self.test]
        vectors = encode(model, texts, None, None, batch_size=batch_size, normalize=True)
        check_finite(vectors, self.name)
        cut = len(self.train)
        regression = LogisticRegression(C=10, max_iter=_ITERATIONS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # reported as `converged`
            regression.fit(vectors[:cut], [label for _, label in self.train])
        return {
            "accuracy": float(regression.score(vectors[cut:], [label for _, label in self.test])),
            "converged": float(max(regression.n_iter_) < _ITERATIONS),
        }


def _label(line: Line) -> str:
    """Return the label as a text; a whole number stands for its digits."""
    return line.identifier("label")
