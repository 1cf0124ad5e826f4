"""`slide` takes the whole trip, names what it cannot read, scores without masks, redoes changes."""

import csv
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from conftest import INLINE, TISSUE, answer, small_study, table_of
from effects import digests, tried, untried
from foveal import stages
from foveal.errors import DataError, ManifestError, SplitError, UsageError
from foveal.files import read_json
from foveal.members.slides import Tiles
from foveal.read.slide import open_slide
from foveal.recipes import slide
from foveal.stages.address import build
from foveal.stages.open import open_study
from foveal.stages.split import open_split, split_of
from foveal.stages.train import out_of_fold
from foveal.study import Study
from foveal.task import Context
from pyramids import write_levels, write_slide

BLANK = "b0011"

RECIPES = {"small": TISSUE, "panda": {**TISSUE, "weights": "none"}}
"""Options that make a recipe take a second a training."""

QUICK = {"shifts": 1, "mirror": False}
"""Options with which every slide is scored once."""

APPROACHES = ("regression", "cumulative", "expectation")

make = partial(small_study, "slide", RECIPES)


@pytest.fixture(scope="module", autouse=True)
def small_floor() -> Iterator[None]:
    """Floor members look at few small tiles, in a tenth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slide, "TEXTURE_SIDE", 32)
        patch.setattr(slide, "TEXTURE_COUNTS", (2, 2))
        yield


@pytest.fixture(scope="module", autouse=True)
def no_openslide() -> Iterator[None]:
    """What is no TIFF is refused, whatever is installed here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "openslide", None)
        yield


def run(folder: Path, of: dict, **options: object) -> Study:
    study = make(folder, of, **options)
    stages.run(study, INLINE)
    return study


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, slides: dict) -> Study:
    """With bags that are pooled by attention."""
    return run(tmp_path_factory.mktemp("slide") / "study", slides, pooling="attention")


def write(path: Path, rows: Iterable[dict[str, str]]) -> Path:
    rows = list(rows)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def few(of: dict, path: Path, count: int = 3) -> Path:
    """A table of the first slides, and of nothing but their ids."""
    return write(path, ({"id": row["id"]} for row in table_of(of["table"])[:count]))


def copied(of: dict, folder: Path) -> dict:
    """The same slides and masks, to be harmed."""
    shutil.copytree(Path(of["table"]).parent, folder)
    return {**of, "table": folder / "labels.csv", "images": str(folder / "slides/{id}.tiff")}


def masks_of(of: dict) -> str:
    return str(Path(of["table"]).parent / "masks/{id}.png")


def pixels_of(path: Path) -> np.ndarray:
    with tifffile.TiffFile(path) as file:
        return file.pages[0].asarray()


def sections(study: Study) -> dict[str, str]:
    """What the report says under every headline."""
    parts = re.split(r"<h2[^>]*>(.*?)</h2>", study.report_file.read_text())
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def scored(study: Study, member: str) -> dict[str, float]:
    """The out-of-fold score of every case."""
    opened, made = open_split(study)
    found = out_of_fold(opened, member, made)
    return dict(zip(found.ids, found.matrix().values[:, 0].tolist(), strict=True))


def fold_of(study: Study) -> dict[str, int]:
    opened = open_study(study)
    return dict(zip(opened.manifest.ids, split_of(opened).fold.tolist(), strict=True))


# --- the trip -------------------------------------------------------------------------------------


def test_the_trip_ends_with_a_leaderboard_and_a_report_of_sites_and_tiles(
    finished: Study,
) -> None:
    board = table_of(finished.combine_folder / "leaderboard.csv")
    assert {"floor", *APPROACHES, "mean of all"} <= {row["row"] for row in board}
    assert sum(row["chosen"] == "chosen" for row in board) == 1
    told = sections(finished)
    assert all(f"<td>{name}</td>" in told["Sites"] for name in ("all", "A", "B"))
    assert told["Tiles of the worst slides"].count("<img") == 8


