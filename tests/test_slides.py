"""What `init` says of slides and masks, and that blank slides are nowhere learned from."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from foveal.errors import MOST_NAMES, ManifestError, SplitError, UnreadableImage
from foveal.manifest import Case, Facts, Manifest, load
from foveal.slides import (
    BLANK,
    NAMED,
    SlideSeen,
    WithTissue,
    is_blank,
    measure,
    remarks,
    survey,
)
from foveal.split import Folds, Split
from foveal.split.record import EVERY, NONE
from foveal.table import Source
from pyramids import PURPLE, tissue_picture, write_slide

BOX = (64, 96, 96, 128)


def case_of(path: Path, mask: Path | None = None) -> Case:
    return Case(id=path.stem, paths=(str(path),), mask=None if mask is None else str(mask))


def seen_of(path: Path, *boxes: tuple[int, int, int, int], **more: object) -> SlideSeen:
    """What is measured of a new slide."""
    steps = more.pop("steps", (4,))
    size, glass = more.pop("size", (256, 384)), more.pop("glass", 255)
    picture = tissue_picture(*size, *boxes, glass=glass)
    return survey(case_of(write_slide(path, picture, *steps, **more)))


# --- a slide --------------------------------------------------------------------------------------


@pytest.mark.parametrize("glass", [255, 235])
def test_a_slide_is_measured_where_it_shows_tissue(tmp_path: Path, glass: int) -> None:
    dots = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
    seen = seen_of(tmp_path / "a.tiff", BOX, glass=glass, steps=(2, 8), **dots)
    picture = seen.picture.picture
    assert (picture.height, picture.width, picture.channels, picture.bits) == (256, 384, 3, 8)
    assert seen.downsamples == (1, 2, 8)
    assert seen.spacing_um == pytest.approx(0.5)
    assert seen.tissue == pytest.approx(BOX[2] * BOX[3] / (256 * 384), rel=1e-6)
    assert picture.mean == pytest.approx([c / 255 for c in PURPLE], abs=0.01)
    assert seen.mask == ""


def test_a_blank_slide_is_no_error(tmp_path: Path) -> None:
    for glass in (255, 235):
        seen = seen_of(tmp_path / "a.tiff", glass=glass)
        assert seen.tissue == 0
        assert seen.picture.picture.mean == pytest.approx([glass / 255] * 3)


def test_equal_slides_are_known_by_their_content(tmp_path: Path) -> None:
    one, same = (seen_of(tmp_path / name, BOX) for name in ("a.tiff", "b.tiff"))
    other = seen_of(tmp_path / "c.tiff", (60, *BOX[1:]))
    assert one.picture.picture.sha256 == same.picture.picture.sha256
    assert one.picture.picture.sha256 != other.picture.picture.sha256


def test_masks_are_known_by_their_pixels(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tiff", tissue_picture(256, 384, BOX))
    found = []
    for k, (value, effort) in enumerate(((5, 0), (5, 9), (6, 9))):
        mask = np.zeros((32, 48), np.uint8)
        mask[8:12, 9:20] = value
        cv2.imwrite(str(tmp_path / f"{k}.png"), mask, [cv2.IMWRITE_PNG_COMPRESSION, effort])
        found.append(survey(case_of(path, tmp_path / f"{k}.png")).mask)
    assert found[0] == found[1] != found[2]
    assert all(found)


def test_what_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tiff", tissue_picture(256, 384, BOX))
    (tmp_path / "m.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(UnreadableImage, match=r"m\.png"):
        survey(case_of(path, tmp_path / "m.png"))
    with pytest.raises(UnreadableImage, match=r"none\.tiff"):
        survey(case_of(tmp_path / "none.tiff"))


# --- all slides -----------------------------------------------------------------------------------


def manifest(n: int, **roles: Sequence[str]) -> Manifest:
    measured = {"tissue": np.array(roles.pop("tissue"))} if "tissue" in roles else {}
    return Manifest(
        ids=tuple(f"s{k}" for k in range(n)),
        paths=(("x",),) * n,
        id_column="id",
        target=np.array([str(k % 2) for k in range(n)])[:, None],
        target_columns=("grade",),
        roles={name: np.array(values) for name, values in roles.items()},
        measured=measured,
    )


def measured(found: Sequence[SlideSeen], **roles: Sequence[str]) -> tuple[Manifest, Facts]:
    return measure(manifest(len(found), **roles), found, target={"grades": 2})


def test_glass_is_0_to_a_network_and_tissue_of_the_order_of_1(tmp_path: Path) -> None:
    found = [seen_of(tmp_path / f"{k}.tiff", (8 * k, 8, 64, 64 + 8 * k)) for k in range(4)]
    _, facts = measured(found)
    assert facts.mean == (1.0, 1.0, 1.0)
    wanted = [1 - c / 255 for c in PURPLE]
    assert facts.std == pytest.approx(wanted, abs=0.02)
    assert facts.channels == 3
    assert facts.bits == 8
    assert facts.target == {"grades": 2}


def test_levels_and_resolution_are_those_that_are_usual(tmp_path: Path) -> None:
    steps = [(), (4,), (4, 16), (4, 8)]
    dots = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
    found = [
        seen_of(tmp_path / f"{k}.tiff", BOX, steps=one, size=(256 + 64 * k, 384 + 96 * k), **dots)
        for k, one in enumerate(steps)
    ]
    _, facts = measured(found)
    assert facts.levels == (1, 4, 12)
    assert facts.spacing_um == pytest.approx(0.5)
    without = [*found, seen_of(tmp_path / "no.tiff", BOX)]
    assert measured(without)[1].spacing_um is None
    assert facts.tissue_pixels == pytest.approx(BOX[2] * BOX[3], rel=0.01)
    one, *others = found
    more = [replace(one, spacing_um=0.25), *others]
    assert measured(more)[1].spacing_um == pytest.approx(0.5)  # the median


def stepped(seen: SlideSeen, *levels: Sequence[float]) -> list[str]:
    """What is remarked of slides that are shrunk so often."""
    found = [replace(seen, downsamples=tuple(map(float, steps))) for steps in levels]
    return remarks(Manifest.from_csv(measured(found)[0].to_csv()))


def test_slides_that_are_not_shrunk_alike_are_remarked(tmp_path: Path) -> None:
    seen = seen_of(tmp_path / "a.tiff", BOX)
    (said,) = stepped(seen, (1, 2, 4), (1, 4, 16), (1, 2), (1,), (1, 4.1, 16.3))
    assert "alike: 1, 2, 4 in 2 (such as s0); 1, 4, 16 in 2 (such as s1)" in said
    assert "; one level in 1; " in said
    assert said.endswith("cure: spacing_um= in its place, where every slide says its own")
    many = stepped(seen, *((1, 2**k) for k in range(1, 9)))
    assert len(many) == 1
    assert many[0].count("such as") == NAMED


def test_slides_that_are_shrunk_alike_but_for_rounding_are_no_news(tmp_path: Path) -> None:
    seen = seen_of(tmp_path / "a.tiff", BOX)
    assert stepped(seen, (1, 4, 16), (1, 4.003, 16.31), (1, 4), (1,)) == []


@pytest.mark.parametrize(
    ("size", "stretch"),
    [
        ((64, 96), 1.0),
        ((8, 11), 1.0),
        ((66, 96), 0.97),
        ((5, 9), 1.0),
        ((64, 64), 0.667),
        ((20, 384), 12.8),
    ],
)
def test_how_much_wider_than_its_slide_a_mask_is(
    tmp_path: Path, size: tuple[int, int], stretch: float
) -> None:
    path = write_slide(tmp_path / "a.tiff", tissue_picture(256, 384, BOX))
    cv2.imwrite(str(tmp_path / "m.png"), np.zeros(size, np.uint8))
    found = survey(case_of(path, tmp_path / "m.png")).stretch
    assert found == pytest.approx(stretch, abs=1e-3)


def masked(seen: SlideSeen, masks: Sequence[str], stretch: Sequence[float]) -> list[str]:
    """What is remarked of slides with these masks."""
    found = [replace(seen, stretch=value) for value in stretch]
    return remarks(measured(found, mask=masks)[0])


def test_slides_that_do_not_say_how_wide_a_pixel_is_are_named(tmp_path: Path) -> None:
    """One of them makes the tiles of all count in pixels."""

    def said(*widths: float | None) -> list[str]:
        seen = seen_of(tmp_path / "a.tiff", BOX)
        found = [replace(seen, spacing_um=width) for width in widths]
        return remarks(Manifest.from_csv(measured(found)[0].to_csv()))

    (told,) = said(0.25, None, 0.5)
    assert told.startswith("1 slides do not say how wide their pixels are, so tiles of all slides")
    assert "0.25 to 0.5 um: s1; cure: " in told
    assert said(0.25, 0.5) == said(None, None) == []


def test_masks_of_some_slides_alone_are_remarked(tmp_path: Path) -> None:
    seen = seen_of(tmp_path / "a.tiff", BOX)
    (said,) = masked(seen, ["", "m", "", ""], [1.0, 1.04, 1.0, 1.0])
    assert said.startswith("masks for 1 of 4 slides;")
    assert masked(seen, ["m"] * 3, [1.0, 0.96, 1.04]) == []
    assert masked(seen, [""] * 3, [1.0] * 3) == []


def test_masks_of_another_shape_are_named(tmp_path: Path) -> None:
    seen = seen_of(tmp_path / "a.tiff", BOX)
    (said,) = masked(seen, ["m"] * 4, [1.0, 1.06, 1.0, 0.5])
    shapes = "s1 (1.1 times as wide), s3 (0.5 times as wide)"
    assert said.startswith(f"2 masks are of another shape than their slides: {shapes}; cure: ")


def test_tissue_of_several_scanners_is_measured_in_pixels_of_one_width(tmp_path: Path) -> None:
    """Of slides of 20 and of 40 times."""
    coarse = replace(seen_of(tmp_path / "a.tiff", BOX), spacing_um=0.5)
    twice = tuple(2 * side for side in BOX)
    fine = replace(seen_of(tmp_path / "b.tiff", twice, size=(512, 768)), spacing_um=0.25)
    _, facts = measured([coarse, coarse, fine, fine, fine])
    assert facts.spacing_um == 0.25
    assert facts.tissue_pixels == pytest.approx(4 * BOX[2] * BOX[3], rel=0.01)
    _, facts = measured([coarse, coarse, coarse, fine, fine])
    assert facts.spacing_um == 0.5
    assert facts.tissue_pixels == pytest.approx(BOX[2] * BOX[3], rel=0.01)
    unsaid = [replace(one, spacing_um=None) for one in (coarse, fine, fine)]
    assert measured(unsaid)[1].tissue_pixels == pytest.approx(4 * BOX[2] * BOX[3], rel=0.01)


def test_blank_slides_do_not_say_how_much_tissue_is_usual(tmp_path: Path) -> None:
    full, empty = seen_of(tmp_path / "a.tiff", BOX), seen_of(tmp_path / "b.tiff")
    assert measured([full, empty, empty])[1].tissue_pixels == measured([full])[1].tissue_pixels
    assert measured([empty, empty])[1].tissue_pixels == 0


def test_what_was_measured_is_in_the_table(tmp_path: Path) -> None:
    full, empty = seen_of(tmp_path / "a.tiff", BOX), seen_of(tmp_path / "b.tiff")
    masked = replace(full, mask="abc")
    table, _ = measured([full, empty, masked], site=["x", "y", "x"])
    back = Manifest.from_csv(table.to_csv())
    assert is_blank(back).tolist() == [False, True, False]
    assert back.measured["mask_sha256"].tolist() == ["", "", "abc"]
    assert {"image_size", "sha256"} <= set(back.measured)
    assert back.measured["sha256"][0] == back.measured["sha256"][2]


def test_a_little_tissue_is_not_blank(tmp_path: Path) -> None:
    speck = seen_of(tmp_path / "a.tiff", (900, 900, 18, 18), size=(2048, 2048), steps=(4,))
    assert 0 < speck.tissue < 1e-3
    assert not is_blank(measured([speck])[0]).any()


# --- folds ----------------------------------------------------------------------------------------

SOME = ["0.20000", "0.00000", "0.10000", "0.00003"] + ["0.3"] * 8 + ["0.00000"]
"""Tissue of 13 slides, of which the second and the last show none."""

FOLDS = WithTissue(Folds(3))


def some(**roles: Sequence[str]) -> Manifest:
    return manifest(len(SOME), tissue=SOME, **roles)


def test_blank_slides_are_in_no_fold_and_never_learned_from() -> None:
    made, blank = FOLDS(some()), is_blank(some())
    assert np.flatnonzero(blank).tolist() == [1, 12]
    assert (made.fold[blank] == NONE).all()
    assert (made.hidden[blank] == EVERY).all()
    assert made.folds == 3
    for k in range(3):
        assert not made.learns(k)[blank].any()
        judged = (made.fold == k) & ~blank
        assert np.array_equal(made.learns(k)[~blank], ~judged[~blank])


def test_the_others_have_the_folds_that_they_would_have_alone() -> None:
    table = some(site=["x", "y", "x"] * 4 + ["y"], group=[str(k // 2) for k in range(13)])
    made, shown = FOLDS(table), np.flatnonzero(~is_blank(table))
    alone = Folds(3)(table.take(shown))
    for name in ("fold", "hidden", "group", "kind"):
        assert np.array_equal(getattr(made, name)[shown], getattr(alone, name))
    assert made.imbalance == alone.imbalance
    blank = np.setdiff1d(np.arange(13), shown)
    assert not np.isin(made.group[blank], made.group[shown]).any()
    assert len(set(made.group[blank].tolist())) == len(blank)


def test_the_blank_ones_are_named_and_beyond_some_counted() -> None:
    (note,) = FOLDS(some()).notes
    assert note == "blank slides are left out: s1, s12"
    many = manifest(40, tissue=["0.0"] * 25 + ["0.1"] * 15)
    (note,) = FOLDS(many).notes
    named = ", ".join(f"s{k}" for k in range(MOST_NAMES))
    assert note == f"blank slides are left out: {named} and 5 more"
    equal = replace(some(), measured={**some().measured, "sha256": np.array(list("aabbcdefghijk"))})
    assert len(FOLDS(equal).notes) == 2  # what the folds of the others say is kept


def test_the_table_of_folds_says_which_are_blank() -> None:
    made = FOLDS(some())
    assert set(made.kind[is_blank(some())].tolist()) == {BLANK}
    head, *_, last = (line.split() for line in made.lines())
    assert head == ["fold", "0", "1", BLANK, "cases"]
    assert last == ["-", "0", "0", "2", "2"]


def test_folds_of_slides_come_back_from_their_table() -> None:
    made = FOLDS(some())
    back = Split.from_csv(made.to_csv(some().ids), some().ids)
    assert back is not None
    for name in ("fold", "hidden", "group", "kind"):
        assert np.array_equal(getattr(back, name), getattr(made, name))


def test_without_blank_slides_nothing_is_changed() -> None:
    table = manifest(12, tissue=["0.1"] * 12)
    ours, theirs = FOLDS(table), Folds(3)(table)
    assert np.array_equal(ours.fold, theirs.fold)
    assert ours.notes == theirs.notes


def test_there_must_be_slides_with_tissue() -> None:
    with pytest.raises(SplitError, match="no slide shows any tissue; cure"):
        FOLDS(manifest(5, tissue=["0.0"] * 5))
    with pytest.raises(SplitError, match="group"):
        FOLDS(manifest(5, tissue=["0.0"] * 4 + ["0.5"]))


# --- masks of a table -----------------------------------------------------------------------------

PATTERN = "masks/{image}.png"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a folder for masks."""
    (tmp_path / "masks").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def loaded(here: Path, *rows: str, masks: str = PATTERN, head: str = "id,image") -> Manifest:
    (here / "t.csv").write_text("\n".join([head, *rows]) + "\n")
    return load(Source(table=str(here / "t.csv"), images="img/{image}", masks=masks))


