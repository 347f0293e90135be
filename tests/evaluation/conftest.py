"""A tiny model and small tasks, all made on the fly."""

import json
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

COLOURS, NUMBERS = ["red", "green", "blue"], ["one", "two", "three", "four", "five"]
ANIMALS, METALS = ["cat", "dog", "bird", "fish"], ["gold", "iron", "salt", "acid"]
UNKNOWN = "[UNK]"
WORDS = [UNKNOWN, *COLOURS, *NUMBERS, *ANIMALS, *METALS]


def make_model(seed=0, **kwargs):
    """Return a model whose embedding is the mean of random word vectors."""
    torch.manual_seed(seed)
    tokenizer = Tokenizer(WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = Whitespace()
    module = StaticEmbedding(tokenizer, embedding_dim=6)
    torch.nn.init.normal_(module.embedding.weight)
    return SentenceTransformer(modules=[module], device="cpu", **kwargs)


@pytest.fixture
def new_model():
    return make_model


@pytest.fixture(scope="session")
def model():
    return make_model()


@pytest.fixture
def write():
    """Write rows as JSON lines (texts as they are) and return the path."""

    def writer(path: Path, rows) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    return writer


CORPUS = [
    {"_id": f"d{place}", "title": title, "text": text}
    for place, (title, text) in enumerate(
        [
            ("", "red cat one"),
            ("green", "dog two"),
            ("blue", "bird three"),
            ("", "fish four gold"),
            ("iron", "salt acid"),
            ("", "cat dog five"),
            ("one", "two three"),
            ("", "gold iron"),
            ("", "acid red blue"),
            ("four", "five bird"),
            ("", "salt fish"),
            ("", "green green cat"),
        ]
    )
]
QUERIES = [
    {"_id": f"q{place}", "text": text}
    for place, text in enumerate(["red cat", "dog green", "three bird", "gold iron one", "nobody judged"])
]
QRELS = ["q0\td0\t1", "q0\td5\t2", "q0\td8\t0", "q1\td1\t1", "q2\td2\t3", "q2\td9\t1", "q3\td10\t1"]
HEADER = "query-id\tcorpus-id\tscore"


@pytest.fixture
def retrieval(write):
    """Write a retrieval task; parts can be replaced."""

    def writer(folder: Path, corpus=CORPUS, queries=QUERIES, qrels=QRELS, header=HEADER) -> Path:
        write(folder / "corpus.jsonl", corpus)
        write(folder / "queries.jsonl", queries)
        write(folder / "qrels" / "test.tsv", [header, *qrels])
        return folder

    return writer


@pytest.fixture
def classification(write):
    """Write a classification task; parts can be replaced."""

    def rows(numbers):
        return [
            {"text": f"{word} {number}", "label": label}
            for label, words in (("animal", ANIMALS), ("metal", METALS))
            for word in words
            for number in numbers
        ]

    def writer(folder: Path, train=None, test=None) -> Path:
        write(folder / "train.jsonl", rows(["one", "two"]) if train is None else train)
        write(folder / "test.jsonl", rows(["three", "red green"]) if test is None else test)
        return folder

    return writer


@pytest.fixture
def graded_pairs():
    pairs = [("red cat", "cat", 4.5), ("one two", "three", 3), ("gold", "iron salt", 2.5), ("dog", "bird fish", 2)]
    pairs += [("acid", "green", 1), ("red cat", "fish four", 0.5), ("blue", "five", 0)]
    return [{"sentence1": first, "sentence2": second, "score": score} for first, second, score in pairs]
