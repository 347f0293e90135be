"""``gaprune doctor``."""

from __future__ import annotations

from gaprune.cli.options import JsonFlag
from gaprune.cli.output import answer


def doctor(as_json: JsonFlag = False) -> None:
    """Show versions, hardware, number formats and extras: what this installation and this machine can do."""
    from gaprune.pipelines.doctor import doctor as verb
    from gaprune.report.tables import plain_table

    found = verb()
    table = plain_table("This installation", ("", "found", "to change it"), found)
    answer([each._asdict() for each in found], table, quiet=False, as_json=as_json)
