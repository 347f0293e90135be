"""Variants of criteria: which there are, what they are called, and what is refused."""

from __future__ import annotations

import pytest

from gaprune.criteria.registry import available, create, split_name, with_option
from gaprune.errors import ConfigError
from gaprune.evaluation.variants import make_variants


class TestNames:
    def test_constants_in_a_name(self):
        assert create("dai:tempering=0.6:alpha=0.1") == create("dai", {"tempering": 0.6, "alpha": 0.1})
        assert create("obd-general:calibration=general") == create("obd-general")
        assert create("dai-paper:alignment=matrix").alignment == "matrix"

    def test_round_trip(self):
        name = with_option(with_option("dai", "tempering", 0.25), "alpha", "0.1")
        assert name == "dai:tempering=0.25:alpha=0.1"
        assert split_name(name) == ("dai", {"tempering": "0.25", "alpha": "0.1"})
        assert with_option(name, "tempering", 0) == "dai:tempering=0:alpha=0.1"

    @pytest.mark.parametrize("value", [0.1234567, 1 / 3, 3 / 13, 1e-9, 0.5])
    def test_values_are_not_rounded(self, value):
        assert create(with_option("dai", "tempering", value)).tempering == value

    @pytest.mark.parametrize(
        ("name", "problem"),
        [
            ("dai:", "criterion 'dai:': '' is not a constant"),
            ("dai:tempering", "'tempering' is not a constant"),
            ("dai:=1", "'=1' is not a constant"),
            ("dai:alpha=", "'alpha=' is not a constant"),
            (":alpha=1", "'alpha=1' is not a constant"),
            ("dai:alpha=0:alpha=0.1", "the constant 'alpha' is given twice"),
            ("dai:alpha=x", "criterion dai: alpha: "),
            ("dai:alfa=0", "Did you mean 'alpha'"),
            ("dia:alpha=0", "Unknown criterion 'dia'. Did you mean 'dai'"),
            ("obd-mix:calibration=domain", "set the same constant"),
        ],
    )
    def test_what_is_no_name(self, name, problem):
        with pytest.raises(ConfigError) as caught:
            create(name)
        assert problem in caught.value.problem

    def test_one_constant_in_two_places(self):
        assert create("dai:alpha=0.1", {"alpha": 0.1}).alpha == 0.1
        with pytest.raises(
            ConfigError, match=r"criterion dai:alpha=0: its name and its options set the same constant"
        ):
            create("dai:alpha=0", {"alpha": 0.1})


OF_WEIGHTS = {"kinds": ("domain",), "reconstructs": False, "granularities": ("weights",)}


@pytest.mark.parametrize("name", list(available()))
def test_terms_are_constants_and_can_be_switched_off(name):
    criterion = create(name)
    for terms in criterion.terms.values():
        for option, off in terms.items():
            assert getattr(create(with_option(name, option, off)), option) == off


def test_ablation_switches_off_each_term_that_is_on():
    criteria = ["dai:tempering=0.5:general_share=0.2:alpha=0", "dai-paper", "magnitude"]
    found = make_variants(criteria, **OF_WEIGHTS, ablate=True, sweeps={})
    assert {name: variant.change for name, variant in found.by_name.items()} == {
        "dai:tempering=0.5:general_share=0.2:alpha=0": "",
        "dai:tempering=0.5:general_share=0:alpha=0": "without general_share",
        "dai:tempering=0:general_share=0.2:alpha=0": "without tempering",
        "dai:tempering=0.5:general_share=0.2:alpha=0:swaps=0": "without swaps",
        "dai:tempering=0.5:general_share=0.2:alpha=0:centred=False": "without centred",
        "dai-paper": "",
        "dai-paper:alpha=0": "without alpha",
        "dai-paper:beta=0": "without beta",
        "dai-paper:gamma=0": "without gamma",
        "magnitude": "",
    }
    assert found.sweeps == ()
    assert all(create(each) for each in found.by_name)


@pytest.mark.parametrize(
    ("granularities", "without"),
    [
        (("weights",), {"tempering", "swaps", "centred", "general_share"}),
        (("units",), {"centred", "reconstruction_aware", "general_share"}),
        (("layers",), {"preservation", "general_share"}),
        (("units", "layers"), {"centred", "reconstruction_aware", "preservation", "general_share"}),
    ],
)
def test_terms_are_those_of_what_goes(granularities, without):
    found = make_variants(
        ["dai"], kinds={"domain", "general"}, reconstructs=True, granularities=granularities, ablate=True, sweeps={}
    ).by_name.values()
    assert {each.change for each in found} == {"", *(f"without {option}" for option in without)}


