"""The plan of ``gaprune.shrink``: how long its stages take, by one measurement of the parent."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from gaprune.config.recipe import Recipe
from gaprune.config.recovery import OF_TRIPLETS, RecoveryOptions
from gaprune.config.shrink import ShrinkOptions
from gaprune.data.read import read_triplets
from gaprune.errors import ConfigError
from gaprune.evaluation.cost.latency import measure_batch
from gaprune.models.blocks import blocks
from gaprune.models.checks import unstreamed
from gaprune.models.encode import encode
from gaprune.models.encoders import TorchModel
from gaprune.pipelines.domain_data import DomainData
from gaprune.pipelines.runtimes import FEW_TEXTS, in_words
from gaprune.recovery.retrain import FEWEST_STEPS
from gaprune.util.files import write_json
from gaprune.util.records import Record

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_TRIPLETS = (512, 256, 128, 64)
"""Triplets of each data set that pruning is measured on: the first number that there is time for, and at most as many
as there are. Triplets of the search and of the reconstruction become fewer in proportion."""

_FITTED = 2
"""Where there is time, reconstruction reads so many times the triplets that it reads by default: the model loses less
(docs/science.md, constants)."""

_FEWEST_OF_A_LAYER = 8
"""Triplets that layers and mixes are compared by at least."""

_PASSES_OVER_ALL, _PASSES_OF_THE_FIT, _PASSES_OF_A_LAYER = 4.5, 6.0, 3.5
"""Forward passes that a pruning costs: over all calibration triplets for measuring, over those of the reconstruction,
and for each layer of the parent over those of the search (``layer_triplets``)."""

_SHARE = 0.5
"""Pruning takes at most this share of the time, if measuring on fewer triplets can bring it there."""

_FAR, _MOST = 0.5, 3
"""Fraction of the time or size left below which a target is reached in rounds, and how many there are at most."""

_ROUND = 0.4
"""What each further round adds, as a fraction of a pruning in one round."""

_BATCHES, _TIMED_SHAPES = 70, 7
"""Measuring speeds takes the time of the parent for so many batches, and of writing it so often for its runtime."""

_PASSES_OF_A_STEP = 3
"""Forward passes that a step of training costs."""

_FILE = "plan.json"

_TIMED = 64
_FEWEST_MINUTES = 1.0
"""Minutes of training below which a run is refused."""

_MARGIN = 1.25
"""What is added to the time that a refused run is said to need, because estimates of one machine scatter."""

_SAID = {
    "triplets": "triplets of each kind to measure on",
    "layer_triplets": "to compare layers with",
    "reconstruction_triplets": "to fit on",
}
"""What the options of a setting count, in words."""


class Setting(Record):
    """What a pruning is measured on, under the names of its options in a recipe; nothing is fitted on 0 triplets."""

    triplets: int
    layer_triplets: int
    reconstruction_triplets: int
    rounds: int

    def options(self) -> dict[str, int]:
        """Return the options of the pruning; without reconstruction it has no number of triplets to fit on."""
        return {name: value for name, value in self if value}

    def passes(self, layers: int, *, corrected: bool) -> float:
        """Return how many forward passes over a triplet of each data set the pruning costs.

        One that is corrected searches and fits twice; what was measured over all triplets is kept.
        """
        fitted = min(self.triplets, self.reconstruction_triplets)
        few = min(self.triplets, self.layer_triplets)
        after = _PASSES_OF_THE_FIT * fitted + _PASSES_OF_A_LAYER * layers * few
        once = _PASSES_OVER_ALL * self.triplets + after * (2 if corrected else 1)
        return once * (1 + _ROUND * (self.rounds - 1))

    def less_than(self, best: Setting) -> str:
        """Return in words what is less than in the best setting; empty if nothing is."""
        return ", ".join(
            f"{mine:,} {_SAID.get(name, name)} instead of {its:,}"
            for name, mine in self
            if mine < (its := getattr(best, name))
        )


class ShrinkPlan(Record):
    """How a run spends its time.

    Args:
        minutes: What was asked for.
        setting: What pruning is measured on.
        best: What it would be measured on if there were time.
        pruning_minutes: Estimated minutes of pruning, for a speedup with one correction by the measured speed.
        judging_minutes: Estimated minutes of judging parent and child.
        negatives_left_out: Whether the user's triplets have negatives that no training uses.
        general_triplets: General triplets, if these are fewer than pruning would read otherwise.
        least_minutes: Minutes that training gets even if pruning takes longer than estimated: what the fine-tuning on
            labels and the shortest distillation take.
        spent_minutes: What the stages before the plan took.
    """

    minutes: float
    setting: Setting
    best: Setting
    pruning_minutes: float
    judging_minutes: float
    negatives_left_out: bool
    general_triplets: int | None = None
    least_minutes: float = _FEWEST_MINUTES
    spent_minutes: float = 0.0

    @classmethod
    def read(cls, folder: Path, asked: ShrinkOptions) -> Self | None:
        """Return the plan that a run for the same time left in ``folder``; ``None`` if there is none."""
        file = folder / _FILE
        kept = cls.model_validate_json(file.read_text(encoding="utf-8")) if file.is_file() else None
        return kept if kept is not None and kept.minutes == asked.minutes else None

    def write(self, folder: Path) -> None:
        """Keep the plan in ``folder``."""
        write_json(folder / _FILE, self.model_dump(mode="json"))

    @property
    def training_minutes(self) -> float:
        """What is left for training."""
        return max(self.least_minutes, self._left - self.pruning_minutes)

    @property
    def _left(self) -> float:
        """What pruning and training have together."""
        return self.minutes - self.spent_minutes - self.judging_minutes

    def check(self) -> None:
        """Check that there is time; a run that continues after its pruning needs no such estimate.

        Raises:
            ConfigError: If the time is too short for pruning and the least training.
        """
        least = self.spent_minutes + self.pruning_minutes + self.judging_minutes + self.least_minutes
        if self.minutes < least:
            spent = f"{self.spent_minutes:.1f} are spent, " if self.spent_minutes else ""
            raise ConfigError(
                f"minutes: {self.minutes:g} are too few: {spent}pruning on {self.setting.triplets} triplets takes "
                f"about {self.pruning_minutes:.1f} minutes, judging {self.judging_minutes:.1f}, and at least "
                f"{self.least_minutes:.1f} are needed for training.",
                f"Give --minutes {math.ceil(_MARGIN * least)} or more.",
            )

    def lines(self, data: DomainData, asked: ShrinkOptions, *, pruned: float | None) -> Iterator[str]:
        """Yield what is said before the run starts.

        Args:
            data: The prepared data.
            asked: All options.
            pruned: Minutes that a finished pruning took; ``None`` if it is ahead.
        """
        labels = "given" if data.is_labelled else "made from documents, so there is no training on labels"
        idle = [] if data.is_labelled else [f"recover.{name}" for name in OF_TRIPLETS if name in asked.recover]
        labels += f", and {', '.join(idle)} {'has' if len(idle) == 1 else 'have'} no effect" if idle else ""
        yield (
            f"Data: {data.training_triplets:,} triplets ({labels}), {data.text_count:,} texts to distil on, "
            f"{data.held_out_queries:,} queries held out for judging."
        )
        measured = "" if asked.speedup is None else f" (as measured in {in_words(asked.measured_in)})"
        number = self.setting.rounds
        rounds = f"in {number} rounds " if number > 1 else ""
        if pruned is None:
            corrected = "" if asked.speedup is None else " (with one correction of the speed)"
            pruning = f"pruning {rounds}on {self.setting.triplets:,} triplets about {self.pruning_minutes:.1f} minutes"
            pruning += corrected
            left = self.training_minutes
        else:
            pruning = f"pruning is finished (it took {pruned:.1f} minutes)"
            left = max(self.least_minutes, self._left - pruned)
        steps = RecoveryOptions.build({"texts": "texts"}, asked.recover).steps
        finish = f", then {steps} steps of fine-tuning on the triplets" if data.is_labelled else ""
        yield (
            f"Plan for {asked.target}{measured} within {self.minutes:g} minutes: {pruning}, training at most "
            f"{left:.1f} (distillation on the texts{finish}), judging about {self.judging_minutes:.1f}."
        )
        if self.general_triplets is not None and pruned is None:
            yield (
                f"Pruning reads as many triplets of the domain as of general text, and of those there are "
                f"{self.general_triplets:,}: --general FILE with more of them lets it read more of the domain."
            )
        less = self.setting.less_than(self.best)
        if less and pruned is None:
            yield f"To fit {self.minutes:g} minutes, pruning measures less: {less}."
        if self.negatives_left_out:
            yield (
                "The negatives of the triplets are texts to distil on; the fine-tuning contrasts a query with the "
                "passages of other queries only. --set recover.hard_negatives=1 adds one negative of its own."
            )


def plan_shrink(
    parent: SentenceTransformer,
    data: DomainData,
    asked: ShrinkOptions,
    *,
    export_seconds: float = 0.0,
    spent: float = 0.0,
) -> ShrinkPlan:
    """Return the plan for the time that is asked for, by timing the parent on some of the texts.

    Of the settings from the best to the least it takes the first whose pruning takes half of the time that judging
    leaves, or else the least.

    Args:
        parent: The parent.
        data: The prepared data.
        asked: All options.
        export_seconds: How long the parent takes to be written for its runtime.
        spent: Minutes that the stages before took.
    """
    triplets = read_triplets(data.domain)
    texts = [text for item in triplets for text in (item.query, *item.passages)][:_TIMED]
    encode(parent, texts[:8], None, None)
    began = time.perf_counter()
    encode(parent, texts, None, None)
    per_text = (time.perf_counter() - began) / len(texts) / 60
    per_triplet = 2 * per_text * sum(1 + len(item.passages) for item in triplets) / len(triplets)
    speeds = 0.0
    if asked.speedup is not None:
        speeds = (_BATCHES * measure_batch(TorchModel(parent), FEW_TEXTS) + _TIMED_SHAPES * export_seconds) / 60
    judging, layers = 2 * per_text * _lines_of(data), len(blocks(parent))
    own, general = len(triplets), len(read_triplets(data.general))
    settings = list(_settings(parent, asked, most=min(own, general)))
    corrected = asked.speedup is not None
    minutes = {each: speeds + per_triplet * each.passes(layers, corrected=corrected) for each in settings}
    enough = (each for each in settings if minutes[each] <= _SHARE * (asked.minutes - spent - judging))
    setting = next(enough, settings[-1])
    training = RecoveryOptions.build({"texts": "texts"}, asked.recover)
    faster = asked.target.limit if asked.target.kind == "speedup" else 1.0
    return ShrinkPlan(
        minutes=asked.minutes,
        setting=setting,
        best=settings[0],
        pruning_minutes=minutes[setting],
        judging_minutes=judging,
        general_triplets=general if general == setting.triplets < own else None,
        negatives_left_out=data.is_labelled
        and not training.own_negatives
        and any(item.negatives for item in triplets),
        least_minutes=max(_FEWEST_MINUTES, per_text * _texts_of(training, data) / faster),
        spent_minutes=spent,
    )


def _texts_of(training: RecoveryOptions, data: DomainData) -> float:
    """Return of how many texts a forward pass takes as long as the least training: its passes go back as well."""
    steps = FEWEST_STEPS + (training.steps if data.is_labelled else 0)
    return _PASSES_OF_A_STEP * steps * training.batch_size * (2 + training.own_negatives)


def recipe_of(asked: ShrinkOptions) -> Recipe:
    """Return the options of the pruning, of which the data are not known yet."""
    return Recipe.build({"target": asked.target}, asked.prune)


def _settings(parent: SentenceTransformer, asked: ShrinkOptions, *, most: int) -> Iterator[Setting]:
    """Yield the settings from the best to the least; what is given stays.

    First there are fewer triplets to fit on, then fewer rounds, then fewer triplets of all kinds.
    """
    recipe = recipe_of(asked)
    given: Mapping[str, Any] = recipe.model_dump(include=recipe.model_fields_set & Setting.model_fields.keys())
    whole = Setting(
        triplets=min(most, _TRIPLETS[0]),
        layer_triplets=recipe.layer_triplets,
        reconstruction_triplets=0 if recipe.reconstruct is False else recipe.reconstruction_triplets,
        rounds=_rounds(parent, asked, recipe),
    ).model_copy(update=given)
    usual = whole.reconstruction_triplets
    fitted = max(usual, min(_FITTED * usual, whole.triplets))
    more = whole.model_copy(update={"reconstruction_triplets": fitted, **given})
    found = [more, *(whole.model_copy(update={"rounds": number, **given}) for number in range(whole.rounds, 0, -1))]
    for count in _TRIPLETS[1:]:
        less = {
            "triplets": min(count, whole.triplets),
            "layer_triplets": max(_FEWEST_OF_A_LAYER, whole.layer_triplets * count // _TRIPLETS[0]),
            "reconstruction_triplets": min(usual, max(1, usual * count // _TRIPLETS[0])),
            "rounds": 1,
        }
        found.append(whole.model_copy(update={**less, **given}))
    yield from dict.fromkeys(found)


def _rounds(parent: SentenceTransformer, asked: ShrinkOptions, recipe: Recipe) -> int:
    """Return the rounds of a pruning: one up to half, then so many that each leaves two thirds of what was left.

    There are at most as many as were measured, and one where nothing is reconstructed.
    """
    weights = sum(each.numel() for each in parent.parameters())
    whole = {"parameters": weights, "size": sum(each.nbytes for each in parent.parameters())}
    target = asked.target
    left = 1 / target.limit if target.kind == "speedup" else target.limit / whole[target.kind]
    if left >= _FAR or recipe.reconstruct is False or unstreamed(parent) is not None:
        return 1
    return min(_MOST, math.ceil(math.log(left) / math.log(2 / 3)))


def _lines_of(data: DomainData) -> int:
    """Return the number of texts of the held-out tasks."""
    files = data.tasks.rglob("*.jsonl")
    return sum(file.read_bytes().count(b"\n") for file in files)