def names(table: Manifest) -> list[str | None]:
    return [None if case.mask is None else Path(case.mask).name for case in table.cases()]


def test_a_mask_is_found_with_or_without_the_own_suffix_of_a_value(here: Path) -> None:
    for name in ("a.tiff.png", "b.png", "c.tiff.png", "c.png", "s.1.png", "e.png"):
        (here / "masks" / name).touch()
    table = loaded(here, "0,a.tiff", "1,b.tiff", "2,c.tiff", "3,d.tiff", "4,s.1.tif", "5,e")
    assert names(table) == ["a.tiff.png", "b.png", "c.tiff.png", None, "s.1.png", "e.png"]
    first, fourth = table.case(0), table.case(3)
    assert first.files == (*first.paths, first.mask)
    assert fourth.files == fourth.paths
    assert Path(str(first.mask)).is_absolute()


def test_masks_may_lie_in_folders_and_be_named_by_other_columns(here: Path) -> None:
    (here / "masks/sub").mkdir()
    (here / "masks/sub/a.png").touch()
    (here / "masks/sub/b.gland.tif").touch()
    table = loaded(here, "0,sub/a.tiff,b", "1,sub/b.tiff,b", head="id,image,of")
    assert names(table) == ["a.png", None]
    table = loaded(here, "gland,x,b", "1,y,c", head="id,image,of", masks="masks/sub/{of}.{id}.tif")
    assert names(table) == ["b.gland.tif", None]


