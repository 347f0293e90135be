"""BM25 against its formula, worked out by hand."""

from math import log

import numpy as np
import pytest

from gaprune.data.documents.search import Bm25

PASSAGES = ["the bank lends", "The bank of the river, the river bank.", "Rain"]
"""Of 3, 8 and 1 words: 4 on average."""


def part(times, length, containing):
    """Return the part of a word that occurs ``times`` in a passage, and in ``containing`` of the three (Lucene)."""
    frequency = log(1 + (3 - containing + 0.5) / (containing + 0.5))
    return frequency * times / (times + 1.2 * (1 - 0.75 + 0.75 * length / 4))


def test_three_passages():
    found = Bm25(PASSAGES).scores(["bank", "RIVER bank", "rain rain", "snow", ""])
    expected = [
        [part(1, 3, 2), part(2, 8, 2), 0],
        [part(1, 3, 2), part(2, 8, 2) + part(2, 8, 1), 0],
        [0, 0, 2 * part(1, 1, 1)],  # a word that occurs twice in the query counts twice
        [0, 0, 0],
        [0, 0, 0],
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_score_by_numbers():
    assert Bm25(PASSAGES).scores(["rain"])[0, 2] == pytest.approx(0.98083 / 1.525, rel=1e-5)


def test_words_of_any_script(capsys):
    index = Bm25(["银行提高了利率。", "猫在阳光下睡觉。", "Der Zinssatz stieg.", "кот спит"])
    assert index.scores(["利率", "睡觉", "zinssatz", "спит".upper()]).argmax(axis=1).tolist() == [0, 1, 2, 3]
    assert capsys.readouterr() == ("", "")
