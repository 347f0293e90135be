"""When two texts are one."""

import pytest

from gaprune.data.words import normalise


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("What is  a bond?", "what is a bond"),
        ("Cafe\u0301 “noir”…", "café noir"),
        ("in 2020.", "In 2020"),
        ("semi-conductor", "semi conductor"),
        ("(Straße)\n", "STRASSE"),
        ("什么\uff1f", "什么"),
    ],
)
def test_same(text, same):
    assert normalise(text) == normalise(same)


@pytest.mark.parametrize(
    ("text", "other"),
    [("up by 5", "up by -5"), ("5 %", "5"), ("1.5", "15"), ("1,5", "15"), ("Na+", "Na"), ("$5", "€5"), ("?", "!")],
)
def test_different(text, other):
    assert normalise(text) != normalise(other)


def test_punctuation_alone_stays():
    assert normalise(" ?! ") == "?!"
