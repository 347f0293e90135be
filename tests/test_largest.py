"""The largest values, against sorting."""

import pytest
import torch

from gaprune.util.threshold import largest


@pytest.mark.parametrize("count", [0, 1, 4, 10])
def test_the_first_of_equal_values_come_first(count):
    values = torch.tensor([1.0, 3.0, 2.0, 3.0, -float("inf"), 2.0, 2.0, 0.0, 3.0, 1.0])
    order = sorted(range(len(values)), key=lambda index: (-float(values[index]), index))
    assert largest(values, count) == order[:count]
