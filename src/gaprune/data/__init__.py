"""Reading, checking, sampling, mining and making the triplets that a model is measured with."""

from gaprune.data.check import CheckReport, check
from gaprune.data.from_texts import LONGEST, SHORTEST, MadeTriplets, TextsReport, triplets_from_texts
from gaprune.data.general import DEFAULT_GENERAL, HubSource, read_general
from gaprune.data.lengths import Lengths
from gaprune.data.mining import mine_negatives
from gaprune.data.normal import normalise
from gaprune.data.overlap import Overlap
from gaprune.data.pairs import KINDS, Kind
from gaprune.data.read import check_source, read_triplets
from gaprune.data.samples import SampleDomain, sample_evaluation, sample_triplets
from gaprune.data.sampling import CLUSTERS, ITERATIONS, sample, sample_representative
from gaprune.data.statistics import SetReport
from gaprune.data.texts import read_texts
from gaprune.data.triplets import Triplet, Triplets
from gaprune.data.write import write_triplets

__all__ = [
    "CLUSTERS",
    "DEFAULT_GENERAL",
    "ITERATIONS",
    "KINDS",
    "LONGEST",
    "SHORTEST",
    "CheckReport",
    "HubSource",
    "Kind",
    "Lengths",
    "MadeTriplets",
    "Overlap",
    "SampleDomain",
    "SetReport",
    "TextsReport",
    "Triplet",
    "Triplets",
    "check",
    "check_source",
    "mine_negatives",
    "normalise",
    "read_general",
    "read_texts",
    "read_triplets",
    "sample",
    "sample_evaluation",
    "sample_representative",
    "sample_triplets",
    "triplets_from_texts",
    "write_triplets",
]