def test_masks_are_kept_in_the_table_of_a_study(here: Path) -> None:
    (here / "masks/a.png").touch()
    table = loaded(here, "0,a.tiff", "1,b.tiff")
    back = Manifest.from_csv(table.to_csv())
    assert names(back) == names(table) == ["a.png", None]
    assert names(table.take([1, 0])) == [None, "a.png"]
    assert "mask" not in loaded(here, "0,a.tiff", masks="").roles


def test_a_pattern_of_masks_holds_from_anywhere(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "masks/a.png").touch()
    (here / "t.csv").write_text("id,image\n0,a.tiff\n")
    source = Source(table="t.csv", images="img/{image}", masks=PATTERN).absolute()
    monkeypatch.chdir("/")
    assert names(load(source)) == ["a.png"]


def test_no_mask_at_all_is_a_pattern_that_is_wrong(here: Path) -> None:
    with pytest.raises(ManifestError, match="leads to no file at all") as error:
        loaded(here, "0,a.tiff")
    assert "masks/{image}.png" in str(error.value)
    assert error.value.culprits == (str(here / "masks/a.tiff.png"),)
    (here / "masks/a.png").mkdir()  # a folder is no mask
    with pytest.raises(ManifestError, match="leads to no file at all"):
        loaded(here, "0,a.tiff")


