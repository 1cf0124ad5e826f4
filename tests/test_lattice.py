"""Masks in cells: what lies in them, whatever the window; and back to pixels."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from foveal.errors import TargetError
from foveal.lattice import (
    Planes,
    blocks_of,
    cells,
    enlarged,
    part_of,
    planes_of,
    read_mask,
    region_of,
)
from foveal.manifest import Case, Window


def pixels(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width)) < 0.4


def by_loops(plane: np.ndarray, lattice: int) -> np.ndarray:
    rows, columns = (-(-side // lattice) for side in plane.shape)
    out = np.zeros((rows, columns))
    for y in range(plane.shape[0]):
        for x in range(plane.shape[1]):
            out[y // lattice, x // lattice] += plane[y, x]
    return out


@pytest.mark.parametrize("lattice", [1, 2, 3, 8, 32])
@pytest.mark.parametrize("size", [(8, 16), (13, 9), (1, 1), (33, 31)])
@pytest.mark.parametrize("kind", ["bool", "uint8", "float32"])
@pytest.mark.parametrize("band", [1, 40, 1 << 20])
def test_cells_are_sums_of_their_pixels(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], lattice: int, kind: str, band: int
) -> None:
    monkeypatch.setattr("foveal.lattice.BAND", band)
    plane = (pixels(*size) * (1 if kind == "bool" else 200)).astype(kind)
    got = cells(plane, lattice)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, by_loops(plane.astype(np.float64), lattice))


@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    lattice=st.sampled_from([1, 2, 4, 8]),
    seed=st.integers(0, 99),
    place=st.tuples(*[st.floats(0, 1)] * 4),
)
@settings(max_examples=80, deadline=None, database=None)
def test_the_cells_of_a_window_are_those_of_the_plane_at_its_place(
    size: tuple[int, int], lattice: int, seed: int, place: tuple[float, ...]
) -> None:
    plane = pixels(*size, seed)
    first = [int(p * (-(-side // lattice) - 1)) for p, side in zip(place[:2], size, strict=True)]
    count = [
        1 + int(p * (-(-side // lattice) - f - 1))
        for p, side, f in zip(place[2:], size, first, strict=True)
    ]
    ends = [min((f + c) * lattice, s) for f, c, s in zip(first, count, size, strict=True)]
    window = Window(
        top=first[0] * lattice,
        left=first[1] * lattice,
        height=ends[0] - first[0] * lattice,
        width=ends[1] - first[1] * lattice,
    )
    wanted = cells(plane, lattice)[first[0] : first[0] + count[0], first[1] : first[1] + count[1]]
    np.testing.assert_array_equal(cells(part_of(plane, window), lattice), wanted)


def test_the_part_without_a_window_is_all() -> None:
    plane = pixels(5, 6)
    assert part_of(plane, None) is plane
    window = Window(top=1, left=2, height=3, width=4)
    np.testing.assert_array_equal(part_of(plane, window), plane[1:4, 2:6])


# --- back to pixels -------------------------------------------------------------------------------


@pytest.mark.parametrize("lattice", [1, 2, 4, 32])
@pytest.mark.parametrize("size", [(64, 96), (61, 95), (33, 34)])
def test_an_enlarged_plane_has_its_size_and_stays_constant(
    size: tuple[int, int], lattice: int
) -> None:
    shape = tuple(-(-side // lattice) for side in size)
    got = enlarged(np.full(shape, 0.3, dtype=np.float32), lattice, *size)
    assert got.shape == size
    np.testing.assert_allclose(got, 0.3, rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("lattice", [1, 2, 4, 8, 16])
def test_a_ramp_of_cells_is_a_ramp_of_pixels_with_the_same_middles(lattice: int, axis: int) -> None:
    count = 9
    ramp = np.broadcast_to(np.arange(count, dtype=np.float32)[:, None], (count, 5))
    plane = ramp if axis == 0 else ramp.T
    got = enlarged(plane, lattice, plane.shape[0] * lattice, plane.shape[1] * lattice)
    line = got[:, 0] if axis == 0 else got[0]
    wanted = (np.arange(count * lattice) + 0.5) / lattice - 0.5
    np.testing.assert_allclose(line, np.clip(wanted, 0, count - 1), atol=1e-4)
    assert (got == (line[:, None] if axis == 0 else line)).all()


@pytest.mark.parametrize("lattice", [1, 4])
def test_a_cut_enlargement_is_a_part_of_the_whole_one(lattice: int) -> None:
    plane = np.random.default_rng(0).random((6, 7)).astype(np.float32)
    whole = enlarged(plane, lattice, 6 * lattice, 7 * lattice)
    part = enlarged(plane, lattice, 6 * lattice - lattice // 2, 7 * lattice - lattice // 4)
    np.testing.assert_array_equal(part, whole[: part.shape[0], : part.shape[1]])
    assert part.shape == (6 * lattice - lattice // 2, 7 * lattice - lattice // 4)


def test_at_one_pixel_a_cell_nothing_changes() -> None:
    plane = np.random.default_rng(0).random((6, 7)).astype(np.float32)
    np.testing.assert_array_equal(enlarged(plane, 1, 6, 7), plane)


# --- files ----------------------------------------------------------------------------------------


def written(path: Path, mask: np.ndarray, value: int = 255) -> str:
    cv2.imwrite(str(path), (mask * value).astype(np.uint16 if value > 255 else np.uint8))
    return str(path)


@pytest.mark.parametrize("value", [1, 255, 256, 65535])
def test_anything_but_0_is_foreground(tmp_path: Path, value: int) -> None:
    mask = pixels(9, 12)
    got = read_mask(written(tmp_path / "m.png", mask, value), (9, 12))
    assert got.dtype == bool
    np.testing.assert_array_equal(got, mask)


def test_a_mask_in_colour_is_one_too(tmp_path: Path) -> None:
    mask = pixels(9, 12)
    colour = np.zeros((9, 12, 3), dtype=np.uint8)
    colour[:, :, 2] = 200 * mask
    cv2.imwrite(str(tmp_path / "m.png"), colour)
    np.testing.assert_array_equal(read_mask(str(tmp_path / "m.png")), mask)


@pytest.mark.parametrize("form", ["jpeg", "tiff"])
def test_the_ripples_of_jpeg_are_no_foreground(tmp_path: Path, form: str) -> None:
    mask = np.zeros((64, 96), dtype=bool)
    mask[11:30, 21:50] = True
    values = (mask * 255).astype(np.uint8)
    if form == "jpeg":
        path = tmp_path / "m.jpg"
        cv2.imwrite(str(path), values, [cv2.IMWRITE_JPEG_QUALITY, 60])
        assert (cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 0).sum() > 1.1 * mask.sum()
    else:
        path = tmp_path / "m.tif"
        tifffile.imwrite(path, values, compression="jpeg", compressionargs={"level": 60})
    np.testing.assert_array_equal(read_mask(str(path)), mask)


@pytest.mark.parametrize("kind", ["bool", "uint8", "uint16"])
def test_a_mask_is_not_inverted_by_how_it_is_to_be_shown(tmp_path: Path, kind: str) -> None:
    mask = pixels(9, 12)
    values = mask if kind == "bool" else (mask * np.iinfo(kind).max).astype(kind)
    tifffile.imwrite(tmp_path / "m.tif", values, photometric="miniswhite")
    np.testing.assert_array_equal(read_mask(str(tmp_path / "m.tif")), mask)


NUMBERS = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


@pytest.mark.parametrize("kind", [*NUMBERS, "float16", "float32", "float64"])
def test_a_tiff_may_keep_a_mask_in_any_type_of_number(tmp_path: Path, kind: str) -> None:
    mask = pixels(9, 12)
    values = mask.astype(kind)
    if values.dtype.kind in "if":
        values[np.nonzero(mask)[0][0], np.nonzero(mask)[1][0]] = -1
    if values.dtype.kind == "f":
        values[tuple(np.argwhere(~mask)[0])] = np.nan  # what is no number marks nothing
    tifffile.imwrite(tmp_path / "m.tif", values)
    np.testing.assert_array_equal(read_mask(str(tmp_path / "m.tif"), (9, 12)), mask)


COLOURS = {
    "black first": [(0, 0, 0), (255, 0, 0)],
    "no black": [(40, 0, 90), (250, 230, 30)],
    "white first": [(255, 255, 255), (200, 0, 0)],
}


@pytest.mark.parametrize("colours", COLOURS)
@pytest.mark.parametrize("form", ["tif", "png"])
def test_the_first_colour_of_a_palette_is_background(
    tmp_path: Path, form: str, colours: str
) -> None:
    mask = pixels(9, 12)
    path = tmp_path / f"m.{form}"
    picture = Image.fromarray(mask.astype(np.uint8), "P")
    picture.putpalette([value for colour in COLOURS[colours] for value in colour])
    picture.save(path)
    np.testing.assert_array_equal(read_mask(str(path)), mask)


def test_a_palette_with_black_is_seen_in_its_colours(tmp_path: Path) -> None:
    mask = pixels(9, 12)
    picture = Image.fromarray((~mask).astype(np.uint8), "P")
    picture.putpalette([255, 255, 255, 0, 0, 0])
    picture.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(str(tmp_path / "m.png")), mask)


@pytest.mark.parametrize("form", ["png", "tif"])
def test_a_shape_may_lie_in_what_is_transparent(tmp_path: Path, form: str) -> None:
    mask, path = pixels(9, 12), tmp_path / f"m.{form}"
    white = np.full((9, 12, 3), 255, np.uint8)
    for alpha, wanted in ((mask, mask), (0 * mask, 0 * mask), (0 * mask + 1, 0 * mask + 1)):
        Image.fromarray(np.dstack([white, alpha.astype(np.uint8) * 255])).save(path)
        np.testing.assert_array_equal(read_mask(str(path)), wanted.astype(bool))
    shape = (white * mask[:, :, None]).astype(np.uint8)
    half = np.where(np.arange(12) < 6, 0, 255) * np.ones((9, 1))
    for alpha in (half, 0 * half + 255):  # colours that differ count, and so do opaque ones
        Image.fromarray(np.dstack([shape, alpha.astype(np.uint8)])).save(path)
        np.testing.assert_array_equal(read_mask(str(path)), mask)
    Image.fromarray(np.dstack([0 * white, np.full_like(mask, 255, np.uint8)])).save(path)
    assert not read_mask(str(path)).any()


STACKS: dict[str, tuple[tuple[int, ...], dict]] = {
    "pages": ((3, 32, 48), {"photometric": "minisblack", "metadata": None}),
    "two pages": ((2, 32, 48), {"photometric": "minisblack"}),
    "ImageJ": ((3, 32, 48), {"imagej": True, "metadata": {"axes": "ZYX"}}),
    "channels of OME": ((2, 32, 48), {"ome": True, "metadata": {"axes": "CYX"}}),
    "slices and moments": ((2, 3, 32, 48), {"photometric": "minisblack"}),
    "many samples": ((32, 48, 5), {"photometric": "minisblack", "planarconfig": "contig"}),
}


@pytest.mark.parametrize("form", STACKS)
def test_a_mask_of_several_pictures_is_refused_with_the_cure(tmp_path: Path, form: str) -> None:
    shape, more = STACKS[form]
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, np.ones(shape, np.uint8), **more)
    with pytest.raises(TargetError, match=r"m\.tif: axes .* one picture; cure: one mask a volume"):
        read_mask(str(path))


@pytest.mark.parametrize("channels", [3, 4])
def test_a_tiff_in_colour_is_one_mask(tmp_path: Path, channels: int) -> None:
    mask = pixels(9, 12)
    colour = np.zeros((9, 12, channels), np.uint8)
    colour[:, :, 1] = mask * 200
    tifffile.imwrite(tmp_path / "m.tif", colour, photometric="rgb")
    np.testing.assert_array_equal(read_mask(str(tmp_path / "m.tif")), mask)


def test_a_mask_of_another_size_is_named_with_both_sizes(tmp_path: Path) -> None:
    path = written(tmp_path / "m.png", pixels(9, 12))
    with pytest.raises(TargetError, match=r"m\.png: 9 x 12 pixels, where the slices have 12 x 9"):
        read_mask(path, (12, 9))


@pytest.mark.parametrize("harm", ["missing", "broken"])
def test_a_mask_that_cannot_be_read_is_named(tmp_path: Path, harm: str) -> None:
    if harm == "broken":
        (tmp_path / "m.png").write_bytes(b"no picture")
    with pytest.raises(TargetError, match=r"m\.png"):
        read_mask(str(tmp_path / "m.png"), (9, 12))


def test_a_region_is_everywhere_or_what_its_file_says(tmp_path: Path) -> None:
    assert region_of(Case(id="a", paths=("x",)), 3, 4).tolist() == [[True] * 4] * 3
    path = written(tmp_path / "r.png", pixels(9, 12))
    case = Case(id="a", paths=("x", path))
    np.testing.assert_array_equal(region_of(case, 9, 12), pixels(9, 12))
    with pytest.raises(TargetError, match=r"r\.png: 9 x 12 pixels, where the slices have 9 x 13"):
        region_of(case, 9, 13)


# --- the truth ------------------------------------------------------------------------------------


def test_planes_are_counted_inside_the_region_part_by_part(tmp_path: Path) -> None:
    mask, region = pixels(10, 14), pixels(10, 14, 1)
    paths = [written(tmp_path / f"{n}.png", m) for n, m in (("m", mask), ("r", region))]
    windows = [
        None,
        Window(top=0, left=0, height=10, width=8),
        Window(top=0, left=8, height=10, width=6),
    ]
    cases = [Case(id=f"a{k}", paths=("x", paths[1]), window=w) for k, w in enumerate(windows)]
    cases.append(Case(id="b", paths=("y",)))
    got = planes_of(cases, [paths[0]] * 4, 4)
    assert len(got) == 4
    for k, case in enumerate(cases):
        inside = region if k < 3 else np.ones_like(region)
        area = by_loops(part_of(inside, case.window), 4)
        positive = by_loops(part_of(mask & inside, case.window), 4)
        np.testing.assert_array_equal(got.area[k], area)
        np.testing.assert_array_equal(got.positive[k], positive)
    np.testing.assert_array_equal(np.hstack([got.area[1], got.area[2]]), got.area[0])
    np.testing.assert_array_equal(np.hstack([got.positive[1], got.positive[2]]), got.positive[0])


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        (np.array([2, 0]), [2, 0]),
        (np.array([True, False, True]), [0, 2]),
        (np.array([], dtype=np.int64), []),
        (np.array([1, 1]), [1, 1]),
        (np.array([-1]), [2]),
    ],
)
def test_planes_are_taken_by_place_and_by_mask(rows: np.ndarray, kept: list[int]) -> None:
    parts = [np.full((k + 1, 2), k, dtype=np.float32) for k in range(3)]
    got = Planes(tuple(parts), tuple(p + 10 for p in parts))[rows]
    assert len(got) == len(kept)
    for k, positive, area in zip(kept, got.positive, got.area, strict=True):
        np.testing.assert_array_equal(positive, parts[k])
        np.testing.assert_array_equal(area, parts[k] + 10)


@pytest.mark.parametrize("lattice", [8, 16])
def test_blocks_lie_at_the_same_place_of_all_volumes(lattice: int) -> None:
    strips = [Window(top=0, left=x, height=1440, width=w) for x, w in ((0, 768), (768, 1152))]
    planes = blocks_of([*strips, *strips], lattice)
    whole = np.concatenate(planes[:2], axis=1)
    assert whole.shape == (1440 // lattice, 1920 // lattice)
    np.testing.assert_array_equal(whole, np.concatenate(planes[2:], axis=1))
    _, counts = np.unique(whole, return_counts=True)
    assert 80 <= len(counts) <= 130
    assert counts.max() == counts[0]  # squares, cut at the far edges alone
    rows, columns = np.nonzero(whole == whole[80, 90])
    assert np.ptp(rows) == np.ptp(columns)


def test_blocks_of_several_groups_are_drawn_apart() -> None:
    windows = [Window(top=0, left=0, height=h, width=w) for h, w in ((640, 1280), (640, 640))]
    together = blocks_of([*windows, windows[0]], 64)
    apart = blocks_of([*windows, windows[0]], 64, np.array([0, 1, 0]))
    np.testing.assert_array_equal(apart[0], together[0])
    np.testing.assert_array_equal(apart[2], together[0])
    assert not set(np.unique(apart[1])) & set(np.unique(apart[0]))
    same = np.unique(apart[1], return_inverse=True)[1].reshape(apart[1].shape)
    np.testing.assert_array_equal(
        same, np.unique(together[1], return_inverse=True)[1].reshape(same.shape)
    )


def test_blocks_are_never_small() -> None:
    (plane,) = blocks_of([Window(top=0, left=0, height=120, width=200)], 8)
    assert np.unique(plane).tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert (plane[:8, :8] == 0).all()
    assert plane.dtype == np.int32


def discs() -> np.ndarray:
    """Discs of some sizes, on black."""
    drawn = np.zeros((96, 128), dtype=np.uint8)
    for x, radius in ((20, 9), (60, 14), (105, 12)):
        cv2.circle(drawn, (x, 48), radius, 255, -1)
    return drawn


@pytest.mark.parametrize(
    ("suffix", "options"),
    [("png", []), ("tif", []), ("webp", [cv2.IMWRITE_WEBP_QUALITY, 60]), ("jp2", [])],
)
def test_a_mask_with_soft_edges_is_cut_at_half(
    tmp_path: Path, suffix: str, options: list[int]
) -> None:
    sharp = discs()
    path = tmp_path / f"m.{suffix}"
    cv2.imwrite(str(path), cv2.GaussianBlur(sharp, (0, 0), 1.5), options)
    got = read_mask(str(path))
    assert np.mean(got != (sharp > 0)) < 0.005
    cv2.imwrite(str(path), cv2.GaussianBlur(sharp, (0, 0), 1.5).astype(np.uint16) * 257)
    if suffix != "webp":
        assert np.mean(read_mask(str(path)) != (sharp > 0)) < 0.005


@pytest.mark.parametrize("top", [255, 250, 40])
def test_numbers_of_objects_and_classes_are_all_foreground(tmp_path: Path, top: int) -> None:
    """Up to the last number of 8 bit, and classes beside 255 for what is not known."""
    objects = (np.arange(96 * 128).reshape(96, 128) // 37 % (top + 1)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "m.png"), objects)
    np.testing.assert_array_equal(read_mask(str(tmp_path / "m.png")), objects > 0)
    classes = np.where(discs() > 0, 255, objects % 21).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "m.png"), classes)
    np.testing.assert_array_equal(read_mask(str(tmp_path / "m.png")), classes > 0)
