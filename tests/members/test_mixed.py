import numpy as np
import pytest

from foveal.errors import Stopped
from foveal.members.forest import walk
from foveal.members.mixed import USUAL_SHARE, fit_mixed, mixed


def table(n: int = 240, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features, and three columns: a line, two corners, and nothing that can be told."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6))
    corner = np.abs(x[:, 1]) > 0.7
    return x, np.stack([2 * x[:, 0], corner, rng.normal(size=n)], axis=1)


def test_lines_are_told_by_ridge_and_corners_by_trees() -> None:
    x, y = table()
    fitted, notes = fit_mixed(x, x, y, np.ones(240), np.arange(240), trees=120, key=(0, 0))
    line, corner, nothing = notes["ridge_share"]
    assert line == 1
    assert corner == 0
    assert fitted["share"].tolist() == [line, corner, nothing]
    fresh, true = table(seed=1)
    said = mixed(fitted, fresh, fresh)
    assert np.corrcoef(said[:, 0], true[:, 0])[0, 1] > 0.99
    assert np.corrcoef(said[:, 1], true[:, 1])[0, 1] > 0.7


def test_what_is_said_is_the_mixture_that_the_notes_name() -> None:
    x, y = table()
    wood = x[:, :3]
    fitted, _ = fit_mixed(x, wood, y, np.ones(240), np.arange(240), trees=5, key=(1,))
    for share in map(np.array, ([0.0] * 3, [0.25, 1.0, 0.5], [1.0] * 3)):
        lines = x @ fitted["slope"] + fitted["intercept"]
        by_hand = share * lines + (1 - share) * walk(fitted, wood)
        assert mixed({**fitted, "share": share}, x, wood) == pytest.approx(by_hand)


def test_one_group_chooses_nothing() -> None:
    x, y = table()
    fitted, _ = fit_mixed(x, x, y, np.ones(240), np.zeros(240, int), trees=5, key=(0,))
    assert fitted["share"].tolist() == [USUAL_SHARE] * 3


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


def test_a_fit_is_given_up_when_somebody_says_so() -> None:
    x, group = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40)
    asked: list[bool] = []

    def ask() -> None:
        asked.append(True)
        if len(asked) > 3:
            raise Stopped("stopped")

    with pytest.raises(Stopped):
        fit_mixed(x, x, x[:, :1], np.ones(40), group, trees=4, key=(0,), ask=ask)
