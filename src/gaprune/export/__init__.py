"""Writing a result as an ordinary model folder, with where it came from."""

from gaprune.export.archive import Packed, pack, unpack
from gaprune.export.folder import check_destination, save, writing
from gaprune.export.provenance import (
    PROVENANCE_FILE,
    modules_fingerprint,
    parent_identity,
    read_provenance,
    versions,
    weights_fingerprint,
)

__all__ = [
    "PROVENANCE_FILE",
    "Packed",
    "check_destination",
    "modules_fingerprint",
    "pack",
    "parent_identity",
    "read_provenance",
    "save",
    "unpack",
    "versions",
    "weights_fingerprint",
    "writing",
]
