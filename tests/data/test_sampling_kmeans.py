"""Representative sampling against brute force on clusters that are plain to see."""

import numpy as np
import pytest

from gaprune.data import sampling
from gaprune.data.sampling import sample, sample_representative
from gaprune.data.triplets import Triplet, Triplets
from gaprune.errors import ConfigError, DataError
from gaprune.models import encode
from gaprune.models.prompts import Prompts
from gaprune.util.progress import quiet


def triplets_of(count):
    return Triplets([Triplet(f"q{number}", "p", (), f"a:{number}") for number in range(count)], "a")


def clusters(count=5, members=20, seed=0):
    """Points in far apart clusters; returns them and their clusters, mixed."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(count), members))
    centres = rng.permutation(np.eye(count) * 100)
    return centres[labels] + rng.normal(size=(len(labels), count)), labels


def nearest_to_means(points, labels):
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        distances = np.linalg.norm(points[members] - points[members].mean(axis=0), axis=1)
        chosen.append(int(members[distances.argmin()]))
    return sorted(chosen)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_text_a_cluster_nearest_to_its_centre(monkeypatch, large, dtype):
    if large:
        monkeypatch.setattr(sampling, "_LARGE", 10)
    points, labels = clusters()
    drawn = sample_representative(triplets_of(100), points.astype(dtype), count=5, iterations=20, seed=0)
    indices = [int(item.query[1:]) for item in drawn]
    assert sorted(labels[indices].tolist()) == [0, 1, 2, 3, 4]
    assert indices == sorted(indices)
    if not large:  # mini-batches only come near the means
        assert indices == nearest_to_means(points, labels)


@pytest.mark.parametrize("count", [1, 7, 33, 99])
def test_exactly_as_many_different_texts_as_asked_for(monkeypatch, count):
    monkeypatch.setattr(sampling, "_DISTANCES", 250)  # two centres at a time
    points, _ = clusters()
    drawn = sample_representative(triplets_of(100), points, count=count, seed=3)
    assert len({item.query for item in drawn}) == len(drawn) == count
    assert drawn.name == "a"


def test_the_chunks_do_not_change_the_choice(monkeypatch):
    points, _ = clusters()
    whole = sample_representative(triplets_of(100), points, count=30, seed=3)
    monkeypatch.setattr(sampling, "_DISTANCES", 1)
    assert list(sample_representative(triplets_of(100), points, count=30, seed=3)) == list(whole)


def test_the_next_nearest_where_the_nearest_is_taken():
    points = np.array([[0.0], [1.0], [3.0], [10.0]])
    centres = np.array([[0.9], [0.9], [0.9], [9.0]])
    assert sampling._nearest(points, centres) == [1, 0, 2, 3]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_first_of_equally_near_ones(dtype):
    points = np.random.default_rng(0).normal(size=(200, 64)).astype(dtype)
    middles = (points[::2] + points[1::2]) / 2
    assert sampling._nearest(np.repeat(points, 2, axis=0), points[:1])[0] == 0
    assert [sampling._nearest(points[2 * i : 2 * i + 2], middles[i : i + 1])[0] for i in range(100)] == [0] * 100


def test_coinciding_embeddings():
    drawn = sample_representative(triplets_of(10), np.ones((10, 3)), count=6, seed=0)
    assert len({item.query for item in drawn}) == 6


def test_a_query_is_drawn_once():
    items = [Triplet(f"q{number // 5}", f"p{number}") for number in range(20)]
    points = np.repeat(np.arange(4.0), 5)[:, None]
    drawn = sample_representative(Triplets(items, "a"), points, count=4, seed=0)
    assert [item.positive for item in drawn] == ["p0", "p5", "p10", "p15"]
    with pytest.raises(ConfigError, match="sample: 5 asked for, a holds 4 different queries"):
        sample_representative(Triplets(items, "a"), points, count=5, seed=0)


def test_the_seed_decides():
    points = np.random.default_rng(0).normal(size=(200, 4))
    drawn = [list(sample_representative(triplets_of(200), points, count=20, seed=seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


@pytest.mark.parametrize("count", [0, 10, 11])
def test_counts_that_make_no_sense(count):
    with pytest.raises(ConfigError, match=f"sample: {count} asked for, a holds 10") as caught:
        sample_representative(triplets_of(10), np.ones((10, 2)), count=count, seed=0)
    assert "Sample 1 to 9 triplets" in caught.value.remedy


def test_iterations_below_one():
    with pytest.raises(ConfigError, match="iterations: 0 is below 1"):
        sample_representative(triplets_of(10), np.ones((10, 2)), count=2, iterations=0, seed=0)


@pytest.mark.parametrize("shape", [(9, 2), (10,)])
def test_wrong_shape(shape):
    with pytest.raises(ValueError, match="for 10 triplets"):
        sample_representative(triplets_of(10), np.ones(shape), count=2, seed=0)


def test_embedding_that_is_not_finite():
    points = np.ones((10, 2))
    points[4, 1] = np.nan
    with pytest.raises(DataError, match="a:4: the embedding of the query is not finite"):
        sample_representative(triplets_of(10), points, count=2, seed=0)


def test_sample_encodes_the_queries(compass, monkeypatch):
    monkeypatch.setattr(encode, "_CHUNK", 3)
    directions = ("north", "east", "south", "west")
    items = [Triplet(f"{direction} {'up ' * number}", "p") for number in range(3) for direction in directions]
    with quiet():
        drawn = sample(Triplets(items, "a"), compass, 4, prompts=Prompts(), seed=0)
    assert sorted(item.query.split()[0] for item in drawn) == ["east", "north", "south", "west"]


def test_sample_uses_the_prompts_it_is_given(compass, monkeypatch):
    asked = []
    original = compass.encode

    def spy(texts, **options):
        asked.append(options["prompt"])
        return original(texts, **options)

    monkeypatch.setattr(compass, "encode", spy)
    monkeypatch.setattr(compass, "prompts", {"query": "north ", "document": ""})
    with quiet():
        sample(triplets_of(4), compass, 2, prompts=Prompts(), seed=0)
        sample(triplets_of(4), compass, 2, prompts=Prompts(query="query: "), seed=0)
    assert asked == ["", "query: "]


def test_sample_refuses_before_it_encodes(compass, monkeypatch):
    monkeypatch.setattr(compass, "encode", lambda *_, **__: pytest.fail("encoded"))
    with pytest.raises(ConfigError, match="sample: 4 asked for, a holds 4"):
        sample(triplets_of(4), compass, 4, prompts=Prompts(), seed=0)
