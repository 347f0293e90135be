"""The shapes that a search for a target can choose from: for each number of layers the widest that reaches it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gaprune.config.recipe import Recipe
from gaprune.config.removal import Target
from gaprune.errors import ConfigError
from gaprune.pruning.costs import CountedSpeed, Shape, Sizes, SpeedOfShapes, is_met, of_shape
from gaprune.pruning.removable.heads import Heads
from gaprune.pruning.removable.hidden import Hidden
from gaprune.pruning.removable.layers import most_removable

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class Space:
    """The shapes that a search can choose from.

    Args:
        target: What has to be reached.
        sizes: Sizes of the parent with the hidden dimensions that are kept.
        speed: How fast a shape is.
        fewest: The fewest layers that can be left.
        round_to: The fewest neurons that are kept, and the step between numbers of neurons.
        tokens: Number of tokens that are kept.
    """

    target: Target
    sizes: Sizes
    speed: SpeedOfShapes
    fewest: int
    round_to: int
    tokens: int

    @property
    def whole(self) -> Shape:
        """The parent's shape with the tokens and hidden dimensions that are kept."""
        return self.sizes.whole.changed(tokens=self.tokens)

    @property
    def smallest(self) -> Shape:
        """The smallest shape."""
        return self.whole.changed(layers=self.fewest, width=self.round_to)

    def is_met(self, shape: Shape) -> bool:
        """Return whether a shape reaches the target."""
        return is_met(self.target, shape, self.sizes, self.speed)

    def widest(self, layers: int) -> Shape | None:
        """Return the widest shape of so many layers that reaches the target; ``None`` if none does."""
        whole = self.whole.changed(layers=layers)
        if self.is_met(whole):
            return whole
        widths = range(self.round_to, self.whole.width, self.round_to)
        return next((each for width in reversed(widths) if self.is_met(each := whole.changed(width=width))), None)

    def shapes(self) -> Iterator[Shape]:
        """Yield the widest shape for each number of layers, up to the first that keeps all neurons.

        With fewer layers than that, the target would be passed without need.
        """
        for layers in range(self.whole.layers, self.fewest - 1, -1):
            shape = self.widest(layers)
            if shape is not None:
                yield shape
                if shape.width == self.whole.width:
                    return


def spaces(
    model: SentenceTransformer, target: Target, recipe: Recipe, *, tokens: int | None, speed: SpeedOfShapes | None
) -> list[Space]:
    """Return what a search can choose from: a space for each number of heads and of hidden dimensions that is tried.

    Only one of the two is smaller at a time. Fewer hidden dimensions come last, in descending order.

    Args:
        model: The parent.
        target: What has to be reached.
        recipe: Kinds of units that are searched, and what is removed of those that are not.
        tokens: Number of tokens that are kept; ``None`` for all.
        speed: How fast shapes are; counted by default.
    """
    whole = Shape.of(model)
    hidden = Hidden(recipe).tried(model) if Hidden.is_asked(recipe) else [whole.hidden]
    heads = Heads(recipe).tried(model) if Heads.is_asked(recipe) else [whole.heads]
    tried = [(hidden[0], each) for each in heads] + [(each, heads[0]) for each in hidden[1:]]
    fewest = whole.layers - most_removable(model)
    found = []
    for dimensions, groups in tried:
        sizes = Sizes.of(of_shape(model, whole.changed(hidden=dimensions, heads=groups)))
        rows = sizes.whole.tokens if tokens is None else tokens
        found.append(Space(target, sizes, speed or CountedSpeed(model, sizes), fewest, recipe.round_to, rows))
    return found


def check_target(target: Target, model: SentenceTransformer, found: Sequence[Space], *, tokens: int | None) -> None:
    """Refuse a target that is out of reach, or that the parent reaches as it is.

    Args:
        target: What has to be reached.
        model: The parent.
        found: What can be chosen from.
        tokens: Number of tokens that are kept; ``None`` for all.

    Raises:
        ConfigError: If no combination reaches the target, or nothing has to be removed.
    """
    first = found[0]
    if first.round_to > first.whole.width:
        raise ConfigError(
            f"round_to: {first.round_to} is more than the {first.whole.width} FFN neurons of a layer.",
            "Choose a smaller round_to (--set round_to=8).",
        )
    if not any(space.is_met(space.smallest) for space in found):
        raise out_of_reach(found, tokens)
    sizes = Sizes.of(model)
    if is_met(target, sizes.whole, sizes, CountedSpeed(model, sizes)):
        raise ConfigError(f"target: the parent reaches {target} as it is.", "Ask for a smaller model.")


def out_of_reach(found: Sequence[Space], tokens: int | None) -> ConfigError:
    """Return the error for a target that no shape reaches."""
    space = min(found, key=lambda each: each.sizes.left(each.smallest))
    how = "" if isinstance(space.speed, CountedSpeed) else ", as measured here,"
    return ConfigError(
        f"target: {space.target} is out of reach: {space.sizes.left(space.smallest):,} parameters and a speedup of "
        f"{space.speed.speedup(space.smallest):.1f}{how} are the limits of removing layers and neurons.",
        _remedy(space.target, tokens),
    )


def _remedy(target: Target, tokens: int | None) -> str:
    if target.kind == "speedup":
        return "Ask for less, or keep fewer neurons: a smaller round_to (--set round_to=8)."
    if tokens == 1:
        return "Ask for more, or begin with a smaller model."
    if tokens is None:
        return "Ask for less, or remove tokens too: --vocabulary FILE."
    return "Ask for less, or remove tokens that are rare in your texts: --set tokens=0.9."