@pytest.mark.parametrize("row", ["floor", "regression", "label average of all"])
def test_an_answer_is_a_grade_and_a_probability_of_each(
    finished: Study, slides: dict, tmp_path: Path, row: str
) -> None:
    table = write(tmp_path / "t.csv", table_of(slides["table"])[::-3])
    rows = answer(finished, slides, tmp_path / "a.csv", answer=row, scores=True, table=table)
    shares = [f"grade_p{k}" for k in range(3)]
    assert [list(told) for told in rows] == [["id", "grade", "grade_expected", *shares]] * 6
    assert [told["id"] for told in rows] == [told["id"] for told in table_of(table)]
    for told in rows:
        assert told["grade"] in "012"
        assert 0 <= float(told["grade_expected"]) <= 2
        assert sum(float(told[name]) for name in shares) == pytest.approx(1, abs=1e-4)
    plain = answer(finished, slides, tmp_path / "b.csv", answer=row, table=table)
    assert plain == [{name: told[name] for name in ("id", "grade")} for told in rows]


def test_a_second_run_trains_nothing(finished: Study) -> None:
    heard: list[str] = []
    stages.run(finished, Context(slots=(), progress=lambda what, *_: heard.append(what)))
    assert "training" not in heard


def test_attention_to_the_tiles_of_held_cases_sums_to_1_and_is_told_of(finished: Study) -> None:
    folds = fold_of(finished)
    for name in APPROACHES:
        for fold in range(2):
            told = read_json(finished.job_folder(name, fold) / "state.json")["attention"]
            assert set(told) == {name for name, k in folds.items() if k == fold}
            for weights in told.values():
                assert len(weights) == 9
                assert min(weights) >= 0
                assert sum(weights) == pytest.approx(1, abs=1e-3)
    (name,) = re.findall(r"the more (\w+) looked", sections(finished)["Tiles of the worst slides"])
    assert name in APPROACHES
    assert "attention" not in read_json(finished.job_folder("floor", 0) / "state.json")


def test_joined_tiles_take_the_trip_and_nobody_looked_at_one(slides: dict, tmp_path: Path) -> None:
    options = {"bag": False, "pooling": "attention", "members": "expectation"}
    study = run(tmp_path / "s", slides, **options, **QUICK)
    assert "attention" not in read_json(study.job_folder("expectation", 0) / "state.json")
    assert " looked at a tile" not in sections(study)["Tiles of the worst slides"]
    asked = few(slides, tmp_path / "few.csv")
    assert len(answer(study, slides, tmp_path / "a.csv", table=asked)) == 3


def test_panda_takes_the_trip_with_every_layout(slides: dict, tmp_path: Path) -> None:
    layouts = ("16x16", "9x32", "25x64")
    members = ",".join(f"{one}-{tiles}" for one, tiles in zip(APPROACHES, layouts, strict=True))
    study = run(tmp_path / "s", slides, recipe="panda", members=members, **QUICK)
    asked = {"answer": "mean of all", "table": few(slides, tmp_path / "few.csv"), "scores": True}
    rows = answer(study, slides, tmp_path / "a.csv", **asked)
    assert [row["id"] for row in rows] == ["b0000", "b0001", "b0002"]


@pytest.mark.parametrize("is_bag", [True, False])
def test_a_study_says_how_long_it_will_take(slides: dict, tmp_path: Path, is_bag: object) -> None:
    trainings, seconds = stages.plan(make(tmp_path / "s", slides, bag=is_bag), INLINE)
    assert trainings == 8
    assert seconds > 0


def test_without_a_cache_the_scores_are_the_same(slides: dict, tmp_path: Path) -> None:
    kept, made = (
        run(tmp_path / f"{gb}", slides, cache_gb=gb, members="regression", **QUICK) for gb in (8, 0)
    )
    assert not list(made.cache_folder.rglob("*.npy"))
    assert list(kept.cache_folder.rglob("*.npy"))
    assert scored(made, "regression") == scored(kept, "regression")


# --- what `init` remarks --------------------------------------------------------------------------


def remarked(folder: Path, of: dict, **options: object) -> list[str]:
    """What a person is told at the beginning."""
    heard: list[str] = []
    make(folder, of, context=Context(slots=(), warn=lambda line, _: heard.append(line)), **options)
    return heard


def test_slides_whose_levels_differ_are_remarked_at_the_beginning(
    slides: dict, tmp_path: Path
) -> None:
    assert remarked(tmp_path / "a", slides) == []
    of = copied(slides, tmp_path / "new")
    path = tmp_path / "new/slides/b0002.tiff"
    write_slide(path, pixels_of(path), 3)
    mute, said = remarked(tmp_path / "b", of)  # and it does not say how wide its pixels are
    assert "1 slides do not say" in mute
    assert "in 1 (such as b0002)" in said
    assert said.endswith("cure: spacing_um= in its place, where every slide says its own")


