"""The data that comes with the package."""

import pytest

from gaprune.data import samples
from gaprune.data.checks.check import check
from gaprune.data.read import read_triplets
from gaprune.data.samples import sample_evaluation, sample_triplets
from gaprune.errors import ConfigError, DataError


@pytest.mark.parametrize("domain", ["finance", "chemistry", "general"])
def test_sample_triplets_are_sound(domain):
    triplets = read_triplets(sample_triplets(domain), require_negatives=True)
    (report,) = check(triplets).sets
    kinds = ("duplicate_triplets", "positive_is_negative", "query_is_positive")
    assert [report.counts[kind] for kind in kinds] == [0, 0, 0]


@pytest.mark.parametrize("domain", ["finance", "chemistry", "general", None])
def test_sample_evaluation(domain):
    folder = sample_evaluation(domain)
    assert folder.is_dir()
    assert any(folder.iterdir())


@pytest.mark.parametrize("function", [sample_triplets, sample_evaluation])
def test_unknown_domain(function):
    with pytest.raises(ConfigError, match=r"no sample data for 'finanz'\. Did you mean 'finance'"):
        function("finanz")


@pytest.mark.parametrize("function", [sample_triplets, sample_evaluation])
def test_incomplete_installation(function, tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "_SAMPLES", tmp_path)
    with pytest.raises(DataError, match="the sample data are missing"):
        function("finance")
