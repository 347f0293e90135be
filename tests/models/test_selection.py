from __future__ import annotations

import pytest

from families import FAMILIES
from gaprune.errors import SelectionError
from gaprune.models.linear_layers import linear_layers, select


@pytest.fixture
def found(bert):
    return linear_layers(bert)


def _names(chosen):
    return [matrix.name for matrix in chosen]


@pytest.mark.parametrize("word", ["mlp", "attention", "all"])
def test_words(model, family, word):
    builder = FAMILIES[family]
    inside = {"mlp": builder.mlp, "attention": builder.attention, "all": builder.mlp + builder.attention}[word]
    expected = {f"{builder.blocks}.{layer}.{name}" for layer in range(2) for name in inside}
    assert set(_names(select(linear_layers(model), [word]))) == expected


def test_a_name_selects_itself_alone(model):
    for matrix in linear_layers(model):
        assert select(linear_layers(model), [matrix.name])[0].module is matrix.module


def test_nothing_outside_the_blocks_is_in_all_but_its_name_reaches_it(found):
    assert "pooler.dense" not in _names(select(found, ["all"]))
    assert _names(select(found, ["pooler.dense"])) == ["pooler.dense"]


def test_a_pattern_must_match_the_full_name(found):
    assert _names(select(found, [r"re:encoder\.layer\.1\.(intermediate|output)\.dense"])) == [
        "encoder.layer.1.intermediate.dense",
        "encoder.layer.1.output.dense",
    ]
    with pytest.raises(SelectionError):
        select(found, ["re:intermediate"])


def test_a_dot_in_a_name_is_no_wildcard(found):
    with pytest.raises(SelectionError):
        select(found, ["poolerxdense"])


def test_order_is_the_models_and_nothing_comes_twice(found):
    chosen = _names(select(found, ["encoder.layer.1.output.dense", "mlp", "attention", "mlp"]))
    assert chosen == _names(select(found, ["all"]))


def test_ignore(found):
    assert _names(select(found, ["mlp"], [r"re:encoder\.layer\.0\..*"])) == [
        "encoder.layer.1.intermediate.dense",
        "encoder.layer.1.output.dense",
    ]
    assert select(found, ["all"], ["mlp"]) == select(found, ["attention"])


def test_ignoring_what_is_not_selected_changes_nothing(found):
    assert select(found, ["mlp"], ["attention"]) == select(found, ["mlp"])


@pytest.mark.parametrize(
    ("targets", "ignore", "problem", "remedy"),
    [
        ([], [], "No target was given.", "Use mlp, attention, all, a layer's name or re:PATTERN."),
        (
            ["mpl"],
            [],
            "targets: 'mpl' matches none of the model's 13 linear layers. Did you mean 'mlp'?",
            (
                "Use mlp, attention, all, a layer's name or re:PATTERN; the first names are "
                "encoder.layer.0.attention.self.query, encoder.layer.0.attention.self.key, "
                "encoder.layer.0.attention.self.value."
            ),
        ),
        (
            ["atention"],
            [],
            "targets: 'atention' matches none of the model's 13 linear layers. Did you mean 'attention",
            None,
        ),
        (["pooler.dens"], [], "Did you mean 'pooler.dense'", None),
        (["encoder.layer.1.outptu.dense"], [], "Did you mean 'encoder.layer.1.output.dense' or", None),
        (["re:pooler.dens"], [], "targets: 're:pooler.dens' matches none", None),
        (
            ["quite-something-else"],
            [],
            "targets: 'quite-something-else' matches none of the model's 13 linear layers.",
            None,
        ),
        (["re:(mlp"], [], "targets: 're:(mlp' is not a regular expression: ", "Correct the pattern after 're:'."),
        (["mlp"], ["atn"], "ignore: 'atn' matches none of the model's 13 linear layers.", None),
        (["mlp"], ["re:["], "ignore: 're:[' is not a regular expression: ", "Correct the pattern after 're:'."),
        (["mlp"], ["all"], "ignore (all) takes away everything that targets (mlp) selects.", "Ignore less."),
    ],
)
def test_errors_say_what_is_near_and_the_way_out(found, targets, ignore, problem, remedy):
    with pytest.raises(SelectionError) as caught:
        select(found, targets, ignore)
    assert problem in caught.value.problem
    assert remedy is None or caught.value.remedy == remedy


def test_a_good_word_does_not_excuse_a_bad_one(found):
    with pytest.raises(SelectionError, match="'embeddings' matches none"):
        select(found, ["mlp", "embeddings"])


def test_a_kind_that_the_model_lacks_matches_nothing(found):
    attention = [matrix for matrix in found if matrix.kind == "attention"]
    with pytest.raises(SelectionError, match="targets: 'mlp' matches none of the model's 8 linear layers"):
        select(attention, ["mlp"])
