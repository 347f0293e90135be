"""Defaults, then the recipe file, then the command line."""

from __future__ import annotations

import json

import pytest

from gaprune.config.recipe import Recipe
from gaprune.pipelines import prune as pipeline


@pytest.fixture
def recipe_of(gaprune, monkeypatch, tmp_path):
    """The recipe that a call of ``gaprune prune`` ends in, from a YAML text and arguments."""

    def build(text: str | None, *arguments: object) -> Recipe:
        asked = []
        monkeypatch.setattr(pipeline, "prune_many", lambda model, recipe: asked.append((model, recipe)) or [])
        given = []
        if text is not None:
            (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
            given = ["--recipe", tmp_path / "recipe.yaml"]
        done = gaprune("prune", *arguments, *given, "--set", "scores=s")
        assert done.code == 0, done.err
        [(model, options)] = asked
        return Recipe.build(options, {"model": model})

    return build


@pytest.mark.parametrize(
    ("field", "text", "arguments", "from_file", "from_command"),
    [
        ("seed", "seed: 3", ["--set", "seed=4"], 3, 4),
        ("triplets", "triplets: 3", ["--triplets", 4], 3, 4),
        ("temperature", "temperature: 0.1", ["--set", "temperature=0.2"], 0.1, 0.2),
        ("criterion", "criterion: obd", ["--criterion", "wanda"], "obd", "wanda"),
        ("allocation", "allocation: row", ["--set", "allocation=layer"], "row", "layer"),
        ("sparsity", "sparsity: 0.3", ["--sparsity", "0.4,0.6"], (0.3,), (0.4, 0.6)),
        ("sparsity", "sparsity: [0.3, 0.4]", ["--sparsity", 0.6], (0.3, 0.4), (0.6,)),
        ("targets", "targets: [all]", ["--targets", "mlp,re:.*key"], ("all",), ("mlp", "re:.*key")),
        ("ignore", "ignore: re:.*0.*", ["--set", "ignore=attention"], ("re:.*0.*",), ("attention",)),
        ("overwrite", "overwrite: true", ["--set", "overwrite=false"], True, False),
        ("overwrite", "overwrite: false", ["--overwrite"], False, True),
        ("trust_remote_code", "trust_remote_code: true", ["--set", "trust_remote_code=no"], True, False),
        ("columns", "columns: {query: q}", ["--set", "columns.query=p"], {"query": "q"}, {"query": "p"}),
        ("reconstruct", "reconstruct: true", ["--no-reconstruct"], True, False),
        ("model", "model: from/file", ["from/command"], "from/file", "from/command"),
        ("out", "out: there", ["--out", "here"], "there", "here"),
    ],
)
def test_each_kind_of_option(recipe_of, field, text, arguments, from_file, from_command):
    default = Recipe.model_fields[field].get_default(call_default_factory=True)
    assert getattr(recipe_of(None), field) == default
    assert getattr(recipe_of(text), field) == from_file
    assert getattr(recipe_of(text, *arguments), field) == from_command
    assert getattr(recipe_of(None, *arguments), field) == from_command


def test_a_key_of_a_mapping_is_set_alone(recipe_of):
    recipe = recipe_of("columns: {query: q, positive: p}", "--set", "columns.query=question")
    assert recipe.columns == {"query": "question", "positive": "p"}


def test_a_pattern_from_the_file(recipe_of):
    assert recipe_of("granularity: 2:4").pattern == (2, 4)
    assert recipe_of("granularity: 1:4", "--granularity", "2:4").sparsity == (0.5,)


def test_what_ends_up_in_the_output(gaprune, files, empty, tmp_path):
    (tmp_path / "recipe.yaml").write_text(
        f"model: {files.model}\ndomain: {files.domain}\ngeneral: {files.general}\ndevice: cpu\n"
        "criterion: dai-paper:beta=0.1\nseed: 7\ntriplets: 3\nsparsity: 0.2\n",
        encoding="utf-8",
    )
    done = gaprune("prune", "--recipe", tmp_path / "recipe.yaml", "--sparsity", 0.35, "--out", empty / "o", "--quiet")
    assert done.code == 0, done.err
    said = json.loads((empty / "o" / "gaprune.json").read_text(encoding="utf-8"))
    wanted = {"seed": 7, "triplets": 3, "sparsity": [0.35], "criterion": "dai-paper:beta=0.1"}
    assert {name: said["recipe"][name] for name in wanted} == wanted
    assert said["method"]["options"] == {"alpha": 0.2, "beta": 0.1, "gamma": 0.5, "alignment": "weight"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("seed: 1\nsparsty: 0.5\n", "recipe.yaml:2: unknown option 'sparsty'. Did you mean 'sparsity'"),
        ("- seed\n", "is not a mapping"),
        ("seed: [\n", "not valid YAML"),
        ("seed: one\n", "seed: "),
    ],
)
def test_a_wrong_recipe(gaprune, files, empty, tmp_path, text, problem):
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    done = gaprune("prune", files.model, "--recipe", tmp_path / "recipe.yaml", "--out", empty / "o")
    assert done.code == 2
    assert problem in done.err
    assert not list(empty.iterdir())


def test_a_recipe_that_is_not_there(gaprune, files, empty):
    done = gaprune("prune", files.model, "--recipe", empty / "no.yaml", "--out", empty / "o")
    assert done.code == 2
    assert "no.yaml cannot be read" in done.err
