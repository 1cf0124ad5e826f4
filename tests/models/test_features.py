"""Numbers of a picture: as many for every picture, finite, and about the picture."""

import cv2
import numpy as np
import pytest

from foveal.models.features import PictureFeatures

DESCRIBE = PictureFeatures()


def picture(rows: int, columns: int, channels: int, dtype: type = np.uint8) -> np.ndarray:
    coarse = np.random.default_rng(0).random((5, 6, channels))
    smooth = cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC)
    unit = np.clip(smooth.reshape(rows, columns, channels), 0, 1)
    return (unit * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("channels", [1, 2, 3, 7])
def test_pictures_of_every_size_and_depth_have_as_many_numbers(channels):
    lengths = set()
    for rows, columns in ((3, 3), (8, 8), (16, 50), (64, 64), (33, 200)):
        for dtype in (np.uint8, np.uint16):
            numbers = DESCRIBE(picture(rows, columns, channels, dtype))
            assert numbers.dtype == np.float32
            assert np.isfinite(numbers).all()
            lengths.add(len(numbers))
    assert len(lengths) == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_constant_pictures_have_finite_numbers_that_tell_their_level(channels, dtype):
    full = np.iinfo(dtype).max
    seen = [
        DESCRIBE(np.full((32, 48, channels), level, dtype)) for level in (0, 1, full // 2, full)
    ]
    assert all(np.isfinite(numbers).all() for numbers in seen)
    for k, numbers in enumerate(seen):
        assert all((numbers != other).any() for other in seen[:k])


def test_the_same_picture_has_the_same_numbers_and_is_not_written():
    image = picture(40, 50, 3)
    image.setflags(write=False)
    np.testing.assert_array_equal(DESCRIBE(image), DESCRIBE(image.copy()))


def test_sixteen_bits_say_what_eight_say():
    image = picture(64, 64, 3)
    fine = DESCRIBE(image.astype(np.uint16) * 257)
    np.testing.assert_allclose(fine, DESCRIBE(image), atol=2e-3)


def test_numbers_change_with_texture_colour_and_place():
    image = picture(64, 64, 3)
    noise = np.random.default_rng(0).integers(0, 9, image.shape, dtype=np.uint8)
    textured = cv2.add(image, noise)
    for other in (textured, image[:, :, ::-1].copy(), np.rot90(image).copy()):
        assert np.abs(DESCRIBE(other) - DESCRIBE(image)).max() > 0.01


def test_settings_decide_how_many_numbers_there_are():
    image = picture(32, 32, 1)
    count = len(DESCRIBE(image))
    assert len(PictureFeatures(bins=17)(image)) == count + 1
    assert len(PictureFeatures(thumbnail=0)(image)) == count - 64
    assert len(PictureFeatures(grid=2)(image)) == count - 2 * 2 * (9 - 4)


def test_the_histogram_is_the_share_of_every_level():
    image = np.zeros((8, 8, 1), np.uint8)
    image[:2] = 255
    shares = DESCRIBE(image)[:16]
    assert (shares[0], shares[15], shares.sum()) == (0.75, 0.25, 1.0)


def test_channels_that_go_together_are_told_from_those_that_do_not():
    one = picture(64, 64, 1)[:, :, 0]
    cases = (one, 255 - one, np.rot90(one, 2))
    found = [DESCRIBE._agreement(np.stack([one, other], axis=2) / 255) for other in cases]
    wanted = [[np.corrcoef(one.ravel(), other.ravel())[0, 1]] for other in cases]
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert wanted[0] == pytest.approx([1])
    assert wanted[1] == pytest.approx([-1])


def test_the_texture_of_one_channel_among_several_is_seen():
    smooth = picture(64, 64, 3).astype(np.int64)
    checks = np.indices((64, 64)).sum(axis=0) % 2 * 8 - 4
    up = np.stack([checks, -checks, 0 * checks], axis=2)  # grey stays as it is
    rough = np.clip(smooth, 8, 247) + up
    calm = np.clip(smooth, 8, 247)
    seen, unseen = DESCRIBE(rough.astype(np.uint8)), DESCRIBE(calm.astype(np.uint8))
    textures = slice(26 * 3, 26 * 3 + 4 * 92)
    per = np.abs(seen - unseen)[textures].reshape(4, -1).max(axis=1)
    assert per[0] < 0.05 < min(per[1:3])
    assert per[3] == 0


def test_colour_is_told_apart_from_light():
    grey = np.repeat(picture(48, 48, 1), 3, axis=2) // 2 + 40
    reddish = grey.astype(np.int64)
    reddish[16:32, 16:32] += np.array([20, -10, -10])  # as light as before
    reddish = reddish.astype(np.uint8)
    assert np.abs(DESCRIBE(reddish) - DESCRIBE(grey)).max() > 0.1
    lighter = grey + np.uint8(20)
    start = 26 * 3 + 4 * 92  # after the histograms and the textures of all planes
    tint = slice(start, start + 26 * 3)
    np.testing.assert_allclose(DESCRIBE(lighter)[tint], DESCRIBE(grey)[tint], atol=1e-6)
