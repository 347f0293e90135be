"""The card of an exported model: what it was made from, how well it agrees with that, and how to open it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaprune.report.front_matter import front_matter
from gaprune.report.markdown import markdown_table

if TYPE_CHECKING:
    from gaprune.export.portable import Parent
    from gaprune.export.records import Export

_CARD = """\
{front}
# {name} for {runtime}

The model `{name}`, for {runtime}.

{usage}
## Agreement with the original

{agreement}

"""

_MEASURED = (
    "The cosine between the embeddings of a text by this model and by the PyTorch model in fp32, on held-out "
    "texts, measured at the export:"
)
_UNKNOWN = "This model was not compared with the original: nothing that was installed at the export can run it."


def export_card(record: Export, base: Parent, runtime: str, usage: str) -> str:
    """Return the text of ``README.md`` for an export.

    Args:
        record: The export.
        base: The model on the hub that the source was made from, or the source itself.
        runtime: What runs it, in words.
        usage: How to open it, in Markdown.
    """
    rows = [("weights", record.form)]
    if record.cosine_min is not None:
        rows += [
            ("texts", f"{record.texts:,}" + (f" ({record.texts_origin})" if record.texts_origin else "")),
            ("lowest cosine", f"{record.cosine_min:.6f}"),
            ("mean cosine", f"{record.cosine_mean:.6f}"),
            ("least mean and lowest cosine asked for", "{:g}, {:g}".format(*record.floor or (0, 0))),
        ]
    warning = "\n**This model is below the floor that was asked for; it was written by force.**\n"
    card = _CARD.format(
        front=front_matter(
            base.model_copy(update={"card": record.source.card}),
            name=f"{record.source.name}-{record.to}",
            relation="quantized",
            tags=("gaprune", record.to),
        ),
        name=record.source.name,
        runtime=runtime,
        usage=usage,
        agreement=_MEASURED if record.texts else _UNKNOWN,
    )
    return (
        card
        + markdown_table(["", "value"], rows)
        + warning * record.below_floor
        + "\n`gaprune.json` records everything that made this model.\n"
    )
