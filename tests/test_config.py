"""The recipe: precedence, both spellings of lists, and the text of every refusal."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from gaprune.config.data import DataOptions
from gaprune.config.files import load_recipe
from gaprune.config.measurement import MeasurementOptions
from gaprune.config.recipe import Recipe
from gaprune.config.recovery import RecoveryOptions
from gaprune.config.shrink import ShrinkOptions
from gaprune.errors import ConfigError

WAY_OUT = "gaprune options prune"


def refused(*layers) -> str:
    """The problem that building from these layers raises."""
    with pytest.raises(ConfigError) as caught:
        Recipe.build(*layers)
    option = caught.value.problem.partition(":")[0]
    assert caught.value.remedy.startswith(f"The option {option}: ") or WAY_OUT in caught.value.remedy
    return caught.value.problem


def assert_says(problem: str, option: str, *words: str) -> None:
    """The problem begins with the option, and has all these words."""
    assert problem.startswith(option)
    assert all(word in problem for word in words), problem


@pytest.fixture
def write(tmp_path):
    def recipe(text: str) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return recipe


def test_defaults():
    recipe = Recipe.build()
    assert recipe == Recipe()
    stated = {
        "sparsity": (0.5,),
        "targets": ("mlp",),
        "criterion": "dai",
        "granularity": "weight",
        "fisher": "triplet",
        "negatives": "in-batch",
        "temperature": 0.05,
        "seed": 0,
        "mine_negatives": 0,
        "trust_remote_code": False,
        "allocation": None,
        "domain": None,
        "ignore": (),
    }
    assert {name: getattr(recipe, name) for name in stated} == stated
    assert recipe.pattern is None


def test_every_option_is_described():
    for name, field in Recipe.model_fields.items():
        assert field.description, name


def test_later_layers_win_and_none_is_not_given():
    recipe = Recipe.build(
        {"criterion": "obd", "seed": 1, "targets": "attention"},
        {"criterion": "wanda", "seed": None, "targets": None},
        {"criterion": None, "seed": 3},
    )
    assert (recipe.criterion, recipe.seed, recipe.targets) == ("wanda", 3, ("attention",))
    assert Recipe.build({"criterion": None}).criterion == "dai"


def test_false_and_zero_are_given():
    recipe = Recipe.build({"trust_remote_code": True, "seed": 5}, {"trust_remote_code": False, "seed": 0})
    assert recipe.trust_remote_code is False
    assert recipe.seed == 0


def test_dictionaries_are_replaced_whole():
    recipe = Recipe.build({"columns": {"query": "a", "positive": "b"}}, {"columns": {"query": "c"}})
    assert recipe.columns == {"query": "c"}


def test_layers_are_left_as_they_were():
    low, high = {"seed": 1}, {"seed": 2, "criterion": None}
    Recipe.build(low, high)
    assert (low, high) == ({"seed": 1}, {"seed": 2, "criterion": None})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.5, (0.5,)),
        ("0.5", (0.5,)),
        ("0.3, 0.5,0.65", (0.3, 0.5, 0.65)),
        ([0.3, 0.5], (0.3, 0.5)),
        ((0.3,), (0.3,)),
        (["0.3", 0.5], (0.3, 0.5)),
        ("0.5,", (0.5,)),
    ],
)
def test_sparsity_in_every_spelling(value, expected):
    assert Recipe.build({"sparsity": value}).sparsity == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("mlp", ("mlp",)),
        ("mlp, attention", ("mlp", "attention")),
        (["mlp", "attention"], ("mlp", "attention")),
        (["re:layer.{1,2}$"], ("re:layer.{1,2}$",)),
        ([], ()),
    ],
)
def test_words_in_every_spelling(value, expected):
    recipe = Recipe.build({"targets": value, "ignore": value})
    assert recipe.targets == recipe.ignore == expected


@pytest.mark.parametrize(("options", "more"), [(Recipe, {}), (RecoveryOptions, {}), (ShrinkOptions, {"speedup": 2})])
def test_a_tilde_is_the_users_folder(options, more, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    found = options.build({"out": "~/small", "domain": "~/mine.jsonl"}, more)
    assert (found.out, found.domain) == ("/home/me/small", "/home/me/mine.jsonl")


@pytest.mark.parametrize("given", [{"depth": True}, {"recover": True}, {"seed": False}, {"memory_budget": "1.5.2GB"}])
def test_what_is_no_number_is_refused(given):
    """A switch where a number belongs would be 1 or 0."""
    with pytest.raises(ConfigError, match=next(iter(given))):
        Recipe.build(given)


@pytest.mark.parametrize("given", [{"depth": np.int64(1)}, {"width": np.float32(0.5)}])
def test_numbers_of_numpy_are_numbers(given):
    (option, value), *_ = given.items()
    assert getattr(Recipe.build(given), option) == (value,)


def test_paths_are_taken_for_text():
    recipe = Recipe.build({"domain": Path("a/b.jsonl"), "model": Path("m"), "scores": Path("s.safetensors")})
    assert (recipe.domain, recipe.model, recipe.scores) == (str(Path("a/b.jsonl")), "m", "s.safetensors")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, ["0 is not between", "0.5 removes half"]),
        (1, ["1 is not between"]),
        (-1, ["-1 is not between"]),
        (1.5, ["1.5 is not between"]),
        (50, ["50 is not between"]),
        ("0.5,1.5", ["1.5 is not between"]),
        ("abc", ["'abc' is not a number"]),
        ("0.5,abc", ["'abc' is not a number"]),
        ("50%", ["'50%' is not a number", "write 0.5"]),
        (float("nan"), ["nan", "finite"]),
        ("", ["at least one"]),
        ([], ["at least one"]),
    ],
)
def test_sparsity_that_makes_no_sense(value, words):
    assert_says(refused({"sparsity": value}), "sparsity: ", *words)


@pytest.mark.parametrize("value", ["3:2", "2:2", "0:4", "2:", ":4", "2", "-1:4", "1.5:4", "2:4:8", "width", ""])
def test_granularity_that_makes_no_sense(value):
    assert_says(refused({"granularity": value}), "granularity: ", repr(value), "N:M")


@pytest.mark.parametrize(
    ("granularity", "pattern", "sparsity"),
    [("2:4", (2, 4), 0.5), ("1:4", (1, 4), 0.75), ("4:8", (4, 8), 0.5), ("4:5", (4, 5), 0.2), ("9:10", (9, 10), 0.1)],
)
def test_a_pattern_decides_the_sparsity_and_may_be_given_it(granularity, pattern, sparsity):
    recipe = Recipe.build({"granularity": granularity})
    assert recipe.pattern == pattern
    assert recipe.sparsity == (sparsity,)
    assert Recipe.build({"granularity": granularity, "sparsity": sparsity}) == recipe


@pytest.mark.parametrize("sparsity", [0.6, (0.5, 0.6), (0.5, 0.5)])
def test_a_pattern_refuses_another_sparsity(sparsity):
    assert_says(refused({"granularity": "2:4", "sparsity": sparsity}), "sparsity: ", "2:4", "0.5", "leave it out")


@pytest.mark.parametrize("allocation", ["global", "layer", "matrix", "row"])
def test_a_pattern_refuses_any_allocation(allocation):
    assert Recipe.build({"allocation": allocation}).allocation == allocation
    assert_says(refused({"granularity": "2:4", "allocation": allocation}), "allocation: ", "2:4", "leave")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sparsty": 0.5}, ["Unknown option 'sparsty'", "'sparsity'?"]),
        ({"zzzzz": 1}, ["Unknown option 'zzzzz'"]),
        ({"sparsty": None}, ["Unknown option 'sparsty'", "'sparsity'?"]),
        ({"allocation": "rows"}, ["allocation: ", "'rows'", "'global', 'layer', 'matrix' or 'row'"]),
        ({"fisher": "token"}, ["fisher: ", "'token'", "'triplet' or 'batch'"]),
        ({"negatives": "hard"}, ["negatives: ", "'hard'", "'in-batch' or 'explicit'"]),
        ({"temperature": 0}, ["temperature: ", "greater than 0"]),
        ({"temperature": float("inf")}, ["temperature: ", "finite"]),
        ({"batch_size": 0}, ["batch_size: ", "equal to 1"]),
        ({"triplets": 0}, ["triplets: ", "equal to 1"]),
        ({"max_length": 0}, ["max_length: ", "equal to 1"]),
        ({"mine_negatives": -1}, ["mine_negatives: ", "-1", "equal to 0"]),
        ({"seed": 1.5}, ["seed: ", "1.5", "whole number"]),
        ({"trust_remote_code": "perhaps"}, ["trust_remote_code: ", "'perhaps'", "true or false"]),
        ({"domain": ["a", "b"]}, ["domain: ", "['a', 'b']", "text"]),
        ({"columns": "query"}, ["columns: ", "'query'", "mapping"]),
    ],
)
def test_other_refusals_name_the_option(options, words):
    assert_says(refused(options), *words)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"width": 0.5, "sparsity": 0.5}, "sparsity"),
        ({"depth": 1, "granularity": "weight"}, "granularity"),
        ({"vocabulary": "texts.txt", "targets": "mlp"}, "targets"),
        ({"target": "speedup=2", "sparsity": "0.5"}, "sparsity"),
        ({"width": 0.5, "fisher": "triplet"}, "fisher"),
        ({"sparsity": 0.5, "round_to": 64}, "round_to"),
        ({"sparsity": 0.5, "search": "depth,width"}, "search"),
        ({"width": 0.5, "layer_triplets": 64}, "layer_triplets"),
        ({"reconstruct": False, "ridge": 0.1}, "ridge"),
        ({"checkpoint_every": 60}, "checkpoint_every"),
    ],
)
def test_no_option_is_ignored_even_if_its_value_is_the_default(options, name):
    assert_says(refused(options), f"{name}: ")
    rest = {key: value for key, value in options.items() if key != name}
    assert Recipe.build(Recipe.build(rest).model_dump()) == Recipe.build(rest), "written out whole it means the same"


def test_no_option_of_a_recovery_is_ignored():
    for given, name in (
        ({"embedding_weight": 1.0}, "embedding_weight"),
        ({"texts": "texts", "fixed_targets": True}, "fixed_targets"),
    ):
        with pytest.raises(ConfigError, match=f"{name}: "):
            RecoveryOptions.build(given)
    with pytest.raises(ConfigError, match=r"steps: .*triplets"):
        RecoveryOptions.build({"texts": "texts", "steps": 100}).refuse_without_triplets()
    RecoveryOptions.build({"texts": "texts"}).refuse_without_triplets()


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        (RecoveryOptions, "sparsity", "gaprune prune"),
        (Recipe, "lora", "gaprune recover"),
        (Recipe, "runtime", "shrink"),
    ],
)
def test_an_option_of_another_command_is_named_as_such(kind, name, said):
    with pytest.raises(ConfigError) as caught:
        kind.build({name: "1"})
    assert said in caught.value.problem
    assert "Did you mean" not in caught.value.problem


def test_what_may_stand_after_a_number_is_said():
    with pytest.raises(ConfigError, match=r"tokens: '20Q' .*20k or 20M"):
        RecoveryOptions.build({"texts": "texts", "tokens": "20Q"})


def test_the_recipe_of_the_paper_is_offered():
    with pytest.raises(ConfigError, match=r"Did you mean 'paper'"):
        load_recipe("papr")
    with pytest.raises(ConfigError) as caught:
        load_recipe("papr", RecoveryOptions)
    assert "paper" not in str(caught.value)


def test_several_near_names_are_offered():
    assert refused({"query": "x"}).startswith("Unknown option 'query'.")
    assert_says(refused({"prompt": "x"}), "Unknown option 'prompt'", "'query_prompt'", "'passage_prompt'")


@pytest.mark.parametrize("name", list(Recipe.model_fields))
def test_options_cannot_be_changed(name):
    recipe = Recipe.build({"granularity": "2:4"})
    with pytest.raises(ValidationError, match="frozen"):
        setattr(recipe, name, None)


def test_recipes_share_no_dictionaries():
    given = {"distil": 0.1}
    first, second = Recipe.build({"recovery": given, "recover": 1}), Recipe.build()
    given["distil"] = 9.0
    assert first.recovery == {"distil": 0.1}
    assert second.columns is not Recipe.build().columns


@pytest.mark.parametrize("kind", [Recipe, DataOptions, MeasurementOptions])
def test_unknown_keys_are_refused_without_build_too(kind):
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        kind(unknown=1)


@pytest.mark.parametrize(
    ("options", "size"),
    [({}, 16), ({"fisher": "batch"}, 4), ({"batch_size": 7}, 7), ({"fisher": "batch", "batch_size": 9}, 9)],
)
def test_triplets_per_batch(options, size):
    assert MeasurementOptions(**options).triplets_per_batch == size


def test_options_of_recovery_keep_their_kinds():
    given = {"warmup": 0.25, "batch_size": 64, "teacher_cache": "here", "distil": True}
    options = Recipe.build({"recovery": given, "recover": 5}).recovery
    assert options == given
    assert options["distil"] is True


def test_a_recipe_goes_round():
    recipe = Recipe.build({"granularity": "1:4", "domain": "d.jsonl", "targets": "mlp,attention", "seed": 4})
    assert Recipe.build(recipe.model_dump(exclude_unset=True)) == recipe
    assert Recipe.build(recipe.model_dump()) == recipe
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_load_recipe(write):
    path = write(
        """# a recipe
