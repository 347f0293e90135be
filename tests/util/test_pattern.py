"""N:M masks against loops over groups."""

from __future__ import annotations

import re

import pytest
import torch

from gaprune.errors import ConfigError
from gaprune.util.threshold import check_pattern, pattern_mask

PATTERNS = [(2, 4), (1, 4), (4, 8), (3, 4), (1, 2)]


def by_loops(importance: torch.Tensor, keep: int, group: int) -> torch.Tensor:
    """Keep the ``keep`` largest of every group; of equals those further right."""
    mask = torch.zeros(importance.shape, dtype=torch.bool)
    for row in range(len(importance)):
        for start in range(0, importance.shape[1], group):
            columns = range(start, start + group)
            ranked = sorted(columns, key=lambda column: (float(importance[row, column]), column), reverse=True)
            for column in ranked[:keep]:
                mask[row, column] = True
    return mask


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("high", [2, 1_000_000])
def test_agrees_with_loops(pattern, high):
    generator = torch.Generator().manual_seed(high)
    importance = torch.randint(-2, high, (5, 24), generator=generator).float()
    mask = pattern_mask(importance, pattern, name="w")
    assert torch.equal(mask, by_loops(importance, *pattern))
    assert (mask.view(5, -1, pattern[1]).sum(2) == pattern[0]).all()


def test_all_equal_keeps_exactly_n():
    assert pattern_mask(torch.ones(2, 8), (2, 4), name="w").tolist() == [[False, False, True, True] * 2] * 2


def test_a_single_group_a_row():
    assert pattern_mask(torch.tensor([[4.0, 1.0, 3.0, 2.0]]), (2, 4), name="w").tolist() == [
        [True, False, True, False]
    ]


def test_transposed_importance():
    importance = torch.randperm(32, generator=torch.Generator().manual_seed(0)).float().view(8, 4).T
    assert torch.equal(pattern_mask(importance, (2, 4), name="w"), by_loops(importance, 2, 4))


@pytest.mark.parametrize(
    "call",
    [
        lambda: pattern_mask(torch.rand(3, 10), (2, 4), name="layer.0.up"),
        lambda: check_pattern(10, (2, 4), name="layer.0.up"),
    ],
)
def test_width_that_is_no_multiple_is_refused_by_name(call):
    with pytest.raises(ConfigError) as caught:
        call()
    assert caught.value.problem == "granularity 2:4: layer.0.up has 10 inputs, no multiple of 4."
    assert caught.value.remedy == "Leave it out (--set ignore=layer.0.up) or choose another pattern."


def test_a_width_smaller_than_the_group_is_refused():
    with pytest.raises(ConfigError, match=re.escape("w has 4 inputs, no multiple of 8")):
        pattern_mask(torch.rand(2, 4), (4, 8), name="w")
    check_pattern(8, (4, 8), name="w")
