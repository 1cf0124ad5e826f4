import numpy as np
import pytest

from foveal.decide import votes as votes_module
from foveal.decide.retrieve import unit
from foveal.decide.votes import VOTED, votes
from foveal.errors import Stopped


def features(rng: np.random.Generator, count: int) -> np.ndarray:
    return unit(rng.random((count, 8)).astype(np.float32))


def by_hand(
    queries: np.ndarray, query: np.ndarray, gallery: np.ndarray, owner: np.ndarray, *,
    count: int, individuals: int,
) -> np.ndarray:  # fmt: skip
    total = np.zeros((count, individuals))
    for feature, which in zip(queries.astype(np.float64), query, strict=True):
        nearest = {
            who: min(((feature - known) ** 2).sum() for known in gallery[owner == who])
            for who in set(owner.tolist())
        }
        order = sorted(nearest, key=nearest.__getitem__)
        if len(order) == 1:
            continue
        voted = order[:VOTED] if len(order) > VOTED else order[:-1]
        beyond = nearest[order[len(voted)]]
        for who in voted:
            total[which, who] += beyond - nearest[who]
    number = np.bincount(query, minlength=count)[:, None]
    return np.sqrt(total / (2 * np.maximum(number, 1)))


@pytest.mark.parametrize("individuals", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("blocks", [(1 << 10, 1 << 12), (7, 5), (1, 1)])
def test_equal_to_brute_force_in_blocks_of_any_size(
    monkeypatch: pytest.MonkeyPatch, individuals: int, blocks: tuple[int, int]
) -> None:
    monkeypatch.setattr(votes_module, "FEATURES", blocks[0])
    monkeypatch.setattr(votes_module, "TILE", blocks[1])
    rng = np.random.default_rng(individuals)
    gallery, owner = features(rng, 60), rng.integers(0, individuals, 60)
    queries, query = features(rng, 40), np.sort(rng.choice([0, 1, 3], 40))  # 2 has no feature
    sizes = {"count": 4, "individuals": individuals + 1}  # the last has no feature
    got = votes(queries, query, gallery, owner, **sizes)
    np.testing.assert_allclose(got, by_hand(queries, query, gallery, owner, **sizes), atol=1e-4)
    assert got.dtype == np.float32
    assert (got[2] == 0).all()
    assert (got[:, -1] == 0).all()


def test_many_pictures_of_one_have_no_more_votes_than_one_that_fits() -> None:
    rng = np.random.default_rng(0)
    asked, others = features(rng, 20), features(rng, 400)
    gallery = np.concatenate([asked, np.repeat(asked, 30, axis=0), others])
    owner = np.repeat([0, 1, 2], [20, 600, 400])
    got = votes(asked, np.zeros(20, int), gallery, owner, count=1, individuals=3)[0]
    assert got[0] == pytest.approx(got[1], abs=1e-3)
    assert got[2] == 0


def test_scores_lie_between_0_and_1() -> None:
    axes = np.eye(3, dtype=np.float32)
    got = votes(axes[:1], np.array([0]), axes, np.arange(3), count=1, individuals=3)
    assert got[0, 0] == pytest.approx(1)
    assert (got[0, 1:] == 0).all()
    far = votes(axes[:1], np.array([0]), axes, np.arange(3), count=1, individuals=3, farthest=8.0)
    assert far[0, 0] == pytest.approx(0.5)


def test_without_a_gallery_nobody_has_a_vote() -> None:
    none, owner = np.zeros((0, 8), dtype=np.float32), np.zeros(0, dtype=np.int64)
    asked = features(np.random.default_rng(0), 3)
    assert (votes(asked, np.arange(3), none, owner, count=3, individuals=2) == 0).all()
    assert votes(none, owner, asked, np.arange(3), count=0, individuals=3).shape == (0, 3)


def test_votes_are_given_up_when_somebody_says_so() -> None:
    rng, asked = np.random.default_rng(0), []

    def ask() -> None:
        asked.append(True)
        raise Stopped("stopped")

    given = features(rng, 4), np.zeros(4, np.int64)
    with pytest.raises(Stopped):
        votes(*given, *given, count=1, individuals=1, ask=ask)
    assert asked == [True]
