import itertools

import numpy as np
import pytest

from foveal.members.forest import walk
from foveal.members.mixed import EVERYTHING, _mixtures, fit_mixed, mixed
from foveal.members.ridge import ridge


def table(n: int = 240, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features, and three columns: a line, two corners, and nothing that can be told."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6))
    corner = np.abs(x[:, 1]) > 0.7
    return x, np.stack([2 * x[:, 0], corner, rng.normal(size=n)], axis=1)


def test_lines_are_told_by_ridge_and_corners_by_trees() -> None:
    x, y = table()
    fitted, notes = fit_mixed(x, x, y, np.ones(240), np.arange(240), trees=120, key=(0, 0))
    (line, corner, _), wood = notes["shares"]
    assert line == 1
    assert corner == 0
    assert fitted["wood_share"].tolist() == wood
    fresh, true = table(seed=1)
    said = mixed(fitted, fresh, fresh)
    assert np.corrcoef(said[:, 0], true[:, 0])[0, 1] > 0.99
    assert np.corrcoef(said[:, 1], true[:, 1])[0, 1] > 0.7


def test_what_is_said_is_the_mixture_that_the_notes_name() -> None:
    x, y = table()
    wood, looks = x[:, :3], (slice(2), slice(None))
    fitted, notes = fit_mixed(
        x, wood, y, np.ones(240), np.arange(240), trees=5, key=(1,), looks=looks
    )
    fresh, _ = table(seed=1)
    shares = np.array(notes["shares"])
    parts = []
    for look, alpha in zip(looks, notes["alpha"], strict=True):
        slope, intercept = ridge(x[:, look], y, np.ones(240), np.array(alpha))
        parts.append(fresh[:, look] @ slope + intercept)
    parts.append(walk(fitted, fresh[:, :3]))
    by_hand = sum(share * part for share, part in zip(shares, parts, strict=True))
    assert mixed(fitted, fresh, fresh[:, :3]) == pytest.approx(by_hand)
    assert shares.sum(axis=0) == pytest.approx(1)


def test_a_look_at_what_tells_is_heard_and_one_at_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    told, noise = rng.normal(size=(60, 2)), rng.normal(size=(60, 300))
    y = told[:, :1] + told[:, 1:]
    x = np.hstack([told, noise])
    _, notes = fit_mixed(
        x, noise[:, :3], y, np.ones(60), np.arange(60), trees=5, key=(0,),
        looks=(slice(2), slice(None)),
    )  # fmt: skip
    assert notes["shares"][0] == [1.0]


@pytest.mark.parametrize("parts", [1, 2, 3, 4])
def test_mixtures_are_all_quarters_that_add_up_to_one(parts: int) -> None:
    found = _mixtures(parts)
    quarters = [k / 4 for k in range(5)]
    wanted = [m for m in itertools.product(quarters, repeat=parts) if sum(m) == 1]
    assert [tuple(m) for m in found.tolist()] == wanted


@pytest.mark.parametrize("looks", [EVERYTHING, (slice(2), slice(None))])
def test_one_group_chooses_nothing(looks: tuple[slice, ...]) -> None:
    x, y = table()
    fitted, notes = fit_mixed(
        x, x, y, np.ones(240), np.zeros(240, int), trees=5, key=(0,), looks=looks
    )
    assert fitted["wood_share"].tolist() == [0.5] * 3
    assert np.sum(notes["shares"], axis=0) == pytest.approx(1)


def test_the_same_key_gives_the_same_and_weights_count() -> None:
    x, y = table()
    w = np.where(np.arange(240) < 120, 1.0, 0.1)
    one, two, other = (
        fit_mixed(x, x, y, weights, np.arange(240), trees=5, key=(3, 1))[0]
        for weights in (w, w, np.ones(240))
    )
    for name, value in one.items():
        np.testing.assert_array_equal(value, two[name])
    assert not np.array_equal(one["slope"], other["slope"])