@pytest.mark.parametrize(
    ("masks", "rows", "words"),
    [
        ("masks/{imag}.png", ("0,a",), 'masks=: no column "imag".*did you mean "image"'),
        ("masks/all.png", ("0,a",), "names no column"),
        ("masks/{image", ("0,a",), "no pattern"),
        ("masks/{image}-{channel}.png", ("0,a",), "nothing says what"),
    ],
)
def test_a_pattern_of_masks_is_checked(
    here: Path, masks: str, rows: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ManifestError, match=words):
        loaded(here, *rows, masks=masks)


@pytest.mark.parametrize("masks", ["masks/{mask}", "masks/{mask}.png", "masks/{mask}-{id}.png"])
def test_an_empty_cell_means_no_mask(here: Path, masks: str) -> None:
    for name in ("a.png", "a.png.png", "a.png-1.png", ".png", "-0.png"):
        (here / "masks" / name).touch()
    table = loaded(here, "0,x,", "1,y,a.png", "2,z,b.png", head="id,image,mask", masks=masks)
    assert [name is None for name in names(table)] == [True, False, True]
    with pytest.raises(ManifestError, match="leads to no file at all") as error:
        loaded(here, "0,x,", "1,y,b.png", head="id,image,mask", masks=masks)
    assert "b.png" in error.value.culprits[0]
    with pytest.raises(ManifestError, match="leads to no file at all"):
        loaded(here, "0,x,", "1,y,", head="id,image,mask", masks=masks)


