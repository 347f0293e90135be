"""When two texts are one."""

import pytest

from gaprune.data.words import normalise, words


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


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Ein Kredit, 12.5 %", ["ein", "kredit", "12", "5"]),
        ("हिन्दी में ऋण", ["हिन्दी", "में", "ऋण"]),
        ("தமிழ் வங்கி", ["தமிழ்", "வங்கி"]),
        ("می\u200cشود بدهی", ["می\u200cشود", "بدهی"]),
        ("利息 rates", ["利", "息", "rates"]),
    ],
)
def test_words(text, found):
    """Vowel signs and joiners are part of the word that they stand in."""
    assert words(text) == found
