"""Pictures are cropped, turned and coloured as asked, and never otherwise."""

from dataclasses import fields, replace

import cv2
import numpy as np
import pytest

from foveal.transforms.augment import Augment, Prepare, content_box, resize

STILL = Augment(flip_horizontal=0.0)
BENT = Augment(
    flip_vertical=0.5,
    rotate_degrees=40.0,
    scale=(0.8, 1.2),
    shear_degrees=8.0,
    shift=0.1,
    elastic=0.03,
)
SETTINGS = {
    "flip_horizontal": 1.0,
    "flip_vertical": 1.0,
    "rotate_degrees": 30.0,
    "scale": (0.7, 0.8),
    "shear_degrees": 20.0,
    "shift": 0.2,
    "elastic": 0.05,
    "brightness": 0.3,
    "contrast": 0.5,
    "colour": 0.5,
    "gamma": 0.5,
    "cutout": 1.0,
    "quarter_turns": True,
}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def picture(channels: int = 3, dtype: type = np.uint8, rows: int = 40, columns: int = 60):
    coarse = rng(channels).random((6, 7, channels))
    smooth = cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC)
    unit = np.clip(smooth.reshape(rows, columns, channels), 0, 1)
    return (unit * np.iinfo(dtype).max).astype(dtype)


def planes(image: np.ndarray) -> np.ndarray:
    return np.moveaxis(image, 2, 0)


def disc(rows: int, columns: int, radius: int, value: int = 200, dtype: type = np.uint8):
    y, x = np.ogrid[:rows, :columns]
    inside = (y - rows // 2) ** 2 + (x - columns // 2) ** 2 <= radius**2
    return (inside[:, :, None] * np.full(3, value)).astype(dtype)


# --- augment -------------------------------------------------------------------------------------


def test_every_setting_is_tried_here():
    assert {f.name for f in fields(Augment)} == {*SETTINGS, "warp"}  # of others; see SHARP


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_acts_repeats_itself_and_writes_to_nothing(name):
    vary, image = replace(STILL, **{name: SETTINGS[name]}), picture()
    image.setflags(write=False)
    varied = vary(image, rng(3))
    assert (varied.shape, varied.dtype) == (image.shape, image.dtype)
    assert (varied != image).any()
    np.testing.assert_array_equal(varied, vary(image, rng(3)))
    if "flip" not in name:
        assert (varied != vary(image, rng(4))).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_no_setting_changes_no_pixel(dtype):
    for channels in (1, 2, 3, 4, 5, 7, 35):
        image = picture(channels, dtype)
        np.testing.assert_array_equal(STILL(image, rng()), image)


def test_settings_that_move_nothing_leave_colours_alone_and_the_other_way_round():
    image = np.full((40, 60, 3), (10, 90, 200), np.uint8)
    moved = replace(BENT, flip_horizontal=1.0)(image, rng())
    assert np.unique(moved.reshape(-1, 3), axis=0).tolist() == [[10, 90, 200]]
    coloured = replace(STILL, brightness=0.3, contrast=0.5, colour=0.5, gamma=0.5)(image, rng())
    assert len(np.unique(coloured.reshape(-1, 3), axis=0)) == 1


def shape_draws(seed: int) -> np.ndarray:
    """What the map is made from, after the three draws of cutout."""
    return 2 * rng(seed).random(10)[3:] - 1


def test_flips_are_exact_and_undo_themselves():
    image = picture(3, np.uint16, 33, 47)
    mirror = Augment(flip_horizontal=1.0)
    np.testing.assert_array_equal(mirror(image, rng()), image[:, ::-1])
    np.testing.assert_array_equal(mirror(mirror(image, rng()), rng()), image)
    both = Augment(flip_horizontal=1.0, flip_vertical=1.0)
    np.testing.assert_array_equal(both(image, rng()), image[::-1, ::-1])


TURNED = replace(STILL, quarter_turns=True)


def quarters_of(turned: np.ndarray, image: np.ndarray) -> int:
    """By how many quarters exactly."""
    (found,) = [k for k in range(4) if np.array_equal(turned, np.rot90(image, k))]
    return found


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("channels", "side"), [(1, 33), (3, 64), (4, 47), (5, 112)])
def test_quarter_turns_of_a_square_are_exact_and_all_four_occur(
    channels: int, side: int, dtype: type
) -> None:
    image = picture(channels, dtype, side, side)
    found = [quarters_of(TURNED(image, rng(seed)), image) for seed in range(40)]
    assert set(found) == {0, 1, 2, 3}


def test_quarter_turns_occur_equally_often() -> None:
    image = picture(1, rows=8, columns=8)
    found = [quarters_of(TURNED(image, rng(seed)), image) for seed in range(400)]
    assert (np.abs(np.bincount(found) - 100) < 35).all()