def test_what_no_data_are_named_for_is_no_term():
    """Without general data their weight is nothing already, in ablations and as the own value of a sweep."""
    for kinds, own in (({"domain"}, 0.0), ({"domain", "general"}, 3 / 13)):
        found = make_variants(
            ["dai"],
            kinds=kinds,
            reconstructs=True,
            granularities=("units",),
            ablate=True,
            sweeps={"general_share": [0.5]},
        )
        assert ("without general_share" in {each.change for each in found.by_name.values()}) == (own > 0)
        assert found.sweeps[0].points == ((own, "dai"), (0.5, "dai:general_share=0.5"))
        assert create("dai").for_run(kinds, reconstructs=True).general_share == own


def test_sweeps_are_of_one_constant_and_hold_the_criterions_own_value():
    sweeps = {"alpha": ["0.3", "0"], "beta": [1, 2]}
    found = make_variants(
        ["dai:tempering=0.5", "dai-paper", "obd"],
        kinds={"domain"},
        reconstructs=False,
        granularities=("weights",),
        ablate=False,
        sweeps=sweeps,
    )
    assert [(sweep.base, sweep.option, sweep.points) for sweep in found.sweeps] == [
        ("dai:tempering=0.5", "alpha", ((0.0, "dai:tempering=0.5"), (0.3, "dai:tempering=0.5:alpha=0.3"))),
        ("dai-paper", "alpha", ((0.0, "dai-paper:alpha=0"), (0.2, "dai-paper"), (0.3, "dai-paper:alpha=0.3"))),
        ("dai-paper", "beta", ((1.0, "dai-paper"), (2.0, "dai-paper:beta=2"))),
    ]
    assert found.by_name["dai-paper:beta=2"].change == "beta=2.0"
    assert len(found.by_name) == 3 + 1 + 2 + 1


def test_words_are_swept_in_the_order_asked():
    found = make_variants(
        ["dai-paper"],
        kinds={"domain"},
        reconstructs=False,
        granularities=("weights",),
        ablate=False,
        sweeps={"alignment": ["matrix"]},
    )
    (sweep,) = found.sweeps
    assert sweep.points == (("weight", "dai-paper"), ("matrix", "dai-paper:alignment=matrix"))


def test_a_variant_that_is_both_stands_once():
    found = make_variants(
        ["dai-paper"],
        kinds={"domain"},
        reconstructs=False,
        granularities=("weights",),
        ablate=True,
        sweeps={"alpha": [0]},
    )
    assert found.by_name["dai-paper:alpha=0"].change == "without alpha"
    assert len(found.by_name) == 4


@pytest.mark.parametrize(
    ("criteria", "options", "problem"),
    [
        (
            ["dai", "obd"],
            {"sweeps": {"temperin": [0]}},
            r"^sweep: none of dai, obd has a constant 'temperin'.*'tempering'",
        ),
        (["dai"], {"sweeps": {"tempering": [2]}}, r"^criterion dai: tempering: "),
        (["dai"], {"sweeps": {"tempering": ["a:b"]}}, r"^criterion 'dai:tempering=a:b': 'b' is not a constant"),
        (["magnitude", "obd"], {"ablate": True}, r"^ablate: magnitude, obd have no term that is on for weights"),
        (
            ["dai-paper"],
            {"ablate": True, "granularities": ("units", "layers")},
            r"has no term that is on for units and lay",
        ),
        (["dai"], {"ablate": True, "granularities": ()}, r"^ablate: dai has no term that is on for tokens"),
        (
            ["dai:tempering=0:swaps=0:centred=false:general_share=0:alpha=0"],
            {"ablate": True},
            r"^ablate: dai:tempering=0:swaps=0:centred=false:general_share=0:alpha=0 has no term",
        ),
    ],
)
def test_what_cannot_be_varied(criteria, options, problem):
    with pytest.raises(ConfigError, match=problem):
        make_variants(
            criteria,
            **(
                {"kinds": (), "reconstructs": False, "granularities": ("weights",), "ablate": False, "sweeps": {}}
                | options
            ),
        )
