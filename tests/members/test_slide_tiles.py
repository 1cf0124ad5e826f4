"""Tiles are the parts of a slide that they are said to be, at the resolution that is wanted."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from foveal.errors import UnreadableImage
from foveal.manifest import Case
from foveal.members.slides import (
    MAP_SIDE,
    FindTissue,
    NoTissue,
    ShownTiles,
    StoredTiles,
    Tiles,
)
from foveal.models.features import TissueFeatures
from foveal.read.slide import open_slide
from foveal.task import Resources
from foveal.transforms.augment import resize
from foveal.transforms.tiles import PHASES
from pyramids import DARK, averaged, shrunk, tissue_picture, write_levels, write_slide

HALF_UM = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
"""Of a file that says .5 microns a pixel."""

SIZE = (640, 960)
BOXES = (64, 96, 128, 128), (400, 640, 160, 192)
"""Two pieces of tissue, the second the larger one."""


def case_of(path: Path, mask: Path | None = None) -> Case:
    return Case(id=path.stem, paths=(str(path),), mask=None if mask is None else str(mask))


def cut(tiles: Tiles, path: Path, mask: Path | None = None) -> np.ndarray:
    """The tiles of a slide, "shift tile height width channel"."""
    case = case_of(path, mask)
    made = tiles(case, FindTissue()(case))
    return made.reshape(tiles.shifts, tiles.count, tiles.side, tiles.side, -1)


def places(tiles: Tiles, path: Path, mask: Path | None = None) -> list[np.ndarray]:
    with open_slide(str(path)) as slide:
        return tiles.places(slide, FindTissue()(case_of(path, mask)))


def region(pixels: np.ndarray, top: float, left: float, side: int) -> np.ndarray:
    """A square of a level, white outside."""
    around = np.pad(pixels, ((999, 999), (999, 999), (0, 0)), constant_values=255)
    y, x = round(top) + 999, round(left) + 999
    return around[y : y + side, x : x + side]


@pytest.fixture
def picture() -> np.ndarray:
    return tissue_picture(*SIZE, *BOXES)


@pytest.fixture
def slide(tmp_path: Path, picture: np.ndarray) -> Path:
    return write_slide(tmp_path / "slide.tiff", picture, 4, 16)


def corner_mask(path: Path, *boxes: tuple[int, int, int, int, int]) -> Path:
    """A mask of a sixteenth of the slide: boxes (top, left, height, width, value) of its pixels."""
    mask = np.zeros((SIZE[0] // 16, SIZE[1] // 16), np.uint8)
    for top, left, height, width, value in boxes:
        mask[top : top + height, left : left + width] = value
    cv2.imwrite(str(path), mask)
    return path


# --- tissue ---------------------------------------------------------------------------------------


def test_a_map_shows_where_tissue_is(slide: Path) -> None:
    amount = FindTissue()(case_of(slide))
    assert (amount.shape, amount.dtype) == ((MAP_SIDE, MAP_SIDE), np.float32)
    wanted = np.zeros(SIZE)
    for top, left, height, width in BOXES:
        wanted[top : top + height, left : left + width] = amount.max()
    shown = cv2.resize(wanted, (MAP_SIDE, MAP_SIDE), interpolation=cv2.INTER_AREA)
    assert np.abs(amount - shown).mean() < 0.01
    assert 0.3 < amount.max() <= 1


def test_a_blank_slide_has_no_tissue_and_no_tiles(tmp_path: Path) -> None:
    for glass in (255, 235):
        path = write_slide(tmp_path / "blank.tiff", tissue_picture(*SIZE, glass=glass), 4)
        amount = FindTissue()(case_of(path))
        assert not amount.any()
        with pytest.raises(NoTissue, match=f"{path}: no tissue"):
            Tiles(side=32, count=4)(case_of(path), amount)


def test_a_mask_of_one_piece_picks_that_piece(slide: Path, tmp_path: Path) -> None:
    tiles = Tiles(side=64, count=3)
    free = places(tiles, slide)[0]
    assert free[0][0] > 300  # the larger piece
    mask = corner_mask(tmp_path / "m.png", (4, 6, 8, 8, 2))
    steered = places(tiles, slide, mask)[0]
    assert len(steered) == 3
    top, left, height, width = BOXES[0]
    for y, x in steered:
        assert top - 64 < y < top + height
        assert left - 64 < x < left + width
    assert not np.array_equal(cut(tiles, slide, mask), cut(tiles, slide))


def test_what_a_mask_marks_higher_is_wanted_more(slide: Path, tmp_path: Path) -> None:
    first, second = (0, 0, 20, 60), (20, 0, 20, 60)
    tiles = Tiles(side=64, count=2)
    for values, is_upper in (((5, 1), True), ((1, 5), False)):
        path = tmp_path / f"{values[0]}{values[1]}.png"
        boxes = [(*box, value) for box, value in zip((first, second), values, strict=True)]
        chosen = places(tiles, slide, corner_mask(path, *boxes))[0]
        assert (chosen[:, 0] < 300).all() == is_upper
        assert (chosen[:, 0] > 300).all() != is_upper


@pytest.mark.parametrize("channel", [0, 1, 2])
@pytest.mark.parametrize("name", ["m.png", "alpha.png", "alpha.tif"])
def test_a_mask_in_any_colour_steers_as_one_in_grey(
    slide: Path, tmp_path: Path, name: str, channel: int
) -> None:
    grey = corner_mask(tmp_path / "grey.png", (4, 6, 8, 8, 1), (25, 40, 8, 8, 2))
    labels = cv2.imread(str(grey), cv2.IMREAD_GRAYSCALE)
    colour = np.zeros((*labels.shape, 4 if "alpha" in name else 3), np.uint8)
    colour[:, :, channel] = labels
    if "alpha" in name:
        colour[:, :, 3] = 255 - labels
    Image.fromarray(colour).save(tmp_path / name)
    wanted = FindTissue()(case_of(slide, grey))
    np.testing.assert_array_equal(FindTissue()(case_of(slide, tmp_path / name)), wanted)


def test_an_even_or_empty_mask_changes_nothing(slide: Path, tmp_path: Path) -> None:
    plain = FindTissue()(case_of(slide))
    empty = corner_mask(tmp_path / "empty.png")
    even = corner_mask(tmp_path / "even.png", (0, 0, 40, 60, 3))
    for mask in (empty, even):
        np.testing.assert_allclose(FindTissue()(case_of(slide, mask)), plain, rtol=1e-6)


def test_a_mask_that_does_not_decode_is_named(slide: Path, tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(b"nothing")
    with pytest.raises(UnreadableImage, match=r"m\.png"):
        FindTissue()(case_of(slide, tmp_path / "m.png"))


# --- resolution -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("downsample", "level", "side"), [(1.0, 0, 32), (4.0, 1, 32), (16.0, 2, 32), (4.02, 1, 128)]
)
def test_tiles_of_a_level_are_its_own_pixels(
    slide: Path, picture: np.ndarray, downsample: float, level: int, side: int
) -> None:
    tiles = Tiles(side=side, count=5, shifts=2, downsample=downsample)
    whole = averaged(picture, (1, 4, 16)[level])
    made = cut(tiles, slide)
    for shift, corners in enumerate(places(tiles, slide)):
        assert made[shift, 0].min() < 200
        for k in range(tiles.count):
            if k < len(corners):
                wanted = region(whole, *(corners[k] / (1, 4, 16)[level]), side)
                np.testing.assert_array_equal(made[shift, k], wanted)
            else:
                assert (made[shift, k] == 255).all()


@pytest.mark.parametrize(
    ("downsample", "step", "side"), [(2.5, 1, 80), (1.6, 1, 51), (5.0, 4, 40), (40.0, 16, 80)]
)
def test_between_levels_tiles_are_shrunk_from_the_finer_one(
    slide: Path, picture: np.ndarray, downsample: float, step: int, side: int
) -> None:
    tiles = Tiles(side=32, count=4, downsample=downsample)
    whole, made = averaged(picture, step), cut(tiles, slide)[0]
    corners = places(tiles, slide)[0]
    for tile, corner in zip(made, corners, strict=False):
        wanted = resize(region(whole, *(corner / step), side), 32, 32)
        np.testing.assert_array_equal(tile, wanted)


def test_a_slide_without_the_level_is_read_from_a_finer_one(
    tmp_path: Path, picture: np.ndarray
) -> None:
    smooth = cv2.GaussianBlur(picture, (0, 0), 3)
    tiles = Tiles(side=32, count=4, downsample=4.0)
    made = []
    for name, steps in (("has", (4, 16)), ("lacks", (16,)), ("alone", ())):
        path = write_slide(tmp_path / f"{name}.tiff", smooth, *steps)
        corners = places(tiles, path)[0]
        made.append((corners, cut(tiles, path)[0].astype(int)))
    for corners, one in made[1:]:
        np.testing.assert_allclose(corners, made[0][0])
        assert np.abs(one - made[0][1]).max() <= 2  # rounded twice on the way


@pytest.fixture(scope="module")
def slope(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide all of tissue, whose red and blue tell how far right and down a pixel lies."""
    down, across = np.mgrid[:640, :960]
    red, blue = 110 + across / 12, 110 + down / 8
    colours = np.stack([red, np.full_like(red, 60), blue], axis=2)
    levels = [
        cv2.resize(colours, (960 // step, 640 // step), interpolation=cv2.INTER_AREA)
        for step in (1, 4, 16)
    ]
    path = tmp_path_factory.mktemp("slope") / "slope.tiff"
    rounded = [np.round(level).astype(np.uint8) for level in levels]
    return write_levels(path, rounded, compression="deflate", **HALF_UM)


@pytest.mark.parametrize("downsample", [0.5, 1.0, 2.0, 2.5, 3.9, 4.0, 5.0, 7.3, 16.0, 20.0])
def test_every_pixel_of_a_tile_is_where_it_should_be(slope: Path, downsample: float) -> None:
    tiles = Tiles(side=32, count=6, shifts=4, downsample=downsample)
    made = cut(tiles, slope).astype(float)
    steps = (np.arange(32) + 0.5) * downsample
    checked = 0
    for shift, corners in enumerate(places(tiles, slope)):
        for tile, (top, left) in zip(made[shift], corners, strict=False):
            down, across = np.meshgrid(top + steps, left + steps, indexing="ij")
            margin = 2 * downsample + 1
            inside = (down > margin) & (down < 640 - margin)
            inside &= (across > margin) & (across < 960 - margin)
            slack = 0.5 * max(downsample, 1) + 0.5  # a place is rounded to pixels of its level
            right = np.abs((tile[:, :, 0] - 110) * 12 - across)[inside] / 12
            under = np.abs((tile[:, :, 2] - 110) * 8 - down)[inside] / 8
            assert right.max(initial=0) < slack / 12 + 1.1  # and a colour to whole steps
            assert under.max(initial=0) < slack / 8 + 1.1
            checked += inside.sum()
    assert checked > 500


def test_microns_are_pixels_of_the_file(slope: Path) -> None:
    for spacing, downsample in ((0.5, 1.0), (2.0, 4.0), (1.25, 2.5), (0.25, 0.5)):
        told = Tiles(side=32, count=4, spacing_um=spacing)
        counted = Tiles(side=32, count=4, downsample=downsample)
        np.testing.assert_allclose(places(told, slope)[0], places(counted, slope)[0])
        np.testing.assert_array_equal(cut(told, slope), cut(counted, slope))


@pytest.mark.parametrize("spacing", [0.499, 0.2525, 0.2431, 1 / 3])
def test_rounding_does_not_move_the_grid(spacing: float) -> None:
    other = {"path": "", "channels": 3, "bits": 8, "levels": (), "fingerprint": str}
    slide = SimpleNamespace(**other, read=str, fill=str, spacing_um=spacing)
    for downsample in np.arange(2, 40) / 2:
        told = Tiles(side=64, count=4, spacing_um=float(downsample * spacing))
        assert told.scale(slide) == downsample


def test_a_file_that_says_no_microns_is_an_error_with_a_cure(slide: Path) -> None:
    tiles = Tiles(side=32, count=4, spacing_um=0.5)
    with pytest.raises(UnreadableImage, match=r"does not say.*cure: .*level=") as error:
        cut(tiles, slide)
    assert str(slide) in str(error.value)
    assert cut(replace(tiles, spacing_um=None), slide).shape == (1, 4, 32, 32, 3)


# --- choice ---------------------------------------------------------------------------------------


def test_the_best_tile_comes_first(slide: Path) -> None:
    tiles, amount = Tiles(side=64, count=12, shifts=4), FindTissue()(case_of(slide))
    whole = cv2.resize(amount, SIZE[::-1], interpolation=cv2.INTER_LINEAR)
    for corners in places(tiles, slide):
        held = [
            whole[max(int(y), 0) : max(int(y + 64), 0), max(int(x), 0) : max(int(x + 64), 0)].sum()
            for y, x in corners
        ]
        assert all(one > other - 0.05 * held[0] for one, other in pairwise(held))
        assert held[0] > 2 * held[-1]


def test_every_shift_has_its_part_and_the_first_is_that_of_one(slide: Path) -> None:
    tiles = Tiles(side=64, count=6)
    one = cut(tiles, slide)[0]
    for shifts in (2, 4):
        more = replace(tiles, shifts=shifts)
        made, corners = cut(more, slide), places(more, slide)
        assert made.shape == (shifts, 6, 64, 64, 3)
        np.testing.assert_array_equal(made[0], one)
        for (down, across), moved in zip(PHASES, corners, strict=False):
            offset = (moved[0] - corners[0][0]) / 64 % 1
            np.testing.assert_allclose(offset, (down, across))


def test_missing_tiles_are_glass(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tiff", tissue_picture(256, 256, (64, 64, 64, 64)), 2)
    made = cut(Tiles(side=64, count=9), path)[0]
    dark = (made < 200).any(axis=(1, 2, 3))
    assert dark.tolist() == [True] + [False] * 8
    assert (made[~dark] == 255).all()


def test_tiles_reach_over_the_edge_as_glass(tmp_path: Path) -> None:
    picture = tissue_picture(100, 100, (0, 0, 100, 100), colour=DARK)
    path = write_slide(tmp_path / "a.tiff", picture)
    (made,) = cut(Tiles(side=128, count=1), path)[0]
    np.testing.assert_array_equal(made[14:114, 14:114], picture)
    assert (made == 255).all(axis=2).sum() == 128**2 - 100**2


def test_tiles_are_shown_where_they_are(slide: Path) -> None:
    tiles = Tiles(side=32, count=4, shifts=2, downsample=2.0)
    image, squares = ShownTiles(tiles, side=160)(case_of(slide))
    assert image.shape == (80, 120, 3)  # half of the level of 160 x 240
    corners = places(tiles, slide)[0]
    np.testing.assert_allclose(squares[:, :2], corners / 8, rtol=0.01)
    np.testing.assert_allclose(squares[:, 2], 64 / 8, rtol=0.01)


# --- storing --------------------------------------------------------------------------------------


@pytest.fixture
def several(tmp_path: Path) -> list[Case]:
    """Slides with tissue in places of their own, a blank one, and one that is broken."""
    cases = []
    for k in range(6):
        box = (32 + 64 * k, 320 - 32 * k, 100, 100 + 16 * k)
        boxes = [] if k == 2 else [box]
        path = write_slide(tmp_path / f"s{k}.tiff", tissue_picture(512, 512, *boxes), 4)
        cases.append(case_of(path))
    (tmp_path / "s4.tiff").write_bytes(b"II*\0 and no more")
    return cases


def on(folder: Path, threads: int = 1, cache_bytes: float = 8e9) -> Resources:
    return Resources(cache=folder, threads=threads, cache_bytes=cache_bytes)


def test_tiles_are_the_same_for_any_number_of_threads(several: list[Case], tmp_path: Path) -> None:
    stored = StoredTiles(tiles=Tiles(side=32, count=4, shifts=2, downsample=2.0))
    found = [
        stored(several, on(tmp_path / name, threads, limit))
        for name, threads, limit in (("one", 1, 8e9), ("three", 3, 8e9), ("none", 2, 0))
    ]
    for one in found:
        assert one.shape == (2 * 4 * 32, 32, 3)
        assert set(one.failed) == {2, 4}
        assert "no tissue" in one.failed[2]
        assert "s4.tiff" in one.failed[4]
    for row in (0, 1, 3, 5):
        alone = stored.tiles(several[row], FindTissue()(several[row]))
        for one in found:
            np.testing.assert_array_equal(one(row), alone)
    files = [sorted(p.name for p in (tmp_path / name).glob("*.npy")) for name in ("one", "three")]
    assert files[0] == files[1]
    assert [name.split("-")[0] for name in files[0]] == ["tiles", "tissue"]
    assert not list((tmp_path / "none").glob("*.npy"))


def test_other_tiles_cost_no_other_look_for_tissue(slide: Path, tmp_path: Path) -> None:
    resources, cases = on(tmp_path / "cache"), [case_of(slide)]
    first = StoredTiles(tiles=Tiles(side=32, count=4))
    first(cases, resources)
    (tissue,) = resources.cache.glob("tissue-*.npy")
    before, slides = tissue.stat().st_mtime_ns, set(resources.cache.glob("*.npy"))
    for other in (
        Tiles(side=32, count=5),
        Tiles(side=64, count=4),
        Tiles(side=32, count=4, shifts=2),
        Tiles(side=32, count=4, downsample=4.0),
    ):
        StoredTiles(tiles=other)(cases, resources)
        assert set(resources.cache.glob("*.npy")) > slides  # another name
        slides = set(resources.cache.glob("*.npy"))
    StoredTiles(kind="features", tiles=first.tiles, steps=(to_mean,))(cases, resources)
    assert len(list(resources.cache.glob("features-*.npy"))) == 1
    first(cases, resources)
    assert list(resources.cache.glob("tissue-*.npy")) == [tissue]
    assert tissue.stat().st_mtime_ns == before
    assert set(resources.cache.glob("tiles-*.npy")) == {p for p in slides if p != tissue}


def to_mean(tiles: np.ndarray) -> np.ndarray:
    """A step: the mean colour of all tiles."""
    return tiles.mean(axis=(0, 1))


def test_steps_are_taken_before_storing(slide: Path, tmp_path: Path) -> None:
    tiles = Tiles(side=32, count=4)
    stored = StoredTiles(kind="features", tiles=tiles, steps=(to_mean, np.sqrt))
    found = stored([case_of(slide)], on(tmp_path / "cache"))
    np.testing.assert_allclose(found(0), np.sqrt(cut(tiles, slide).mean(axis=(0, 1, 2, 3))))
    assert stored.seconds([case_of(slide)], np.array([0])) > 0


def test_what_a_slide_costs_is_told_by_few_of_them(
    slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Case] = []
    find = FindTissue.__call__

    def watched(self: FindTissue, case: Case) -> np.ndarray:
        looked.append(case)
        return find(self, case)

    monkeypatch.setattr(FindTissue, "__call__", watched)
    stored = StoredTiles(tiles=Tiles(side=32, count=4))
    assert stored.seconds([case_of(slide)] * 9, np.arange(9)) > 0
    assert len(looked) == 2


def test_a_mask_changes_the_name_of_the_cache(slide: Path, tmp_path: Path) -> None:
    stored, resources = StoredTiles(tiles=Tiles(side=64, count=2)), on(tmp_path / "cache")
    masks = [
        None,
        corner_mask(tmp_path / "upper.png", (4, 6, 8, 8, 1)),
        corner_mask(tmp_path / "lower.png", (25, 40, 8, 8, 1)),
    ]
    found = [stored([case_of(slide, mask)], resources)(0) for mask in masks]
    assert len(list(resources.cache.glob("tiles-*.npy"))) == 3
    assert len(list(resources.cache.glob("tissue-*.npy"))) == 3
    assert len({one.tobytes() for one in found}) == 3


def write_grey(path: Path) -> Path:
    grey = tissue_picture(256, 256, (64, 64, 96, 96))[:, :, 1]
    return write_levels(path, [grey, shrunk(grey, 4)], photometric="minisblack")


def test_grey_slides_have_grey_tiles(tmp_path: Path) -> None:
    made = cut(Tiles(side=32, count=4, channels=1), write_grey(tmp_path / "grey.tiff"))
    assert made.shape == (1, 4, 32, 32, 1)
    assert made.min() < 100


def test_a_grey_slide_may_be_among_coloured_ones(slide: Path, tmp_path: Path) -> None:
    cases = [case_of(slide), case_of(write_grey(tmp_path / "grey.tiff"))]
    found = StoredTiles(tiles=Tiles(side=32, count=4))(cases, on(tmp_path / "cache"))
    assert found.failed == {}
    assert np.ptp(found(1), axis=2).max() == 0


def test_the_map_of_tissue_is_told_beside_the_tiles(slide: Path, tmp_path: Path) -> None:
    tiles = Tiles(side=32, count=4, downsample=2.0)
    plain = StoredTiles(kind="features", tiles=tiles, steps=(to_mean,))
    beside = replace(plain, beside=TissueFeatures())
    resources, cases = on(tmp_path / "cache"), [case_of(slide)]
    few, more = plain(cases, resources)(0), beside(cases, resources)(0)
    np.testing.assert_array_equal(more[: len(few)], few)
    amount = FindTissue()(cases[0])
    share, pixels = (amount > 0).mean(), SIZE[0] * SIZE[1] / 4
    assert more[len(few) :][[0, 4]] == pytest.approx([share, np.log1p(share * pixels)], rel=1e-5)
    assert tiles.pixels(cases[0]) == pixels


def test_slides_of_a_stain_in_the_colour_of_pens_show_tissue(tmp_path: Path) -> None:
    picture = np.full((256, 256, 3), 240, dtype=np.uint8)
    picture[64:128, 64:128] = (60, 90, 200)
    write_slide(tmp_path / "blue.tif", picture)
    case = case_of(tmp_path / "blue.tif")
    assert not FindTissue()(case).any()
    assert (FindTissue(pens=False)(case) > 0).mean() == pytest.approx(1 / 16, rel=0.3)
