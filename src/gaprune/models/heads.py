"""Linear heads: a :class:`Dense` module without bias and activation at the end of a model.

A last normalisation stays behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense


def dense_head(weight: Tensor, model: SentenceTransformer) -> Dense:
    """Return a head with ``weight`` (outputs, inputs), in the type and on the device of ``model``."""
    from sentence_transformers.base.modules import Dense

    outputs, inputs = weight.shape
    like = next(model.parameters())
    weight = weight.to(like).contiguous()
    head = Dense(inputs, outputs, bias=False, activation_function=None, init_weight=weight)
    return head.to(like.device, like.dtype)


def add_head(model: SentenceTransformer, head: Dense) -> None:
    """Put ``head`` at the end of ``model``, before a last normalisation; the model is changed."""
    model.insert(head_place(model), head)


def head_place(model: SentenceTransformer) -> int:
    """Return how many modules there are before a last normalisation."""
    from sentence_transformers.base.modules import Normalize

    return len(model) - isinstance(model[-1], Normalize)


def is_head(model: SentenceTransformer) -> bool:
    """Whether a linear head, which follows pooling, is the last module before a last normalisation."""
    from sentence_transformers.base.modules import Dense
    from sentence_transformers.sentence_transformer.modules import Pooling

    place = head_place(model) - 1
    last: Any = model[place]
    if not (isinstance(last, Dense) and isinstance(model[place - 1], Pooling)):
        return False
    return last.linear.bias is None and isinstance(last.activation_function, nn.Identity)
