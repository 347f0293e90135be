"""What the stages of shrink advise names options that shrink has."""

import pytest

from gaprune.config.shrink import ShrinkOptions
from gaprune.errors import ConfigError
from gaprune.pipelines.shrink_plan import recipe_of
from gaprune.pipelines.stage_advice import advice_in_shrink, advising
from gaprune.util.progress import say


@pytest.mark.parametrize(
    ("stage", "said", "there"),
    [
        ("prune", "--set precision=float32", "--set prune.precision=float32"),
        ("prune", "a smaller round_to (--set round_to=8).", "a smaller round_to (--set prune.round_to=8)."),
        ("prune", "--no-reconstruct", "--set prune.reconstruct=false"),
        ("prune", "--out DIR, --set seed=1", "--out DIR, --set seed=1"),
        (
            "recover",
            "Lower --learning-rate, or --bf16",
            "Lower --set recover.learning_rate=VALUE, or --set recover.bf16=true",
        ),
        ("recover", "--minutes 3", "--minutes 3"),
        ("recover", "--set name=value", "--set name=value"),
    ],
)
def test_options(stage, said, there):
    assert advice_in_shrink(said, stage) == there


def test_remarks_and_errors_inside_a_stage(capsys):
    with advising("prune"):
        say("Try --set precision=float32.")
    with pytest.raises(ConfigError) as found, advising("prune"):
        raise ConfigError("a", "Try --set round_to=8.")
    assert "prune.precision=float32" in capsys.readouterr().err
    setting = found.value.remedy.split()[-1].removesuffix(".").removeprefix("prune.")
    assert "prune.round_to=8" in str(found.value)
    name, value = setting.split("=")
    recipe_of(ShrinkOptions.build({"speedup": 2, "prune": {name: value}}))