def test_masks_that_are_missing_or_misshapen_are_remarked_at_the_beginning(
    slides: dict, tmp_path: Path
) -> None:
    of = copied(slides, tmp_path / "new")
    ids = [row["id"] for row in table_of(of["table"])]
    for name in ids:
        Path(masks_of(of).format(id=name)).unlink(missing_ok=True)
    cv2.imwrite(masks_of(of).format(id=ids[3]), np.eye(256, 20, dtype=np.uint8))
    few, odd = remarked(tmp_path / "s", of, masks=masks_of(of))
    assert few.startswith(f"masks for 1 of {len(ids)} slides")
    assert odd.startswith(f"1 masks are of another shape than their slides: {ids[3]} (")


# --- slides that show nothing ---------------------------------------------------------------------


def test_a_blank_slide_is_warned_of_and_left_out(slides: dict, tmp_path: Path) -> None:
    heard: list[str] = []
    study = make(tmp_path / "s", slides, members="floor")
    (said,) = stages.audit(study, INLINE)
    assert said == f"slides that show no tissue, and are left out: {BLANK}"
    context = Context(slots=(), warn=lambda line, _: heard.append(line), say=heard.append)
    stages.run(study, context)
    assert said in heard
    assert f"blank slides are left out: {BLANK}" in heard
    assert fold_of(study)[BLANK] == -1
    _, made = open_split(study)
    at = study.manifest().ids.index(BLANK)
    assert not any(made.learns(k)[at] for k in range(made.folds))
    judged = [row["id"] for row in table_of(study.combine_folder / "oof.csv")]
    assert judged == [row["id"] for row in table_of(slides["table"]) if row["id"] != BLANK]


def test_slides_that_are_all_blank_are_refused(slides: dict, tmp_path: Path) -> None:
    of = copied(slides, tmp_path / "new")
    for path in (tmp_path / "new/slides").iterdir():
        shutil.copyfile(tmp_path / f"new/slides/{BLANK}.tiff", tmp_path / "blank")
        (tmp_path / "blank").replace(path)
    with pytest.raises(SplitError, match="cure"):
        make(tmp_path / "s", of)
    assert not (tmp_path / "s").exists()


# --- slides that cannot be read -------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-300])


def to_jpeg(path: Path) -> None:
    path.write_bytes(cv2.imencode(".jpg", pixels_of(path))[1].tobytes())


def to_five_channels(path: Path) -> None:
    levels = [pixels_of(path)[::step, ::step, [0, 1, 2, 0, 1]] for step in (1, 4)]
    write_levels(path, levels, photometric="minisblack", planarconfig="contig")


