"""Options that name the calibration data."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from gaprune.config.options import CommandOptions, Options, Source

CLUSTERS = 5000
"""Triplets to sample from each data set, one per cluster, as in the paper."""

ITERATIONS = 20
"""Iterations of k-means, as in the paper."""

SHORTEST = 10
"""Smallest number of words of a passage."""

LONGEST = 150
"""Largest number of words of a passage: about 200 tokens, which nearly every model reads in full."""


class DomainReading(Options):
    """How data of the domain are read."""

    group: ClassVar[str] = "Input"

    subset: str | None = Field(None, description="Configuration of a domain data set on the hub.")
    split: str | None = Field(None, description="Split of a domain data set on the hub; default: train.")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Columns of the domain data that hold query, positive and negative(s), such as query=title.",
    )
    skip_empty: bool = Field(
        False, description="Leave out records of the domain data that lack a text; how many there are is said."
    )


class DataReading(DomainReading):
    """How data of the domain and general data are read."""

    group: ClassVar[str] = "Input"

    general_subset: str | None = Field(None, description="Configuration of a general data set on the hub.")
    general_split: str | None = Field(None, description="Split of a general data set on the hub; default: train.")
    general_columns: dict[str, str] = Field(
        default_factory=dict, description="Columns of the general data that hold query, positive and negative(s)."
    )


class DataCheckOptions(DataReading, CommandOptions):
    """Options of ``gaprune data check`` that have no flag."""

    command: ClassVar[str] = "data check"


class DataSampleOptions(DomainReading, CommandOptions):
    """Options of ``gaprune data sample`` that have no flag."""

    command: ClassVar[str] = "data sample"


class ExportOptions(DomainReading, CommandOptions):
    """Options of ``gaprune export`` that have no flag."""

    command: ClassVar[str] = "export"

    floor: str | None = Field(
        None,
        description="Least mean and lowest cosine to the original; default: 0.98,0.95 in int8, otherwise 0.999,0.999.",
    )


class DataOptions(DataReading):
    """The calibration data."""

    group: ClassVar[str] = "Input"

    domain: Source | None = Field(None, description="Triplets of your domain: a file, a folder or a hub data set id.")
    general: Source | None = Field(
        None,
        description="Triplets of general language; default: a public data set of the hub, if the criterion needs one.",
    )
    triplets: int | None = Field(
        None, ge=1, description="Number of triplets to draw at random from each data set; default: all."
    )
    mine_negatives: int = Field(
        0, ge=0, description="Hard negatives to mine for each pair without one; 0: use in-batch negatives only."
    )
    query_prompt: str | None = Field(None, description="Text put before queries; default: the model's own prompt.")
    passage_prompt: str | None = Field(None, description="Text put before passages; default: the model's own prompt.")