def test_a_mask_is_turned_by_the_same_quarters() -> None:
    image = picture(4, rows=33, columns=33)
    mask = np.dstack([image[:, :, 0], np.tri(33, dtype=np.uint8)])
    for seed in range(12):
        varied, moved = TURNED.with_mask(image, mask, rng(seed))
        np.testing.assert_array_equal(moved, np.rot90(mask, quarters_of(varied, image)))


def test_quarter_turns_move_no_other_setting() -> None:
    image = picture(rows=48, columns=48)
    for vary in (replace(STILL, brightness=0.3, colour=0.4), replace(STILL, flip_horizontal=0.5)):
        for seed in range(8):
            turned = replace(vary, quarter_turns=True)(image, rng(seed))
            back = {np.rot90(vary(image, rng(seed)), k).tobytes() for k in range(4)}
            assert turned.tobytes() in back


@pytest.mark.parametrize("size", [(20, 40), (41, 17)])
def test_what_is_no_square_is_turned_upside_down_or_not_at_all(size: tuple[int, int]) -> None:
    """Whatever lies at its ends would else be out of sight, and still be owed to the label."""
    image, margin = picture(3, rows=size[0] + 10, columns=size[1] + 10), 5
    inner = image[margin:-margin, margin:-margin]
    found = [TURNED.with_mask(image, image, rng(k), margin=margin) for k in range(400)]
    upside_down = [np.array_equal(one, np.rot90(inner, 2)) for one, _ in found]
    assert abs(np.mean(upside_down) - 0.5) < 0.1
    assert all(np.array_equal(one, moved) for one, moved in found)
    for (one, _), turned in zip(found, upside_down, strict=True):
        assert turned or np.array_equal(one, inner)


SHARP = replace(BENT, quarter_turns=True, warp=0.0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("margin", [0, 20])
def test_what_is_not_warped_keeps_its_pixels(margin: int, dtype: type) -> None:
    image = picture(4, dtype, 64 + 2 * margin, 64 + 2 * margin)
    inner = image[margin : margin + 64, margin : margin + 64]
    versions = {np.rot90(one, k).tobytes() for one in (inner, inner[::-1]) for k in range(4)}
    varied = [SHARP.with_mask(image, image, rng(seed), margin=margin) for seed in range(80)]
    assert {one.tobytes() for one, _ in varied} == versions
    assert all(np.array_equal(one, moved) for one, moved in varied)


def test_a_share_of_the_variants_is_warped_as_all_would_be() -> None:
    image, warped = picture(rows=48, columns=48), 0
    for seed in range(200):
        found = replace(SHARP, warp=0.3)(image, rng(seed)).tobytes()
        is_warped = found == replace(SHARP, warp=1.0)(image, rng(seed)).tobytes()
        assert is_warped or found == SHARP(image, rng(seed)).tobytes()
        warped += is_warped
    assert 40 < warped < 80


def test_no_setting_moves_what_is_drawn_after_a_picture() -> None:
    image, left = picture(), set()
    for change in ({}, {"warp": 0.4}, {"warp": 0.0}, *({k: v} for k, v in SETTINGS.items())):
        one = rng(3)
        replace(STILL, **change)(image, one)
        left.add(one.random())
    assert len(left) == 1


def test_half_a_turn_is_both_flips():
    image = picture(rows=41)
    turn = shape_draws(7)[2]  # the share of the largest turn that seed 7 takes
    turned = replace(STILL, rotate_degrees=180 / abs(turn))(image, rng(7)).astype(int)
    assert np.abs(turned - image[::-1, ::-1]).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 5, 7, 35])
def test_many_channels_move_as_each_alone(channels, dtype):
    image = picture(channels, dtype, 33, 47)
    alone = [BENT(image[:, :, c : c + 1].copy(), rng(3)) for c in range(channels)]
    np.testing.assert_array_equal(BENT(image, rng(3)), np.concatenate(alone, axis=2))


