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


def turned(picture: np.ndarray, degrees: float) -> np.ndarray:
    turn = cv2.getRotationMatrix2D((80, 80), degrees, 0.9)
    return cv2.warpAffine(picture, turn, (160, 160), borderMode=cv2.BORDER_REFLECT)


def found_again(one: np.ndarray, other: np.ndarray) -> float:
    """Share of descriptors whose nearest in the other picture is clearly nearer than the second."""
    (a, _), (b, _) = rooted(one), rooted(other)
    distance = 2 - 2 * np.sort(a @ b.T, axis=1)[:, ::-1]
    return float((distance[:, 0] < 0.7 * distance[:, 1]).mean())


@pytest.mark.parametrize(("upright", "degrees"), [(True, 8), (False, 8), (False, 70)])
def test_a_moved_and_lit_picture_has_the_same_keypoints_and_another_picture_has_not(
    upright: bool,  # noqa: FBT001
    degrees: float,
) -> None:
    describe, picture = Keypoints(count=60, upright=upright), scene()
    lit = (0.6 * turned(picture, degrees) + 30).astype(np.uint8)
    same = found_again(describe(picture), describe(lit))
    other = found_again(describe(picture), describe(scene(1)))
    assert same > 0.4
    assert other < 0.15


def test_upright_ones_are_not_found_again_in_a_picture_that_is_turned() -> None:
    picture = scene()
    far = turned(picture, 70)
    along, upright = (Keypoints(count=60, upright=u) for u in (False, True))
    assert found_again(upright(picture), upright(far)) < 0.15
    assert found_again(along(picture), along(far)) > 0.3


def test_the_strongest_are_kept_and_rows_are_empty_where_there_are_none() -> None:
    many, few = Keypoints(count=5000)(scene()), Keypoints(count=10)(scene())
    assert many.shape == (5000, WIDTH + 2)
    number = len(rooted(many)[0])
    assert 20 < number < 5000
    assert not many[number:].any()
    (roots, places), (same, here) = rooted(few), rooted(many[:10])
    np.testing.assert_array_equal(places, here)
    assert ((roots * same).sum(axis=1) > 0.98).all()  # from the finest octave that any lies in
    plain = Keypoints(count=10)(np.full((64, 64, 1), 7, dtype=np.uint8))
    assert not plain.any()
    assert rooted(plain)[0].shape == (0, WIDTH)


def test_places_are_columns_and_rows_as_shares_of_the_picture() -> None:
    picture = np.full((100, 200, 1), 128, dtype=np.uint8)
    cv2.circle(picture, (150, 25), 6, 255, -1)
    roots, places = rooted(Keypoints(count=1)(picture))
    np.testing.assert_allclose(places, [[0.75, 0.25]], atol=0.02)
    assert len(roots) == 1


@pytest.mark.parametrize("change", [{"contrast": 0.1}, {"edge": 2.0}])
def test_settings_act(change: dict) -> None:
    fewer, all_of_them = (Keypoints(count=500, **some)(scene()) for some in (change, {}))
    assert len(rooted(fewer)[0]) < len(rooted(all_of_them)[0])


def test_depth_of_colour_changes_nothing() -> None:
    deep = scene().astype(np.uint16) * 257
    np.testing.assert_array_equal(Keypoints()(deep), Keypoints()(scene()))


def test_roots_have_length_one() -> None:
    roots, _ = rooted(Keypoints()(scene()))
    np.testing.assert_allclose(np.linalg.norm(roots, axis=1), 1, atol=1e-5)
