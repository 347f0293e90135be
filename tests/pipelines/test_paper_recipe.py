"""The recipe of the paper: one name instead of ten options."""

import pytest

import gaprune
from gaprune.config.files import load_recipe
from gaprune.config.recipe import Recipe
from gaprune.data.sampling import sample
from gaprune.errors import ConfigError
from gaprune.models.load import load_model
from gaprune.models.prompts import resolve_prompts
from toys import GENERAL

SMALL = {"triplets": 5, "recover": 2, "recovery": {"batch_size": 2, "held_out": 0.0}, "batch_size": 2}


@pytest.fixture(scope="module")
def result(folder_of, toy_triplets):
    return gaprune.prune(
        folder_of("bert"), domain=toy_triplets, general=GENERAL, recipe="paper", device="cpu", **SMALL
    )


def test_it_is_the_setting_of_the_paper():
    recipe = Recipe.build(load_recipe("paper"))
    assert (recipe.criterion, recipe.sampling, recipe.triplets) == ("dai-paper", "kmeans", 5000)
    assert (recipe.targets, recipe.sparsity, recipe.allocation) == (("mlp",), (0.5,), "global")
    assert (recipe.fisher, recipe.reconstruct, recipe.recover) == ("batch", False, 100)


def test_half_of_the_mlp_weights_stay_zero_through_the_recovery(result):
    found = result.provenance()
    assert (found.method.criterion, found.sparsity.of_selected) == ("dai-paper", 0.5)
    assert found.recoveries[0].training.steps == 2
    assert found.recoveries[0].training.masked_weights == found.sparsity.removed


def test_triplets_are_those_nearest_to_the_centres_of_k_means(result, folder_of, toy_triplets):
    model = load_model(folder_of("bert"), device="cpu")
    for kind, triplets in (("domain", toy_triplets), ("general", GENERAL)):
        expected = sample(triplets, model, 5, prompts=resolve_prompts(model), seed=0)
        assert getattr(result.calibration, kind).sha256 == expected.fingerprint


def test_k_means_without_a_number_of_triplets_is_refused():
    with pytest.raises(ConfigError, match="sampling"):
        Recipe.build({"sampling": "kmeans"})