def test_the_fused_map_is_shear_then_turn_then_zoom_about_the_centre():
    image, seed = picture(rows=64, columns=64), 5
    vary = replace(STILL, rotate_degrees=25.0, shear_degrees=40.0, scale=(0.8, 1.3), shift=0.1)
    d = shape_draws(seed)
    angle, slant = np.deg2rad([25 * d[2], 40 * d[3]])
    zoom = 0.8 * (1.3 / 0.8) ** ((d[6] + 1) / 2)
    y, x = np.mgrid[:64, :64] - 31.5
    x, y = x / zoom, y / zoom
    x, y = x + np.tan(slant) * y, y
    x, y = np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y
    x, y = x + 31.5 + 6.4 * d[4], y + 31.5 + 6.4 * d[5]
    maps = x.astype(np.float32), y.astype(np.float32)
    wanted = cv2.remap(image, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    assert np.abs(vary(image, rng(seed)).astype(int) - wanted).max() <= 3
    bent = replace(vary, elastic=1e-7)(image, rng(seed)).astype(int)
    assert np.abs(bent - wanted).max() <= 3


def of_each_channel(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return image.mean(axis=(0, 1)), image.std(axis=(0, 1))


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 9])
def test_colour_is_the_line_that_its_settings_describe(channels: int) -> None:
    for dtype in (np.uint8, np.uint16):
        image, full = picture(channels, dtype), np.iinfo(dtype).max
        tone = 2 * rng(4).random(13)[10:] - 1  # after those of cutout and of the map
        got = replace(STILL, brightness=0.2, contrast=0.4)(image, rng(4))
        mean, deviation = of_each_channel(image)
        line = (image - mean) * (1 + 0.4 * tone[0]) + mean + 0.2 * tone[1] * deviation
        assert np.abs(got - np.clip(line, 0, full)).max() <= 1


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_each_channel_may_have_a_strength_of_its_own(channels: int) -> None:
    image = picture(channels)
    strength = 1 + 0.4 * (2 * rng(4).random(63 + channels)[63:] - 1)
    got = replace(STILL, colour=0.4)(image, rng(4))
    assert np.abs(got - np.clip(image * strength, 0, 255)).max() <= 0.51


@pytest.mark.parametrize("exposure", [1.0, 0.2, 0.03])
def test_a_dim_picture_keeps_what_it_shows(exposure: float) -> None:
    """About the middle of full scale, half of what is bright in a dim picture would turn black."""
    scene = rng(1).gamma(1.0, 40.0, (48, 48, 2)) * exposure
    image = np.clip(scene + 4, 0, 255).astype(np.uint8)
    bright = image > np.quantile(image, 0.8, axis=(0, 1))
    vary = replace(STILL, brightness=0.3, contrast=0.2, colour=0.1)
    lost = [np.mean(vary(image, rng(k))[bright] == 0) for k in range(50)]
    assert max(lost) < 0.01


def test_cutout_greys_one_square_of_a_quarter_of_the_side():
    image = picture(rows=40, columns=60)
    changed = (replace(STILL, cutout=1.0)(image, rng(3)) != image).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (10, 10)


# --- with a mask ----------------------------------------------------------------------------------

COLOURED = {"brightness": 0.3, "contrast": 0.5, "colour": 0.5, "cutout": 1.0}


def mask_of(image: np.ndarray) -> np.ndarray:
    """Where the first channel is bright, and everywhere."""
    bright = image[:, :, :1] > np.iinfo(image.dtype).max // 2
    return (np.concatenate([bright, np.ones_like(bright)], axis=2) * 255).astype(np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 5, 35])
@pytest.mark.parametrize("moves", [STILL, BENT, replace(BENT, elastic=0.0)])
def test_a_mask_moves_as_its_picture_and_takes_no_colour(moves, channels, dtype):
    image = picture(channels, dtype, 33, 47)
    mask = mask_of(image)
    for one in (image, mask):
        one.setflags(write=False)
    for vary in (moves, replace(moves, **COLOURED)):
        for seed in range(3):
            varied, moved = vary.with_mask(image, mask, rng(seed))
            np.testing.assert_array_equal(varied, vary(image, rng(seed)))
            np.testing.assert_array_equal(moved, moves(mask, rng(seed)))
            assert moved.dtype == np.uint8
            assert moved.shape == mask.shape
            assert (moved[:, :, 1] == 255).all()


def test_a_mask_with_a_picture_leaves_the_generator_where_the_picture_does():
    image, one, other = picture(), rng(3), rng(3)
    BENT.with_mask(image, mask_of(image), one)
    BENT(image, other)
    assert one.random() == other.random()


@pytest.mark.parametrize("seed", range(4))
def test_a_mask_that_is_a_threshold_of_its_picture_stays_one_for_flips(seed):
    image = picture()
    flips = replace(STILL, flip_horizontal=0.5, flip_vertical=0.5)
    varied, moved = flips.with_mask(image, mask_of(image), rng(seed))
    np.testing.assert_array_equal(moved, mask_of(varied))


@pytest.mark.parametrize("name", ["rotate_degrees", "scale", "shear_degrees", "shift", "elastic"])
def test_a_mask_that_is_a_threshold_of_its_picture_stays_one_but_at_its_edge(name):
    image = picture(1)
    vary = replace(STILL, **{name: SETTINGS[name]})
    varied, moved = vary.with_mask(image, mask_of(image), rng(2))
    assert (moved[:, :, 0] != mask_of(image)[:, :, 0]).mean() > 0.02
    wanted = mask_of(varied)[:, :, 0] > 0
    inside = cv2.erode(wanted.astype(np.uint8), np.ones((3, 3))) > 0
    outside = cv2.dilate(wanted.astype(np.uint8), np.ones((3, 3))) == 0
    assert (moved[:, :, 0][inside] > 127).all()
    assert (moved[:, :, 0][outside] <= 127).all()
    assert inside.any()
    assert outside.any()


