"""Data sets from the hub, and the default for general data."""

import datasets
import pytest

from gaprune.data.read import DEFAULT_GENERAL, read_general, read_triplets
from gaprune.data.samples import sample_triplets
from gaprune.errors import ConfigError, DataError
from gaprune.util.progress import quiet


@pytest.fixture
def offline(monkeypatch):
    """Let no test wait for a network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)


@pytest.fixture
def hub(monkeypatch):
    """A hub that holds one data set; returns what it was asked for."""
    asked = []

    def load(name, subset, *, split):
        asked.append((name, subset, split, datasets.is_progress_bar_enabled()))
        return datasets.Dataset.from_dict({"anchor": ["a", "b"], "positive": ["p", "r"], "negative": ["n", "m"]})

    monkeypatch.setattr(datasets, "load_dataset", load)
    return asked


def test_hub_rows(hub):
    triplets = read_triplets("owner/nli", subset="triplet", split="dev")
    assert triplets.name == "owner/nli"
    assert [(item.query, item.positive, item.negatives) for item in triplets] == [
        ("a", "p", ("n",)),
        ("b", "r", ("m",)),
    ]
    assert triplets[1].source == "owner/nli:record 2"
    with quiet():
        read_triplets("owner/nli")
    assert hub == [("owner/nli", "triplet", "dev", True), ("owner/nli", None, "train", False)]
    assert datasets.is_progress_bar_enabled()


@pytest.mark.parametrize("name", ["no-such-data", "owner/no-such-data"])
def test_unknown_data_set(offline, name):
    with pytest.raises(DataError) as caught:
        read_triplets(name, subset="triplet")
    assert str(caught.value).startswith(
        f"{name}: there is no such file, and the data set (subset 'triplet', split 'train')"
    )
    assert "--domain FILE or --general FILE" in caught.value.remedy


def test_name_that_is_no_hub_id(offline):
    with pytest.raises(DataError, match="there is no such file, and the data set"):
        read_triplets("what is this?")


def test_unknown_split(monkeypatch):
    def load(*_, **__):
        raise ValueError("Unknown split 'trian'.\nmore")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(DataError, match=r"\(split 'trian'\) cannot be read from the hub: Unknown split 'trian'.\n"):
        read_triplets("owner/nli", split="trian")


def test_default_general_data(hub):
    assert read_general(None).name == DEFAULT_GENERAL == "sentence-transformers/all-nli"
    assert len(read_general(None, split="train[:2]", require_negatives=True)) == 2
    assert [item[:3] for item in hub] == [
        ("sentence-transformers/all-nli", "triplet", "train"),
        ("sentence-transformers/all-nli", "triplet", "train[:2]"),
    ]


def test_a_draw_of_the_default_reads_the_drawn_rows_alone(monkeypatch):
    def rows(*_, **__):
        numbers = range(100)
        columns = {"anchor": [f"q{n}" for n in numbers], "positive": ["p"] * 100, "negative": ["n"] * 100}
        return datasets.Dataset.from_dict(columns)

    monkeypatch.setattr(datasets, "load_dataset", rows)
    drawn = read_general(None, most=10, seed=3)
    assert list(drawn) == list(read_general(None, most=10, seed=3))
    assert list(drawn) != list(read_general(None, most=10, seed=4))
    assert len(set(drawn)) == 10
    assert all(item.source == f"{DEFAULT_GENERAL}:record {int(item.query[1:]) + 1}" for item in drawn)
    assert list(drawn) == list(read_general(None).take(10, seed=3))
    assert len(read_general(None, most=1000)) == len(read_general(None, most=10, split="train[:100]")) == 100


def test_default_general_data_offline(offline):
    with pytest.raises(DataError) as caught:
        read_general(None)
    assert str(caught.value).startswith("sentence-transformers/all-nli: the default general data cannot be used: ")
    assert "--general FILE (general=... in Python)" in caught.value.remedy
    assert str(sample_triplets("general")) in caught.value.remedy


def test_general_data_from_a_file(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "q", "positive": "p"}')
    assert read_general(path, columns={"query": "text"})[0].query == "q"
    with pytest.raises(DataError, match="has no negative"):
        read_general(path, columns={"query": "text"}, require_negatives=True)


@pytest.mark.parametrize("options", [{"columns": {"query": "text"}}, {"subset": "triplet"}])
def test_options_without_a_source(options):
    with pytest.raises(ConfigError, match=f"general_{next(iter(options))}: it is given"):
        read_general(None, **options)