model: sentence-transformers/all-MiniLM-L6-v2
sparsity: [0.3, 0.5]
targets: mlp, attention
ignore: []
criterion: dai
recover: 10
recovery:
  warmup: 0.3
  distil: true
trust_remote_code: no
dtype: null
batch_size: 8
"""
    )
    content = load_recipe(path)
    assert content["sparsity"] == [0.3, 0.5]
    assert content["dtype"] is None
    recipe = Recipe.build(content, {"batch_size": 2})
    assert recipe.sparsity == (0.3, 0.5)
    assert recipe.targets == ("mlp", "attention")
    assert recipe.recovery == {"warmup": 0.3, "distil": True}
    assert recipe.trust_remote_code is False
    assert recipe.batch_size == 2
    assert load_recipe(str(path)) == content


@pytest.mark.parametrize("text", ["granularity: 2:4", "granularity: '2:4'", 'granularity: "2:4"'])
def test_a_pattern_needs_no_quotes_in_yaml(write, text):
    content = load_recipe(write(text))
    assert content == {"granularity": "2:4"}
    assert Recipe.build(content).pattern == (2, 4)


def test_numbers_stay_numbers_in_yaml(write):
    content = load_recipe(write("seed: 17\nbatch_size: 0x10\ntemperature: 0.1\n"))
    assert content == {"seed": 17, "batch_size": 16, "temperature": 0.1}


def test_lists_and_commas_agree_in_yaml(write):
    listed = Recipe.build(load_recipe(write("sparsity: [0.3, 0.5]\ntargets:\n- mlp\n- attention\n")))
    commas = Recipe.build(load_recipe(write("sparsity: 0.3,0.5\ntargets: mlp,attention\n")))
    assert listed == commas


def test_unknown_option_in_a_recipe_is_named_with_its_line(write):
    path = write("# comment\nmodel: m\n\nsparsty: 0.5\n")
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    assert_says(caught.value.problem, f"{path}:4: ", "'sparsty'", "'sparsity'?")
    assert WAY_OUT in caught.value.remedy


def test_unknown_option_in_a_section_is_named_with_its_line(write):
    path = write("speedup: 2\nprune:\n  triplets: 64\n  roundz: 2\n")
    with pytest.raises(ConfigError) as caught:
        load_recipe(path, ShrinkOptions)
    assert_says(caught.value.problem, f"{path}:4: ", "'roundz'", "'rounds'")
    assert "gaprune options prune" in caught.value.remedy
    with pytest.raises(ConfigError, match=r"recipe\.yaml:2: .*'distill'"):
        load_recipe(write("recovery:\n  distill: true\n"))
    assert load_recipe(write("recover:\n  steps: 5\n"), ShrinkOptions) == {"recover": {"steps": 5}}


def test_a_number_as_option_is_unknown(write):
    with pytest.raises(ConfigError, match=r"recipe\.yaml:1: .*'5'"):
        load_recipe(write("5: x\n"))
    with pytest.raises(ConfigError, match=r"recipe\.yaml:1: .*list"):
        load_recipe(write("? [a, b]\n: 1\n"))


@pytest.mark.parametrize("text", ["", "# nothing\n", "- mlp\n- attention\n", "sparsity\n", "3\n"])
def test_a_recipe_that_is_no_mapping(write, text):
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    assert_says(caught.value.problem, f"The recipe {path}", "mapping")
    assert "sparsity: 0.5" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("model: m\nsparsity: [0.5\n", 3),
        ("model: m\n\tsparsity: 1\n", 2),
        ("a: 1\nb: 2\n---\nc: 3\n", 3),
        ("model: !!python/object/apply:os.getcwd []\n", 1),
    ],
)
def test_a_recipe_that_is_no_safe_yaml_names_the_line(write, text, line):
    path = write(text)
    with pytest.raises(ConfigError, match=re.escape(f"{path}:{line}: not valid YAML: ")) as caught:
        load_recipe(path)
    assert "line" in caught.value.remedy


def test_a_recipe_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError) as caught:
            load_recipe(path)
        assert caught.value.problem.startswith(f"The recipe {path} cannot be read: ")
        assert "exists" in caught.value.remedy
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x80")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe(binary)


def test_an_option_that_stands_twice(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("sparsity: 0.5\nseed: 1\nsparsity: 0.3\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    assert caught.value.problem.startswith(f"{path}:3: ")
    assert "duplicate key" in caught.value.problem
    path.write_text("recovery:\n  warmup: 0.1\n  warmup: 0.3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"recipe\.yaml:3: .*duplicate key"):
        load_recipe(path)


def test_a_comma_within_braces_is_the_patterns():
    assert Recipe.build({"targets": r"re:.*\.\d{1,2}\..*, mlp"}).targets == (r"re:.*\.\d{1,2}\..*", "mlp")