# --- prepare -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 5, 7, 35])
def test_many_channels_are_prepared_as_each_alone(channels, dtype):
    image = planes(picture(channels, dtype))
    for contrast in (0.0, 4.0):
        prepare = Prepare(height=20, width=25, local_contrast=contrast, crop_border=False)
        alone = np.concatenate([prepare(image[c : c + 1]) for c in range(channels)], axis=2)
        np.testing.assert_array_equal(prepare(image), alone)


def test_each_setting_of_prepare_acts_and_the_picture_is_not_written():
    image = planes(disc(200, 260, 95))
    image.setflags(write=False)
    base = Prepare(height=50, width=70)
    prepared = base(image)
    assert (prepared.shape, prepared.dtype) == ((50, 70, 3), np.uint8)
    for change in ({"height": 51}, {"width": 71}, {"crop_border": False}, {"local_contrast": 4.0}):
        assert not np.array_equal(replace(base, **change)(image), prepared)
    np.testing.assert_array_equal(base(image), prepared)


def test_a_size_that_fits_changes_no_pixel_and_shrinking_averages():
    image = picture()
    np.testing.assert_array_equal(Prepare(height=40, width=60)(planes(image)), image)
    blocks = image.reshape(20, 2, 30, 2, 3).mean((1, 3))
    assert np.abs(resize(image, 20, 30) - blocks).max() <= 0.5


@pytest.mark.parametrize(("rows", "columns"), [(1000, 40), (40, 1000), (90, 40), (2048, 60)])
def test_a_side_that_shrinks_is_averaged_whatever_the_other_does(rows: int, columns: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (rows, columns, 1)).astype(np.uint8)
    found = resize(noise, 60, 60).astype(np.float64)
    edges = [np.linspace(0, side, 61) for side in (rows, columns)]
    shares = [
        np.maximum(np.diff(np.clip(np.arange(side + 1)[None], e[:-1, None], e[1:, None])), 0)
        for side, e in zip((rows, columns), edges, strict=True)
    ]
    areas = [share / share.sum(axis=1, keepdims=True) for share in shares]
    averaged = areas[0] @ noise[:, :, 0] @ areas[1].T
    assert found.std() < 1.1 * averaged.std()
    assert abs(found.mean() - averaged.mean()) < 1.5


@pytest.mark.parametrize(("value", "dtype"), [(200, np.uint8), (51_400, np.uint16)])
def test_the_content_box_hugs_a_disc_whatever_its_size(value, dtype):
    for rows, columns, radius in ((200, 260, 95), (260, 200, 95), (1000, 1300, 480)):
        image = disc(rows, columns, radius, value, dtype)
        wanted = [rows // 2 - radius, rows // 2 + radius + 1]
        wanted += [columns // 2 - radius, columns // 2 + radius + 1]
        box = np.array(content_box(image))
        assert ((box - wanted) * [1, -1, 1, -1] <= 0).all(), "content is cut off"
        assert np.abs(box - wanted).max() <= 10


def test_one_hot_pixel_is_no_content():
    image = disc(200, 260, 95)
    image[10, 10] = 255
    assert content_box(image) == content_box(disc(200, 260, 95))


def test_pictures_that_are_dark_are_left_whole():
    for image in (
        np.zeros((50, 70, 3), np.uint8),
        (picture(rows=50, columns=70) // 25).astype(np.uint8),
        disc(50, 70, 12),
    ):
        assert content_box(image) == (0, 50, 0, 70)


def test_local_contrast_takes_slow_changes_away():
    ramp = np.repeat(np.linspace(60, 180, 300, dtype=np.uint8)[None, None, :], 3, 0)
    flat = Prepare(height=90, width=300, local_contrast=4.0)(np.repeat(ramp, 90, 1))
    assert np.ptp(flat[:, 20:-20].astype(int)) < 12
    assert abs(float(flat[:, 20:-20].mean()) - 127) < 3


def test_the_smallest_pictures_pass():
    for rows, columns in ((1, 1), (1, 9), (9, 1), (2, 3)):
        image = picture(3, rows=rows, columns=columns)
        assert replace(BENT, cutout=1.0)(image, rng()).shape == image.shape
        assert Prepare(height=8, width=9, local_contrast=4.0)(planes(image)).shape == (8, 9, 3)
