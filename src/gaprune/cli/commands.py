"""The functions of all commands, by name."""

from __future__ import annotations

from collections.abc import Callable

from gaprune.cli import (
    bench,
    compare,
    criteria,
    data,
    demo,
    doctor,
    evaluate,
    export,
    inspect,
    prune,
    push,
    recover,
    report,
    shrink,
)

COMMANDS: dict[str, Callable[..., None]] = {
    "shrink": shrink.shrink,
    "prune": prune.prune,
    "recover": recover.recover,
    "evaluate": evaluate.evaluate,
    "compare": compare.compare,
    "bench": bench.bench,
    "export": export.export,
    "unpack": export.unpack,
    "push": push.push,
    "inspect": inspect.inspect,
    "report": report.report,
    "criteria": criteria.criteria,
    "doctor": doctor.doctor,
    "demo": demo.demo,
    "data check": data.check,
    "data sample": data.sample,
    "data from-texts": data.from_texts,
}
"""Commands in the order of help; two words name a command of a group."""
