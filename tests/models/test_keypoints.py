import cv2
import numpy as np
import pytest

from foveal.models.keypoints import WIDTH, Keypoints, rooted


def scene(seed: int = 0, side: int = 160) -> np.ndarray:
    """Blots of several sizes on a plain ground, in colour."""
    rng = np.random.default_rng(seed)
    picture = np.full((side, side, 3), 128, dtype=np.uint8)
    for _ in range(60):
        centre = tuple(int(v) for v in rng.integers(10, side - 10, 2))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        cv2.circle(picture, centre, int(rng.integers(3, 12)), colour, -1)
    return cv2.GaussianBlur(picture, (0, 0), 1.5)


def found_again(one: np.ndarray, other: np.ndarray) -> float:
    """Share of descriptors whose nearest in the other picture is clearly nearer than the second."""
    distance = 2 - 2 * np.sort(rooted(one) @ rooted(other).T, axis=1)[:, ::-1]
    return float((distance[:, 0] < 0.6 * distance[:, 1]).mean())


def test_a_turned_and_lit_picture_has_the_same_keypoints_and_another_picture_has_not() -> None:
    describe, picture = Keypoints(count=60), scene()
    turn = cv2.getRotationMatrix2D((80, 80), 20, 0.9)
    moved = cv2.warpAffine(picture, turn, (160, 160), borderMode=cv2.BORDER_REFLECT)
    lit = (0.6 * moved + 30).astype(np.uint8)
    same = found_again(describe(picture), describe(lit))
    other = found_again(describe(picture), describe(scene(1)))
    assert same > 0.4
    assert other < 0.1


def test_the_strongest_are_kept_and_rows_are_empty_where_there_are_none() -> None:
    many, few = Keypoints(count=5000)(scene()), Keypoints(count=10)(scene())
    assert many.shape == (5000, WIDTH)
    number = len(rooted(many))
    assert 20 < number < 5000
    assert not many[number:].any()
    np.testing.assert_array_equal(few, many[:10])
    plain = Keypoints(count=10)(np.full((64, 64, 1), 7, dtype=np.uint8))
    assert not plain.any()
    assert rooted(plain).shape == (0, WIDTH)


@pytest.mark.parametrize("change", [{"contrast": 0.1}, {"edge": 2.0}])
def test_settings_act(change: dict) -> None:
    assert len(rooted(Keypoints(count=500, **change)(scene()))) < len(
        rooted(Keypoints(count=500)(scene()))
    )


def test_depth_of_colour_changes_nothing() -> None:
    deep = scene().astype(np.uint16) * 257
    np.testing.assert_array_equal(Keypoints()(deep), Keypoints()(scene()))


def test_roots_have_length_one() -> None:
    roots = rooted(Keypoints()(scene()))
    np.testing.assert_allclose(np.linalg.norm(roots, axis=1), 1, atol=1e-5)