def test_masks_may_be_a_column_of_paths_with_gaps(here: Path) -> None:
    (here / "masks/a.png").touch()
    rows = ("0,x,", f"1,y,{here}/masks/a.png", "2,z,masks/a.png")
    assert names(loaded(here, *rows, head="id,image,mask", masks="{mask}")) == [
        None,
        "a.png",
        "a.png",
    ]


@pytest.mark.parametrize("cell", ["../a.png", "/a.png", "a/../../a.png", "a\0.png"])
@pytest.mark.parametrize("masks", ["masks/{mask}", "masks/{none}/{mask}"])
def test_a_mask_that_leaves_its_root_is_refused_and_not_laid_on_the_images(
    here: Path, cell: str, masks: str
) -> None:
    (here / "masks/b.png").touch()
    rows = ("0,x,b.png,", f"1,y,{cell},", "2,z,,")
    with pytest.raises(ManifestError, match=r"1 rows lead .* of masks=") as error:
        loaded(here, *rows, head="id,image,mask,none", masks=masks)
    assert masks in str(error.value)
    assert "images" not in str(error.value)
    (culprit,) = error.value.culprits
    assert culprit.startswith('row 2 (id "1"): ')
    assert "empty" not in culprit


@pytest.mark.parametrize("cell", [".", "/", "//"])
def test_cells_of_other_columns_may_say_anything(here: Path, cell: str) -> None:
    (here / "masks/a.png").touch()
    table = loaded(here, f"0,a.tiff,{cell}", "1,b.tiff,", head="id,image,remark")
    assert names(table) == ["a.png", None]


