"""Options that say where calibration triplets come from."""

from __future__ import annotations

from pydantic import Field

from gaprune.config.options import Options, Source

__all__ = ["DataOptions"]


class DataOptions(Options):
    """Where calibration triplets come from."""

    domain: Source | None = Field(None, description="Triplets of your domain: a file, a folder or a hub data set id.")
    general: Source | None = Field(
        None, description="Triplets of general language, likewise; a named public hub data set where none is given."
    )
    subset: str | None = Field(None, description="Configuration of a domain data set on the hub.")
    split: str | None = Field(None, description="Split of a domain data set on the hub; train by default.")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Names of the columns of the domain data that hold query, positive and negative(s).",
    )
    general_subset: str | None = Field(None, description="Configuration of a general data set on the hub.")
    general_split: str | None = Field(None, description="Split of a general data set on the hub; train by default.")
    general_columns: dict[str, str] = Field(
        default_factory=dict, description="Names of the columns of the general data, likewise."
    )
    triplets: int | None = Field(None, ge=1, description="Draw this many triplets a side, at random; default: all.")
    mine_negatives: int = Field(
        0, ge=0, description="Mine this many hard negatives for each pair that has none; 0 leaves in-batch negatives."
    )
    query_prompt: str | None = Field(None, description="Text put before queries; default: the model's own prompt.")
    passage_prompt: str | None = Field(None, description="Text put before passages; default: the model's own prompt.")
