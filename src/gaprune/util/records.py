"""Typed records of what was done: results of the steps of a run, and parts of the provenance."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Record"]


class Record(BaseModel):
    """A part of the provenance; built from keywords, plain data, or any object with attributes of these names."""

    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True)
