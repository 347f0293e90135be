"""A criterion reads exactly what it says it needs, no more and no less."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gaprune.criteria.needs import Needs
from gaprune.criteria.registry import available, create
from gaprune.errors import MeasurementError

CALIBRATED = ("activation", "fisher", "taylor", "obd", "wanda", "sparsegpt")
VARIANTS = [
    ("random", {}),
    ("magnitude", {}),
    *((f"{name}-{calibration}", {}) for name in CALIBRATED for calibration in ("domain", "general", "mix")),
    ("dai-paper", {}),
    ("dai-paper", {"alignment": "matrix"}),
    ("dai", {}),
    *(
        ("dai", {"general_share": general, "alpha": alpha, "swaps": swaps, "centred": centred})
        for general in (0, 0.2)
        for alpha in (0, 0.3)
        for swaps in (0, 16)
        for centred in (True, False)
    ),
]


def only(statistics, quantities):
    """These quantities, or no statistics at all where none is needed."""
    if not quantities:
        return None
    missing = {"fisher", "gradient", "gram", "input", "input_square", "output_square"} - set(quantities)
    return replace(statistics, **{f"{quantity}_sum": None for quantity in missing})


def bare(evidence, criterion):
    return replace(
        evidence,
        domain=only(evidence.domain, criterion.weight_needs.domain),
        general=only(evidence.general, criterion.weight_needs.general),
    )


def test_variants_cover_every_criterion_of_ours():
    ours = {name for name, kind in available().items() if kind.__module__.startswith("gaprune.")}
    covered = {type(create(name, options)) for name, options in VARIANTS}
    assert covered == {available()[name] for name in ours}


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_what_it_needs_is_enough(evidence, name, options):
    criterion = create(name, options)
    assert torch.equal(criterion.importance(bare(evidence, criterion)), criterion.importance(evidence))


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_everything_it_needs_is_read(evidence, name, options):
    criterion = create(name, options)
    enough = bare(evidence, criterion)
    for side, needs in (("domain", criterion.weight_needs.domain), ("general", criterion.weight_needs.general)):
        for quantity in needs:
            lacking = replace(getattr(enough, side), **{f"{quantity}_sum": None})
            with pytest.raises(MeasurementError, match=rf"^layer\.0\.up: {quantity} was not measured\."):
                criterion.importance(replace(enough, **{side: lacking}))
        if needs:
            with pytest.raises(MeasurementError, match=rf"^layer\.0\.up: no statistics of {side} data"):
                criterion.importance(replace(enough, **{side: None}))


def test_dai_needs_general_data_only_where_they_count():
    alone, guarded = create("dai", {"general_share": 0}), create("dai")
    both = frozenset({"gram", "input", "output_square"})
    assert alone.weight_needs == Needs(domain=both)
    assert guarded.weight_needs == Needs(domain=both, general=both)


def test_by_default_dai_does_without_general_data_where_none_are_named():
    """What is asked for in words stays: then such data are read, or their absence is an error."""
    assert create("dai").for_run({"domain", "general"}, reconstructs=True) == create("dai")
    assert create("dai").for_run({"domain"}, reconstructs=True) == create("dai", {"general_share": 0})
    asked = create("dai", {"general_share": 0.3})
    assert asked.for_run({"domain"}, reconstructs=True) == asked
    assert asked.for_run({"domain"}, reconstructs=True).weight_needs.general
    for name in ("wanda-mix", "dai-paper", "fisher-general"):
        assert create(name).for_run({"domain"}, reconstructs=True) == create(name)


def test_weights_alone_suffice_for_random_and_magnitude():
    for name in ("random", "magnitude"):
        assert not create(name).weight_needs


def test_alignment_without_guard_needs_general_gradients_only():
    criterion = create("dai", {"general_share": 0, "alpha": 0.1})
    assert criterion.weight_needs.domain == {"gram", "input", "output_square", "gradient"}
    assert criterion.weight_needs.general == {"gradient"}


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_only_random_draws_and_only_magnitude_is_the_same_for_every_sample(evidence, name, options):
    criterion = create(name, options)
    same = torch.equal(criterion.importance(evidence), criterion.importance(replace(evidence, seed=99)))
    assert same == (name != "random")
    assert criterion.depends_on_seed == (name != "magnitude")
