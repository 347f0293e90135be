"""Where sentences end, and where a full stop ends none."""

import pytest

from gaprune.data.documents.passages import sentences


@pytest.mark.parametrize(
    "expected",
    [
        ["Rates rose.", "Banks lent less!", "Why?", "Nobody knows"],
        ["It rose by 3.5 per cent.", "In 2023 it fell."],
        ["It was founded in 1999.", "Two years later it failed."],
        ["Mr. Smith of Acme Inc. met J. R. Jones, Ph.D. Candidate.", "They spoke."],
        ["See e.g. Fig. 3 and No. 5, approx. 7 p. 9, i.e. Section 2 of the U.S. Code.", "It is law."],
        ["They ask: “Is it due?”", "It is (as the note says.)", "Then they pay."],
        ["Well... it fell.", "Then…", "Silence."],
        ["the company (acme.com) grew. it is not small.", "Yes."],
        ["1. Pay the premium.", "2. Keep the receipt."],
        ["first item", "second item", "third: 4.5"],
        ["银行提高了利率。", "贷款变贵了！", "为什么？"],  # noqa: RUF001 (they are meant)
        ["यह पहला वाक्य है।", "यह दूसरा है।"],
        ["Él llegó.", "¿Por qué?", "Ärzte warnten."],
    ],
)
def test_sentences(expected):
    parted = "\n" if expected[0].endswith("item") else " "
    text = parted.join(expected)
    assert [text[start:end] for start, end in sentences(text)] == expected


@pytest.mark.parametrize("text", ["", " \n "])
def test_nothing(text):
    assert sentences(text) == []