@pytest.mark.parametrize(("inked", "is_stain"), [(1, False), (3, True)])
def test_the_colours_of_pens_are_a_stain_where_most_slides_have_them(
    tmp_path: Path, inked: int, *, is_stain: bool
) -> None:
    found = []
    for k in range(4):
        picture = tissue_picture(256, 384, BOX)
        if k < inked:
            picture[(picture != 255).any(axis=2)] = (60, 90, 200)
        found.append(survey(case_of(write_slide(tmp_path / f"{k}.tiff", picture, 4))))
    made, facts = measured(found)
    assert facts.target.get("pens", True) is not is_stain
    assert is_blank(made).tolist() == [not is_stain, False, False, False]
    assert any("colour of a pen" in said for said in remarks(made)) is is_stain


def test_what_was_not_scanned_is_no_stain(tmp_path: Path) -> None:
    picture = tissue_picture(256, 384, BOX)
    tissue_alone = survey(case_of(write_slide(tmp_path / "glass.tiff", picture, 4)))
    picture[:, 300:] = 0
    picture[200:] = 0
    found = [survey(case_of(write_slide(tmp_path / f"{k}.tiff", picture, 4))) for k in range(3)]
    made, facts = measured(found)
    assert facts.target.get("pens", True)
    assert not any("colour of a pen" in said for said in remarks(made))
    assert found[0].dark == pytest.approx(tissue_alone.dark, rel=0.02)


def test_inks_are_refused_with_a_cure(tmp_path: Path) -> None:
    path = tmp_path / "cmyk.tiff"
    inks = np.zeros((64, 64, 4), dtype=np.uint8)
    tifffile.imwrite(path, inks, photometric="separated", tile=(64, 64))
    with pytest.raises(UnreadableImage, match=r"inks \(CMYK\).*cure: write it as red"):
        survey(case_of(path))