def to_zeros(path: Path) -> None:
    """Tiles of the largest level that do not decode, though they lie inside the file."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    data = bytearray(path.read_bytes())
    for start, count in places:
        data[start : start + count] = bytes(count)
    path.write_bytes(data)


def to_palette(path: Path) -> None:
    red = pixels_of(path)[:, :, 0]
    colours = np.arange(768, dtype=np.uint16).reshape(3, 256)
    tifffile.imwrite(path, red, photometric="palette", colormap=colours, tile=(32, 32))


Harm = Callable[[Path], object]
UNREADABLE: dict[str, tuple[Harm, str]] = {
    "truncated": (cut, "the file is truncated"),
    "missing": (Path.unlink, "No such file"),
    "text": (lambda path: path.write_text("no slide"), "no TIFF; cure"),
    "empty": (lambda path: path.write_bytes(b""), "the file is empty"),
    "a palette": (to_palette, "palette"),
}
UNFIT: dict[str, tuple[Harm, str]] = {
    "blank": (lambda path: write_slide(path, np.full((256, 384, 3), 245, np.uint8), 4),
              "no tissue was found on this slide"),
    "five channels": (to_five_channels, "5 channels, where the study has 3"),
    "a JPEG": (to_jpeg, "does not say how many microns a pixel is wide"),
}  # fmt: skip


@pytest.mark.parametrize("harm", UNREADABLE)
def test_a_slide_that_cannot_be_read_at_init_is_listed_with_its_row(
    slides: dict, tmp_path: Path, harm: str
) -> None:
    of = copied(slides, tmp_path / "new")
    do, words = UNREADABLE[harm]
    do(tmp_path / "new/slides/b0006.tiff")
    with pytest.raises(ManifestError) as error:
        make(tmp_path / "deep" / "s", of)
    assert error.value.exit_code == 3
    assert "cure" in str(error.value)
    (culprit,) = error.value.culprits
    assert culprit.startswith('row 7 (id "b0006"): ')
    assert "b0006.tiff" in culprit
    assert re.search(words, culprit)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.fixture(scope="module")
def harmed(tmp_path_factory: pytest.TempPathFactory, slides: dict) -> dict:
    """Slides of which some are broken, each in another way, the first and the last ones whole."""
    of = copied(slides, tmp_path_factory.mktemp("harmed") / "new")
    for k, (harm, _) in enumerate((UNREADABLE | UNFIT).values()):
        harm(Path(of["images"].format(id=f"b{k + 1:04d}")))
    return of


@pytest.mark.parametrize("row", ["floor", "mean of all"])
def test_a_slide_that_cannot_be_scored_gets_the_prior_answer_and_is_named(
    finished: Study, slides: dict, harmed: dict, tmp_path: Path, row: str
) -> None:
    whole = answer(finished, slides, tmp_path / "whole.csv", answer=row, scores=True)
    asked = {k: harmed[k] for k in ("table", "images")}
    done = stages.predict(
        finished, out=tmp_path / "a.csv", answer=row, scores=True, context=INLINE, **asked
    )
    reasons = [words for _, words in (UNREADABLE | UNFIT).values()]
    broken = [f"b{k + 1:04d}" for k in range(len(reasons))]
    assert list(done.unreadable) == [*broken, BLANK]
    said = zip(done.unreadable.items(), [*reasons, UNFIT["blank"][1]], strict=True)
    for (name, why), words in said:
        assert f"{name}.tiff: " in why
        assert re.search(words, why)
    prior = read_json(finished.combine_folder / "answers.json")["prior"]
    rows = {told["id"]: told for told in table_of(tmp_path / "a.csv")}
    for name in done.unreadable:
        assert rows[name]["grade"] == str(prior["grade"])
        shares = [rows[name][f"grade_p{k}"] for k in range(3)]
        assert shares == [f"{p:.6g}" for p in prior["probabilities"]]
    assert list(rows) == [told["id"] for told in whole]
    for told in whole:
        assert told["id"] in done.unreadable or rows[told["id"]] == told


def unscored(study: Study, of: dict, out: Path) -> str:
    """Why the only slide that cannot be scored, but for the blank one, is none."""
    asked = {k: of[k] for k in ("table", "images")}
    done = stages.predict(study, out=out, context=INLINE, **asked)
    ((_, why),) = ((name, why) for name, why in done.unreadable.items() if name != BLANK)
    return why


def test_a_tile_that_does_not_decode_is_the_reason_at_predict(
    finished: Study, slides: dict, tmp_path: Path
) -> None:
    of = copied(slides, tmp_path / "new")
    to_zeros(tmp_path / "new/slides/b0004.tiff")
    assert "does not decode" in unscored(finished, of, tmp_path / "a.csv")


def unspaced(of: dict, folder: Path, name: str) -> dict:
    """Slides of which one does not say its resolution."""
    of, path = copied(of, folder), folder / f"slides/{name}.tiff"
    write_slide(path, pixels_of(path), 4)
    return of


def test_a_slide_that_does_not_say_its_resolution_is_told_of_at_predict(
    finished: Study, slides: dict, tmp_path: Path
) -> None:
    of = unspaced(slides, tmp_path / "new", "b0004")
    said = run(tmp_path / "s", slides, spacing_um=1.0, members="floor")
    for study in (said, finished):
        assert "microns" in unscored(study, of, tmp_path / "a.csv")


def test_a_tile_that_does_not_decode_in_training_is_named(slides: dict, tmp_path: Path) -> None:
    of = copied(slides, tmp_path / "new")
    to_zeros(tmp_path / "new/slides/b0004.tiff")
    with pytest.raises(DataError) as error:
        run(tmp_path / "s", of, members="regression", **QUICK)
    told = " ".join([str(error.value), *error.value.culprits])
    assert "b0004" in told
    assert "does not decode" in told


# --- resolution -----------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_resolution_is_chosen_one_way_and_must_be_there(
    slides: dict, tmp_path: Path, recipe: str
) -> None:
    with pytest.raises(UsageError, match="levels 0 to 2"):
        make(tmp_path / "s", slides, recipe=recipe, level=3)
    with pytest.raises(UsageError, match=r"level= and spacing_um= .*cure"):
        make(tmp_path / "s", slides, recipe=recipe, level=1, spacing_um=1.0)
    of = unspaced(slides, tmp_path / "new", "b0004")
    with pytest.raises(UsageError, match=r"not every slide says .*without: b0004\); cure: level="):
        make(tmp_path / "s", of, recipe=recipe, spacing_um=1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def scale(tiles: Tiles, path: Path) -> float:
    """Pixels of the largest level a pixel of a tile."""
    with open_slide(str(path)) as opened:
        return tiles.scale(opened)


def tiles_of(study: Study) -> Tiles:
    (first, *_) = (m for m in open_study(study).recipe.members if m.name.startswith(APPROACHES))
    return first.pictures.tiles


@pytest.mark.parametrize("recipe", RECIPES)
def test_slides_of_several_scanners_are_cut_at_one_size_of_tissue(
    slides: dict, tmp_path: Path, recipe: str
) -> None:
    of = copied(slides, tmp_path / "new")
    usual = tiles_of(make(tmp_path / "usual", slides, recipe=recipe))
    finer = [tmp_path / f"new/slides/b{k:04}.tiff" for k in range(5)]
    for path in finer:
        twice = pixels_of(path).repeat(2, axis=0).repeat(2, axis=1)
        write_slide(path, twice, 4, resolution=(4e4, 4e4), resolutionunit="CENTIMETER")
    mixed = tiles_of(make(tmp_path / "mixed", of, recipe=recipe))
    assert mixed == usual  # most slides say .5 microns
    folder = Path(of["table"]).parent, Path(slides["table"]).parent
    for path in finer:
        got, wanted = (scale(mixed, root / "slides" / path.name) for root in folder)
        assert got == 2 * wanted


def test_what_is_chosen_for_slides_of_one_scanner_is_a_level_of_theirs(
    slides: dict, tmp_path: Path
) -> None:
    one, other = (
        run(tmp_path / f"{k}", slides, members="floor", **said)
        for k, said in enumerate(({}, {"level": 0}))
    )
    assert scored(one, "floor") == scored(other, "floor")


def test_a_level_may_be_said_by_its_resolution(slides: dict, tmp_path: Path) -> None:
    one, other = (
        run(tmp_path / f"{k}", slides, members="floor", **said)
        for k, said in enumerate(({"level": 1}, {"spacing_um": 2.0}))
    )
    assert scored(one, "floor") == scored(other, "floor")


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_built_for_slides_of_one_level(finished: Study, recipe: str) -> None:
    facts = replace(finished.settings().facts, levels=(1.0,), spacing_um=None)
    for options in ({}, {"level": 0}):
        function = getattr(slide, recipe)
        assert build(function, facts, {**RECIPES[recipe], **options}).members
    with pytest.raises(UsageError, match="levels 0 to 0"):
        build(function, facts, {"level": 1})


def test_slides_of_one_level_in_strips_take_the_trip_and_one_may_be_grey(
    slides: dict, tmp_path: Path
) -> None:
    of = copied(slides, tmp_path / "new")
    for path in (tmp_path / "new/slides").iterdir():
        write_slide(path, pixels_of(path), tile=None, rowsperstrip=40)
    grey = cv2.cvtColor(pixels_of(path), cv2.COLOR_RGB2GRAY)
    write_levels(path, [grey], photometric="minisblack")
    study = run(tmp_path / "s", of, members="floor,regression", **QUICK)
    assert study.settings().facts.levels == (1.0,)
    assert len(answer(study, of, tmp_path / "a.csv", table=few(of, tmp_path / "few.csv"))) == 3


def test_more_slides_take_fewer_epochs(finished: Study) -> None:
    facts = finished.settings().facts
    epochs = [
        slide.small(replace(facts, cases=cases)).members[-1].training.epochs
        for cases in (10, 200, 300, 10**6)
    ]
    assert epochs[0] == slide.MANY_EPOCHS
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[1] > epochs[2]
    assert epochs[-1] == slide.FEW_EPOCHS


# --- masks ----------------------------------------------------------------------------------------


def attention_of(study: Study, fold: int) -> dict:
    return read_json(study.job_folder("regression", fold) / "state.json")["attention"]


def curve_of(study: Study, fold: int) -> list[tuple[str, str]]:
    rows = table_of(study.job_folder("regression", fold) / "metrics.csv")
    return [(row["loss"], row["held"]) for row in rows]


def slope_masks(of: dict, wanted: Callable[[str], bool]) -> None:
    """A mask for every slide, that wants what is on the left; on the right where that is told."""
    slope = np.tile(np.linspace(255, 1, 24).astype(np.uint8), (16, 1))
    for row in table_of(of["table"]):
        path = Path(masks_of(of).format(id=row["id"]))
        cv2.imwrite(str(path), slope[:, ::-1] if wanted(row["id"]) else slope)


def test_the_same_call_with_masks_is_the_same_study(slides: dict, tmp_path: Path) -> None:
    said: list[str] = []
    context = replace(INLINE, say=said.append)
    for masks in ("", masks_of(slides), masks_of(slides)):
        study = make(tmp_path / f"s{bool(masks)}", slides, context=context, masks=masks)
    assert ["nothing to do" in one for one in said] == [True]
    assert study.settings().source.masks == masks_of(slides)
    with pytest.raises(UsageError, match="masks is"):
        make(tmp_path / "sTrue", slides, masks="")


def test_out_of_fold_scores_curves_attention_and_answers_are_made_without_masks(
    slides: dict, tmp_path: Path
) -> None:
    of = copied(slides, tmp_path / "new")
    options = {"members": "floor,regression", "masks": masks_of(of), **QUICK}
    options |= {"bag": True, "pooling": "attention"}
    slope_masks(of, lambda name: False)
    one = run(tmp_path / "one", of, **options)
    fold = fold_of(one)
    slope_masks(of, lambda name: fold[name] == 0)
    other = run(tmp_path / "other", of, **options)
    assert fold_of(other) == fold
    for member in ("floor", "regression"):
        was, now = scored(one, member), scored(other, member)
        assert {fold[name] for name in was if was[name] != now[name]} == {1}
    for seen in (attention_of, curve_of):
        assert [seen(one, k) == seen(other, k) for k in (0, 1)] == [True, False]
    asked = {"answer": "regression", "table": few(of, tmp_path / "few.csv"), "scores": True}
    whole = answer(other, of, tmp_path / "a.csv", **asked)
    shutil.rmtree(tmp_path / "new/masks")
    assert answer(other, of, tmp_path / "a.csv", **asked) == whole


@pytest.mark.parametrize("recipe", RECIPES)
def test_masks_are_looked_at_in_every_training(slides: dict, tmp_path: Path, recipe: str) -> None:
    plain, steered = (
        digests(make(tmp_path / f"{k}", slides, recipe=recipe, masks=masks))
        for k, masks in enumerate(("", masks_of(slides)))
    )
    assert {name for name, _ in plain.items() ^ steered.items()} == {*plain} - {"decisions"}


def test_masks_that_are_nowhere_or_broken_are_named(slides: dict, tmp_path: Path) -> None:
    of = copied(slides, tmp_path / "new")
    with pytest.raises(ManifestError, match="leads to no file at all"):
        make(tmp_path / "s", of, masks=masks_of(of).replace("masks", "mask"))
    mask = Path(masks_of(of).format(id="b0004"))
    mask.write_bytes(mask.read_bytes()[:60])
    with pytest.raises(ManifestError) as error:
        make(tmp_path / "s", of, masks=masks_of(of))
    (culprit,) = error.value.culprits
    assert culprit.startswith('row 5 (id "b0004"): ')
    assert str(mask) in culprit
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_mask_that_wants_glass_alone_means_none(slides: dict, tmp_path: Path) -> None:
    of, name = copied(slides, tmp_path / "new"), "b0004"
    shown = pixels_of(Path(of["images"].format(id=name))).min(axis=2)
    glass = cv2.erode((shown > 200).astype(np.uint8), np.ones((9, 9)), iterations=3)
    for row in table_of(of["table"]):
        Path(masks_of(of).format(id=row["id"])).unlink(missing_ok=True)
    cv2.imwrite(masks_of(of).format(id=name), 255 * glass)
    steered = run(tmp_path / "s", of, masks=masks_of(of), members="floor")
    plain = run(tmp_path / "plain", of, members="floor")
    assert scored(steered, "floor") == scored(plain, "floor")


# --- sites ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory, slides: dict) -> tuple[Study, dict]:
    """A study of two sites of which one gives four grades more, whatever the slides show."""
    rows = [
        {"id": row["id"], "grade": "0145"[k % 4], "reader": "ab"[k % 4 // 2]}
        for k, row in enumerate(table_of(slides["table"]))
    ]
    folder = tmp_path_factory.mktemp("strict")
    of = {**slides, "table": write(folder / "t.csv", rows), "columns": {"site": "reader"}}
    return run(folder / "study", of, members="floor", folds=4), of


def test_a_site_that_reads_otherwise_has_its_own_cuts(
    strict: tuple[Study, dict], tmp_path: Path
) -> None:
    study, of = strict
    assert sections(study)["Sites"].count("<td>own</td>") == 2
    rows = table_of(of["table"])
    given = answer(study, of, tmp_path / "a.csv")
    swapped = [{**row, "reader": "ab"[row["reader"] == "a"]} for row in rows]
    turned = answer(study, of, tmp_path / "b.csv", table=write(tmp_path / "t.csv", swapped))
    for row, one, other in zip(rows, given, turned, strict=True):
        low, high = (one, other) if row["reader"] == "a" else (other, one)
        assert row["id"] == BLANK or int(low["grade"]) < int(high["grade"])


def test_a_site_that_was_never_seen_gets_common_cuts_and_is_told_of_once(
    strict: tuple[Study, dict], tmp_path: Path
) -> None:
    study, of = strict
    heard: list[tuple[str, list[str]]] = []
    context = Context(slots=(), warn=lambda line, of: heard.append((line, list(of))))
    bare = few(of, tmp_path / "bare.csv", count=18)
    common = answer(study, of, tmp_path / "a.csv", table=bare, scores=True, context=context)
    assert heard.pop() == ('18 cases say no "reader" and get what all sites share', [])
    assert not heard
    rows = [{**row, "reader": "cd"[k % 2]} for k, row in enumerate(table_of(of["table"]))]
    new = write(tmp_path / "new.csv", rows)
    assert answer(study, of, tmp_path / "b.csv", table=new, scores=True, context=context) == common
    ((line, sites),) = heard
    assert line.startswith("2 sites that the study never saw")
    assert sites == ["c", "d"]
    own = answer(study, of, tmp_path / "c.csv", scores=True)
    assert [row["grade"] for row in own] != [row["grade"] for row in common]


def test_without_sites_the_report_says_so_and_all_cuts_are_common(
    strict: tuple[Study, dict], slides: dict, tmp_path: Path
) -> None:
    _, of = strict
    study = run(tmp_path / "s", {**of, "columns": {}}, members="floor")
    assert "No --site was named" in sections(study)["Sites"]
    study = run(tmp_path / "t", of, members="floor", folds=4, site_cuts=False)
    assert "<td>own</td>" not in sections(study)["Sites"]


def test_one_site_is_left_out_at_a_time(slides: dict, tmp_path: Path) -> None:
    study = run(tmp_path / "s", slides, members="floor", folds="site")
    fold, rows = fold_of(study), table_of(slides["table"])
    assert {(row["provider"], fold[row["id"]]) for row in rows if row["id"] != BLANK} == {
        ("A", 0),
        ("B", 1),
    }


# --- the report after a change --------------------------------------------------------------------


def test_attention_of_a_member_that_was_left_out_since_is_forgotten(
    slides: dict, tmp_path: Path
) -> None:
    options = {"pooling": "attention", **QUICK}
    run(tmp_path / "s", slides, members="expectation", tiles=2, **options)
    change = {**TISSUE, **options, "members": "regression"}
    study = stages.init(
        tmp_path / "s", recipe="slide:small", options=change, replace_old=True, **slides
    )
    stages.run(study, INLINE)
    assert "the more regression looked" in sections(study)["Tiles of the worst slides"]


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tile": 9}, 'did you mean "tiles"'),
        ({"spacing": 1.0}, 'did you mean "spacing_um"'),
        ({"size": 16}, "size"),
        ({"size": 36}, "size"),
        ({"tiles": 0}, "tiles"),
        ({"level": -1}, "level"),
        ({"spacing_um": 0.0}, "spacing_um"),
        ({"shifts": 5}, "shifts"),
        ({"shifts": 0}, "shifts"),
        ({"pooling": "max"}, "pooling"),
        ({"shuffle": 1.5}, "shuffle"),
        ({"mirror": "perhaps"}, "mirror"),
        ({"site_cuts": "perhaps"}, "site_cuts"),
        ({"cuts": "own"}, "cuts"),
        ({"folds": "sites"}, "folds"),
        ({"members": "regressions"}, "regressions"),
        ({"backbone": "resnet1o"}, "did you mean"),
    ],
)
def test_a_wrong_option_is_named(
    slides: dict, tmp_path: Path, recipe: str, options: dict, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        make(tmp_path / "s", slides, recipe=recipe, **options)
    assert not (tmp_path / "s").exists()


def test_leaving_sites_out_needs_sites(slides: dict, tmp_path: Path) -> None:
    with pytest.raises(SplitError, match="--site"):
        make(tmp_path / "s", {**slides, "columns": {"group": "patient"}}, folds="site")
    assert not (tmp_path / "s").exists()


LAYOUTS = ("16x16", "9x32", "25x64")
NETWORKS = {
    "small": set(APPROACHES),
    "panda": {f"{name}-{tiles}" for name in APPROACHES for tiles in LAYOUTS},
}
EVERYTHING = {"networks", "floor", "split"}
RULES = ("exact", "bagged_exact", "halves", "fifths")
EFFECTS = [
    *((option, value, {"networks"}) for option, value in {
        "bag": False, "shifts": 4, "mirror": False, "shuffle": 0.9, "pooling": "attention",
        "backbone": "test_byobnet", "weights": "imagenet", "epochs": 3, "batch": 4,
        "optimiser": "sgd", "lr": 0.02, "warm_up": 0.5, "ema": 0.9, "clip": 0.5, "cutout": 1.0,
        "mixup": 0.7, "cutmix": 0.7, "drop_path": 0.5, "dropout": 0.6, "balance": 1.0,
        "precision": "bf16-mixed", "layout": "contiguous",
    }.items()),
    ("level", 0, {"networks", "floor"}),  # by pixels, whatever they are wide
    ("level", 1, {"networks", "floor"}),
    ("spacing_um", 0.5, set()),  # which is chosen anyway, for slides this small
    ("spacing_um", 2.0, {"networks", "floor"}),
    ("trees", 9, {"floor"}),
    *(("cuts", rule, {"decisions"}) for rule in RULES),
    ("site_cuts", False, {"decisions"}),
    ("grades", 4, {"networks", "floor", "decisions"}),
    ("folds", 3, EVERYTHING),
    ("near_duplicates", True, {"split"}),  # of the same folds: none of these look alike
    ("folds", "site", EVERYTHING),
    ("seed", 1, EVERYTHING),
    ("cache_gb", 1.0, set()),
]  # fmt: skip


@pytest.mark.parametrize(("recipe", "option", "value", "touched"), tried(slide, EFFECTS, NETWORKS))
def test_a_changed_option_redoes_what_depends_on_it(
    slides: dict, redone: Callable, recipe: str, option: str, value: object, touched: set
) -> None:
    assert redone(make, slides, recipe, **{option: value}) == touched


def test_other_tiles_are_another_training(slides: dict, redone: Callable, tmp_path: Path) -> None:
    networks = NETWORKS["small"]
    assert redone(make, slides, "small", size=40) == networks
    assert redone(make, slides, "small", tiles=12) == networks
    assert redone(make, slides, "small", tiles=1) == {*networks, "floor"}  # coarser, to cover more
    usual = digests(make(tmp_path / "usual", slides, recipe="panda"))
    for option, value, gone, come in (
        ("tiles", 12, ("9x32",), ("12x32",)),
        ("size", 64, LAYOUTS, ("16x32", "9x64", "25x128")),
    ):
        made = make(tmp_path / option, slides, recipe="panda", **{option: value})
        assert {name for name, _ in usual.items() ^ digests(made).items()} == {
            f"{name}-{tiles}" for name in APPROACHES for tiles in {*gone, *come}
        }


def test_every_option_has_its_effect_tested() -> None:
    others = {"members", "masks", "size", "tiles"}
    assert untried(slide, EFFECTS) == dict.fromkeys(RECIPES, others)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_member_left_out_is_not_trained(slides: dict, tmp_path: Path, recipe: str) -> None:
    name = "cumulative" + ("-25x64" if recipe == "panda" else "")
    study = make(tmp_path / "s", slides, recipe=recipe, members=f"{name},floor")
    assert [m.name for m in open_study(study).recipe.members] == ["floor", name]
