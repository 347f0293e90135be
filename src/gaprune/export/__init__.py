"""Writing a result as an ordinary model folder, with where it came from."""

from gaprune.export.folder import check_destination, save
from gaprune.export.provenance import PROVENANCE_FILE, parent_identity, read_provenance, versions, weights_fingerprint

__all__ = [
    "PROVENANCE_FILE",
    "check_destination",
    "parent_identity",
    "read_provenance",
    "save",
    "versions",
    "weights_fingerprint",
]
