"""Texts in a language that a tokenizer does not know, by the genuine tokenizer of all-MiniLM-L6-v2."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer

from gaprune.data.checks.language import language_problems
from gaprune.data.samples import sample_triplets

GERMAN = (
    "Die Bank hat im vergangenen Geschäftsjahr ihre Eigenkapitalquote deutlich erhöht.",
    "Wie kündige ich meine Haftpflichtversicherung fristgerecht zum Ende des Jahres?",
    "Bei verspäteter Lieferung kann der Käufer vom Vertrag zurücktreten und Schadensersatz verlangen.",
)
FRENCH = (
    "La banque a augmenté ses fonds propres au cours du dernier exercice.",
    "Comment puis-je résilier mon contrat d'assurance habitation ?",
    "Le conseil d'administration propose de verser un dividende de deux euros par action.",
    "Le délai de préavis est de trois mois avant la fin de l'année.",
)
CHINESE = ("该银行在上一财政年度增加了资本。", "我怎样才能取消我的房屋保险合同？", "通知期限为年底前三个月。")  # noqa: RUF001 (they are meant)


@pytest.fixture(scope="module")
def model(genuine):
    tokenizer = Tokenizer.from_file(str(genuine / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return SimpleNamespace(tokenizer=tokenizer)


def many(texts):
    return [f"{text} {number}" for number in range(20) for text in texts]


@pytest.mark.parametrize(
    ("texts", "said"),
    [(GERMAN, "splits"), (FRENCH, "splits"), (CHINESE, "unknown")],
    ids=["German", "French", "Chinese"],
)
def test_another_language_is_remarked_upon(model, texts, said):
    (problem,) = language_problems(model, many(texts), "mine")
    assert problem.startswith("mine: ")
    assert said in problem


@pytest.mark.parametrize("domain", ["finance", "chemistry", "general"])
def test_english_is_not_nor_are_the_words_of_a_domain(model, domain):
    lines = sample_triplets(domain).read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert not language_problems(
        model, [text for each in records for text in (each["query"], each["positive"])], domain
    )


def test_a_few_words_say_nothing_nor_does_a_model_without_a_tokenizer(model):
    assert not language_problems(model, GERMAN, "mine")
    assert not language_problems(SimpleNamespace(), many(GERMAN), "mine")
