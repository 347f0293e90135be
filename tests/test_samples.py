"""The sample texts in the package: enough of them, clean, and hard enough that ranking differences mean something."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import pytest

from gaprune.data.checks.check import check
from gaprune.data.read import read_triplets
from gaprune.data.samples import SampleDomain, sample_evaluation, sample_triplets
from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.evaluation.quality.evaluate import evaluate
from gaprune.models.load import load_model

if TYPE_CHECKING:
    from pathlib import Path

DOMAINS = get_args(SampleDomain)


@pytest.mark.parametrize("domain", DOMAINS)
def test_there_are_200_clean_triplets_apart_from_the_evaluation_texts(domain: SampleDomain) -> None:
    triplets = read_triplets(sample_triplets(domain), require_negatives=True)
    tasks = {task.name: list(task.texts()) for name in DOMAINS for task in find_tasks(sample_evaluation(name))}
    report = check(triplets, evaluation=tasks)
    assert len(triplets) >= 200
    assert len(tasks) == 3
    assert not report.problems


def test_domains_share_no_text() -> None:
    texts = [
        {text for item in read_triplets(sample_triplets(domain)) for text in (item.query, *item.passages)}
        for domain in DOMAINS
    ]
    assert len(set().union(*texts)) == sum(map(len, texts))


@pytest.mark.genuine
@pytest.mark.parametrize("domain", DOMAINS)
def test_the_genuine_model_leaves_room_above_and_below(domain: SampleDomain, genuine: Path) -> None:
    found = evaluate(load_model(genuine), find_tasks(sample_evaluation(domain)))
    assert [score.metric for score in found.scores] == ["nDCG@10"]
    assert 0.5 < found.mean() < 0.95
