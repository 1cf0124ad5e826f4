"""`segment` takes the whole trip, leaves no trace where it refuses, and redoes what changed."""

import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from conftest import (
    DEPTHS,
    FAST,
    INK,
    INLINE,
    SIZES,
    draw_scans,
    small_study,
    table_of,
    write_zarr,
)
from effects import digests, tried, untried
from foveal import stages
from foveal.digests import digest
from foveal.errors import DataError, ManifestError, SplitError, TargetError, UsageError
from foveal.manifest import Manifest, load
from foveal.recipes import segment
from foveal.scan import Scanned, scan
from foveal.stages.open import Opened, open_study
from foveal.stages.split import split_of
from foveal.study import Study
from foveal.table import Source
from foveal.task import Context

RECIPES = {
    "small": INK,
    "vesuvius": {
        "size": 64,
        "backbone": "test_resnet",
        "weights": "none",
        "folds": 2,
        "crops": 8,
        "epochs": 1,
        "batch": 4,
        "decide": "absolute",
    },
}
"""Options that make a recipe quickly built."""

make = partial(small_study, "segment", RECIPES)


def scanned(manifest: Manifest) -> list[Scanned]:
    return [
        scan(case, *masks)
        for case, masks in zip(manifest.cases(), manifest.target.tolist(), strict=True)
    ]


def made_of(recipe: str, of: dict, **options: object) -> object:
    """The recipe for the volumes of a table."""
    manifest = load(source_of(of))
    _, facts = segment.FAMILY.facts(manifest, scanned(manifest))
    return getattr(segment, recipe)(facts, **{**RECIPES[recipe], **options})


def source_of(of: dict) -> Source:
    return Source(
        table=of["table"],
        files=("slices", "region", "mask"),
        optional=("region",),
        target=("mask",),
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, scans: dict) -> Study:
    study = make(tmp_path_factory.mktemp("segment") / "study", scans)
    stages.run(study, INLINE)
    return study


def answer(study: Study, of: dict, out: Path, **more: object) -> dict[str, np.ndarray]:
    """The masks that `masks.csv` tells of, drawn as large as the files say."""
    csv.field_size_limit(10**7)
    stages.predict(study, out=out, **{"table": of["table"], "context": INLINE, **more})
    found = {}
    for row in table_of(out / "masks.csv"):
        picture = cv2.imread(str(out / f"{row['id']}.png"), cv2.IMREAD_UNCHANGED)
        flat = np.zeros(picture.size, dtype=np.uint8)
        numbers = [int(n) for n in row["rle"].split()]
        for start, length in zip(numbers[::2], numbers[1::2], strict=True):
            assert length > 0
            assert not flat[start - 1 : start - 1 + length].any()
            flat[start - 1 : start - 1 + length] = 255
        found[row["id"]] = flat.reshape(picture.shape)
        np.testing.assert_array_equal(picture, found[row["id"]])
        assert picture.dtype == np.uint8
    return found


def copied(of: dict, folder: Path) -> dict:
    """The same volumes, to be harmed."""
    shutil.copytree(Path(of["table"]).parent, folder)
    return {**of, "table": str(folder / Path(of["table"]).name)}


def as_zarr(folder: Path) -> None:
    """An OME-Zarr image in the place of a folder of slices."""
    files = sorted(folder.iterdir())
    planes = np.stack([cv2.imread(str(p), cv2.IMREAD_UNCHANGED) for p in files])
    shutil.rmtree(folder)
    write_zarr(folder, planes, chunks=(3, 16, 32))


# --- the trip -------------------------------------------------------------------------------------


def test_the_trip_ends_with_a_report_a_leaderboard_and_masks(
    finished: Study, scans: dict, tmp_path: Path
) -> None:
    assert finished.report_file.stat().st_size > 10_000
    board = table_of(finished.combine_folder / "leaderboard.csv")
    assert [row["row"] for row in board] == ["floor", "network", "mean of all"]
    assert all(0 <= float(row["score"]) <= 1 for row in board)
    assert sum(row["chosen"] == "chosen" for row in board) == 1
    masks = answer(finished, scans, tmp_path / "a")
    assert {name: mask.shape for name, mask in masks.items()} == dict(
        zip("abcd", SIZES, strict=True)
    )
    assert {p.name for p in (tmp_path / "a").iterdir()} == {
        "masks.csv", "a.png", "b.png", "c.png", "d.png"
    }  # fmt: skip


def test_with_scores_a_mask_is_what_lies_above_a_threshold(
    finished: Study, scans: dict, tmp_path: Path
) -> None:
    masks = answer(finished, scans, tmp_path / "a", answer="floor", scores=True)
    lowest, highest = [], []
    for name, mask in masks.items():
        score = cv2.imread(str(tmp_path / "a/probability" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert score.dtype == np.uint16
        assert score.shape == mask.shape
        lowest.append(int(score[mask > 0].min()))
        highest.append(int(score[mask == 0].max()))
    assert (np.array(lowest) >= np.array(highest)).all()
    assert max(lowest) > 1000


def test_what_was_learned_is_found_again(finished: Study, scans: dict, tmp_path: Path) -> None:
    masks = answer(finished, scans, tmp_path / "a", answer="floor")
    folder = Path(scans["table"]).parent
    hit = given = true = 0
    for name in "bcd":
        truth = cv2.imread(str(folder / f"{name}-mask.png"), cv2.IMREAD_UNCHANGED) > 0
        hit += int((truth & (masks[name] > 0)).sum())
        given, true = given + int((masks[name] > 0).sum()), true + int(truth.sum())
    assert 1.25 * hit / (0.25 * true + given) > 0.7


def test_every_row_of_the_leaderboard_can_answer(
    finished: Study, scans: dict, tmp_path: Path
) -> None:
    names = [row["row"] for row in table_of(finished.combine_folder / "leaderboard.csv")]
    answers = [answer(finished, scans, tmp_path / name, answer=name) for name in names]
    assert len({digest(a) for a in answers}) > 1


def test_new_volumes_need_no_region_and_no_mask(
    finished: Study, scans: dict, tmp_path: Path
) -> None:
    folder = Path(scans["table"]).parent
    (tmp_path / "new.csv").write_text(f"slices,id\n{folder}/b,x\n{folder}/d/0.png,y/z\n")
    out = tmp_path / "a"
    told = stages.predict(finished, table=tmp_path / "new.csv", out=out, context=INLINE)
    assert told.unreadable == {}
    assert [row["id"] for row in table_of(out / "masks.csv")] == ["x", "y/z"]
    seen = answer(finished, scans, tmp_path / "b")
    for name, same in (("x", "b"), ("y%2Fz", "d")):
        picture = cv2.imread(str(out / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(picture, seen[same])


def test_a_study_answers_when_its_masks_and_slices_lie_in_an_archive(
    scans: dict, tmp_path: Path
) -> None:
    of = copied(scans, tmp_path / "of")
    study = make(tmp_path / "s", of, members="floor")
    stages.run(study, INLINE)
    (tmp_path / "of").rename(tmp_path / "archive")
    masks = answer(study, {"table": tmp_path / "archive" / Path(of["table"]).name}, tmp_path / "a")
    assert any(mask.any() for mask in masks.values())
    shutil.rmtree(study.combine_folder)
    with pytest.raises(
        TargetError, match=r"masks or regions are missing.*cure: put them back"
    ) as error:
        stages.combine(study, INLINE)
    gone = {str(tmp_path / f"of/{name}-mask.png") for name in "abcd"}
    assert gone <= set(error.value.culprits)
    shutil.rmtree(study.job_folder("floor", 0))
    with pytest.raises(TargetError, match="masks or regions are missing"):
        stages.train(study, context=INLINE)


def test_volumes_that_were_moved_are_not_learned_again(scans: dict, tmp_path: Path) -> None:
    of = copied(scans, tmp_path / "of")
    study = make(tmp_path / "s", of, members="floor")
    stages.run(study, INLINE)
    (tmp_path / "of").rename(tmp_path / "elsewhere")
    table = tmp_path / "elsewhere" / Path(of["table"]).name
    there = {**of, "table": table, "replace_old": True}
    heard: list[str] = []
    make(tmp_path / "s", there, members="floor")
    stages.run(study, replace(INLINE, say=heard.append))
    assert not [line for line in heard if "again" in line]
    assert str(tmp_path / "elsewhere") in study.manifest_file.read_text()
    path = str(tmp_path / "elsewhere/b-mask.png")
    cv2.imwrite(path, 255 - cv2.imread(path, cv2.IMREAD_UNCHANGED))
    make(tmp_path / "s", there, members="floor")
    stages.run(study, replace(INLINE, say=heard.append))
    assert [line for line in heard if "again" in line and "floor" in line]


def test_a_mask_that_was_edited_after_init_is_neither_learned_nor_judged_by(
    scans: dict, tmp_path: Path
) -> None:
    of = copied(scans, tmp_path / "of")
    study = make(tmp_path / "s", of, members="floor")
    path = str(tmp_path / "of/b-mask.png")
    drawn = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    cv2.imwrite(path, 255 - drawn)
    with pytest.raises(TargetError, match=r"1 masks.* are not what init read") as error:
        stages.run(study, INLINE)
    assert error.value.culprits == (path,)
    cv2.imwrite(path, drawn)
    stages.run(study, INLINE)


def test_a_zarr_is_answered_as_its_slices_are(finished: Study, scans: dict, tmp_path: Path) -> None:
    wanted = answer(finished, scans, tmp_path / "a")
    of = copied(scans, tmp_path / "new")
    for name in "ab":
        as_zarr(tmp_path / "new" / name)
    for name, mask in answer(finished, of, tmp_path / "b").items():
        np.testing.assert_array_equal(mask, wanted[name])


def test_a_study_may_hold_a_zarr(scans: dict, tmp_path: Path) -> None:
    of = copied(scans, tmp_path / "new")
    as_zarr(tmp_path / "new/a")
    study = make(tmp_path / "s", of, members="floor")
    stages.split(study, INLINE)
    manifest, before = study.manifest(), load(source_of(scans))
    whole = scanned(before)
    assert manifest.measured["sha256"].tolist() == [volume.sha256 for volume in whole]
    assert manifest.measured["depth"].tolist() == [str(depth) for depth in DEPTHS]
    stages.run(study, INLINE)
    assert answer(study, of, tmp_path / "a")["a"].any()


def test_outside_its_region_a_volume_scores_nothing(
    finished: Study, scans: dict, tmp_path: Path
) -> None:
    answer(finished, scans, tmp_path / "a", scores=True)
    folder = Path(scans["table"]).parent
    region = cv2.imread(str(folder / "a-region.png"), cv2.IMREAD_UNCHANGED) > 0
    score = cv2.imread(str(tmp_path / "a/probability/a.png"), cv2.IMREAD_UNCHANGED)
    far = cv2.erode((~region).astype(np.uint8), np.ones((17, 17))) > 0
    assert far.any()
    assert not score[far].any()
    assert score[region].any()


def test_outside_its_region_nothing_is_marked(finished: Study, scans: dict, tmp_path: Path) -> None:
    folder = Path(scans["table"]).parent
    region = cv2.imread(str(folder / "a-region.png"), cv2.IMREAD_UNCHANGED) > 0
    for row in ("floor", "network", "mean of all"):
        mask = answer(finished, scans, tmp_path / row, answer=row)["a"]
        assert not mask[~region].any()


def test_out_of_fold_pixels_are_those_of_the_score(finished: Study, scans: dict) -> None:
    rows = table_of(finished.combine_folder / "oof.csv")
    assert [row["id"] for row in rows] == ["a", "b", "c", "d"]
    folder = Path(scans["table"]).parent
    for row, (height, width) in zip(rows, SIZES, strict=True):
        mask = cv2.imread(str(folder / f"{row['id']}-mask.png"), cv2.IMREAD_UNCHANGED) > 0
        if row["id"] == "a":
            mask &= cv2.imread(str(folder / "a-region.png"), cv2.IMREAD_UNCHANGED) > 0
        assert float(row["true"]) == mask.sum()
        assert float(row["hit"]) <= min(float(row["given"]), float(row["true"]))
        assert float(row["given"]) <= height * width
    hit, given, true = (sum(float(row[k]) for row in rows) for k in ("hit", "given", "true"))
    board = table_of(finished.combine_folder / "leaderboard.csv")
    (chosen,) = [row for row in board if row["chosen"]]
    assert float(chosen["score"]) == pytest.approx(1.25 * hit / (0.25 * true + given), abs=1e-4)


def test_a_second_run_trains_nothing(finished: Study) -> None:
    heard: list[str] = []
    stages.run(finished, Context(slots=(), progress=lambda what, *_: heard.append(what)))
    assert "training" not in heard


def deepen(folder: Path) -> None:
    """The same slices as a camera of 12 bits writes them."""
    for file in folder.iterdir():
        plane = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(file), plane.astype(np.uint16) * 16)


HARMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "another depth": (lambda f: deepen(f / "a"), "16 bit, where the study has 8"),
    "slice": (lambda f: (f / "a/1.png").write_bytes((f / "a/1.png").read_bytes()[:90]), "1.png"),
    "folder": (lambda f: shutil.rmtree(f / "a"), "no such file"),
    "region": (lambda f: (f / "a-region.png").write_bytes(b"no picture"), "a-region.png"),
    "size": (lambda f: shutil.copy(f / "c-mask.png", f / "a-region.png"), "60 x 90"),
    "zarr, a chunk": (
        lambda f: (as_zarr(f / "a"), (f / "a/full/c/0/1/1").write_bytes(b"no chunk")),
        "a chunk does not decode",
    ),
    "zarr, metadata": (
        lambda f: (as_zarr(f / "a"), (f / "a/full/zarr.json").unlink()),
        "lead to no array",
    ),
}


@pytest.mark.parametrize("harm", HARMS)
def test_an_unreadable_volume_gets_an_empty_mask_and_is_named(
    finished: Study, scans: dict, tmp_path: Path, harm: str
) -> None:
    harmed = copied(scans, tmp_path / "new")
    act, words = HARMS[harm]
    act(tmp_path / "new")
    for row in ("floor", "network", "mean of all"):
        out = tmp_path / row
        told = stages.predict(
            finished, table=harmed["table"], out=out, answer=row, scores=True, context=INLINE
        )
        assert list(told.unreadable) == ["a"]
        assert words in told.unreadable["a"]
        rows = table_of(out / "masks.csv")
        assert [line["id"] for line in rows] == ["a", "b", "c", "d"]
        assert rows[0]["rle"] == ""
        assert not cv2.imread(str(out / "a.png"), cv2.IMREAD_UNCHANGED).any()
        found = any(line["rle"] for line in rows[1:])
        assert found or row == "network"  # which has learned nothing in two steps


# --- too few volumes ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("few")
    return draw_scans(folder, sizes=[(64, 96), (60, 90)], depths=(3, 2), seed=5)


def test_too_few_volumes_are_cut_and_the_answer_holds_whole_ones(few: dict, tmp_path: Path) -> None:
    heard: list[str] = []
    context = Context(slots=(), say=heard.append)
    study = make(tmp_path / "s", few, context, folds=3, guard=4)
    stages.run(study, context)
    assert sum("2 volumes for 3 folds: each is cut" in line for line in heard) == 1
    rows = table_of(study.combine_folder / "oof.csv")
    assert [row["id"] for row in rows] == [f"{name}/{k}" for name in "ab" for k in range(3)]
    assert [row["fold"] for row in rows] == ["0", "1", "2"] * 2
    masks = answer(study, few, tmp_path / "a")
    assert {name: mask.shape for name, mask in masks.items()} == {"a": (64, 96), "b": (60, 90)}


def test_few_whole_volumes_still_have_intervals_which_draw_blocks(
    few: dict, tmp_path: Path
) -> None:
    study = make(tmp_path / "s", few, folds=2, members="floor")
    stages.run(study, INLINE)
    (row,) = table_of(study.combine_folder / "leaderboard.csv")
    assert float(row["low"]) <= float(row["score"]) <= float(row["high"])


@pytest.mark.parametrize("members", ["floor", "network"])
def test_a_guard_that_leaves_nothing_to_learn_is_said_before_anything_is_trained(
    few: dict, tmp_path: Path, members: str
) -> None:
    with pytest.raises((UsageError, SplitError), match="guard"):
        stages.run(make(tmp_path / "s", few, folds=3, guard=64, members=members), INLINE)


def test_volumes_too_narrow_to_be_cut_are_refused(few: dict, tmp_path: Path) -> None:
    with pytest.raises(SplitError, match="cannot be cut into 40 parts"):
        make(tmp_path / "s", few, folds=40)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("members", ["floor", "network"])
def test_a_volume_without_foreground_does_no_harm(
    scans: dict, tmp_path: Path, members: str
) -> None:
    of = copied(scans, tmp_path / "new")
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"new/{name}-mask.png"), np.zeros((64, 96), np.uint8))
    lines = Path(of["table"]).read_text().splitlines()
    folds = ["fold", "0", "0", "1", "2"]
    table = tmp_path / "new/folds.csv"
    table.write_text("\n".join(map(",".join, zip(lines, folds, strict=True))) + "\n")
    study = make(tmp_path / "s", {**of, "table": table, "columns": {"fold": "fold"}},
                 members=members)  # fmt: skip
    stages.run(study, INLINE)
    rows = table_of(study.combine_folder / "oof.csv")
    assert [row["true"] for row in rows[:2]] == ["0", "0"]


def test_volumes_that_say_their_group_are_never_cut(scans: dict, tmp_path: Path) -> None:
    lines = Path(scans["table"]).read_text().splitlines()
    named = ["who", "x", "x", "y", "y"]
    table = Path(scans["table"]).with_name("grouped.csv")
    table.write_text("\n".join(map(",".join, zip(lines, named, strict=True))) + "\n")
    of = {**scans, "table": table, "columns": {"group": "who"}}
    study = make(tmp_path / "s", of, folds=3)
    stages.split(study, INLINE)
    made = split_of(open_study(study))
    assert made.window is None
    assert made.fold.tolist() in ([0, 0, 1, 1], [1, 1, 0, 0])


# --- what is refused ------------------------------------------------------------------------------


def test_a_family_of_path_columns_takes_a_pattern_and_one_of_patterns_needs_it(
    scans: dict, eyes: dict, tmp_path: Path
) -> None:
    of = copied(scans, tmp_path / "new")
    table = Path(of["table"])
    plain = make(tmp_path / "plain", of)
    table.write_text(table.read_text().replace("slices", "scan"))
    with pytest.raises(ManifestError, match=r"or --images says where.*no column \"slices\""):
        make(tmp_path / "s", of)
    study = make(tmp_path / "named", {**of, "images": "{scan}"})
    assert study.manifest().paths == plain.manifest().paths
    assert (
        study.manifest().measured["sha256"].tolist() == plain.manifest().measured["sha256"].tolist()
    )
    without = {k: v for k, v in eyes.items() if k != "images"}
    with pytest.raises(UsageError, match="needs --images"):
        stages.init(tmp_path / "s", recipe="grade:small", options=FAST, context=INLINE, **without)
    assert not (tmp_path / "s").exists()


def test_answers_for_path_columns_take_no_pattern_either(
    finished: Study, scans: dict, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="--images"):
        answer(finished, scans, tmp_path / "a", images="{mask}")
    assert not (tmp_path / "a").exists()


FAULTS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "a mask of another size": (
        lambda f: shutil.copy(f / "c-mask.png", f / "b-mask.png"),
        ["b-mask.png", "60 x 90", "64 x 96", '"b"'],
    ),
    "a region of another size": (
        lambda f: shutil.copy(f / "c-mask.png", f / "a-region.png"),
        ["a-region.png", "60 x 90", "64 x 96", '"a"'],
    ),
    "no mask": (lambda f: (f / "d-mask.png").unlink(), ["d-mask.png", '"d"']),
    "a broken mask": (lambda f: (f / "d-mask.png").write_bytes(b"x"), ["d-mask.png", '"d"']),
    "no slices": (lambda f: shutil.rmtree(f / "b"), ["/b", "no such file", '"b"']),
    "an empty folder": (
        lambda f: [p.unlink() for p in (f / "b").iterdir()],
        ["/b", "holds no slices", '"b"'],
    ),
    "a slice of another shape": (
        lambda f: shutil.copy(f / "c/0.png", f / "b/2.png"),
        ["b/2.png", "60 x 90", "64 x 96", '"b"'],
    ),
    "a slice that does not decode": (
        lambda f: (f / "b/2.png").write_bytes((f / "b/2.png").read_bytes()[:90]),
        ["b/2.png", '"b"'],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_refused_with_its_file_and_nothing_is_left(
    scans: dict, tmp_path: Path, fault: str
) -> None:
    of = copied(scans, tmp_path / "new")
    harm, words = FAULTS[fault]
    harm(tmp_path / "new")
    with pytest.raises(DataError) as error:
        make(tmp_path / "deep" / "s", of)
    assert error.value.exit_code == 3
    (culprit,) = error.value.culprits
    for word in words:
        assert word in culprit
    assert [p.name for p in tmp_path.iterdir()] == ["new"]


def test_empty_masks_teach_nothing(scans: dict, tmp_path: Path) -> None:
    of = copied(scans, tmp_path / "new")
    for name, size in zip("abcd", SIZES, strict=True):
        cv2.imwrite(str(tmp_path / f"new/{name}-mask.png"), np.zeros(size, np.uint8))
    with pytest.raises(TargetError, match="all masks are empty"):
        make(tmp_path / "s", of)
    assert not (tmp_path / "s").exists()


def test_regions_that_hide_all_masks_are_named(scans: dict, tmp_path: Path) -> None:
    of = copied(scans, tmp_path / "new")
    region = tmp_path / "new/a-region.png"
    cv2.imwrite(str(region), np.zeros(SIZES[0], np.uint8))
    for name, size in zip("bcd", SIZES[1:], strict=True):
        cv2.imwrite(str(tmp_path / f"new/{name}-mask.png"), np.zeros(size, np.uint8))
    with pytest.raises(TargetError, match=r"inside its region.*; cure: regions") as error:
        make(tmp_path / "s", of)
    (culprit,) = error.value.culprits
    assert str(region) in culprit
    assert '"a"' in culprit


def test_an_empty_cell_is_named_but_for_a_region(scans: dict, tmp_path: Path) -> None:
    of = copied(scans, tmp_path / "new")
    text = Path(of["table"]).read_text()
    Path(of["table"]).write_text(text.replace("c,c,c-mask.png", "c,c,"))
    with pytest.raises(DataError) as error:
        make(tmp_path / "s", of)
    assert error.value.culprits == ("row 3: the cell is empty",)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lattice": 3}, "lattice"),
        ({"lattice": 64}, "lattice"),
        ({"size": 16}, "size"),
        ({"folds": 1}, "folds"),
        ({"decide": "shares"}, "decide"),
        ({"weighting": "hahn"}, "weighting"),
        ({"stride": 0.0}, "stride"),
        ({"guard": -1}, "guard"),
        ({"beta": 0.0}, "beta"),
        ({"shuffle": 1.5}, "shuffle"),
        ({"members": "networks"}, "networks"),
        ({"crop": 3}, 'did you mean "crops"'),
        ({"backbone": "resnet1o"}, "did you mean"),
    ],
)
def test_a_wrong_option_is_named(scans: dict, tmp_path: Path, options: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make(tmp_path / "s", scans, **options)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("size", "lattice"), [(32, 1), (64, 32), (96, 8), (33, 2), (50, 4), (50, 8), (100, 16)]
)
def test_a_crop_is_of_whole_cells_or_refused(scans: dict, size: int, lattice: int) -> None:
    made = made_of("small", scans, size=size, lattice=lattice)
    (network,) = [m for m in made.members if m.name == "network"]
    if any(side % lattice for side in network.training.size):
        with pytest.raises(UsageError, match="size="):
            network.check()
        return
    network.check()
    assert network.training.size == (network.windows.tile * lattice,) * 2


@pytest.mark.parametrize(
    ("depth", "lattice", "epochs"), [(1, 4, 84), (1, 2, 67), (1, 1, 67), (9, 4, 28), (9, 2, 26)]
)
def test_epochs_follow_from_slices_and_cells(
    scans: dict, monkeypatch: pytest.MonkeyPatch, depth: int, lattice: int, epochs: int
) -> None:
    monkeypatch.setattr(segment, "LOOKS", 1e9)
    options = {"size": 256, "depth": depth, "group": 3, "crops": 100, "epochs": None}
    made = made_of("small", scans, lattice=lattice, **options)
    (network,) = [m for m in made.members if m.name == "network"]
    assert network.training.epochs == epochs


def test_small_volumes_get_small_crops_and_are_not_looked_at_forever(scans: dict) -> None:
    made = made_of("small", scans, size=None, epochs=None, crops=5, lattice=4)  # 64 x 96 pixels
    (network,) = [m for m in made.members if m.name == "network"]
    assert network.training.size == (96, 96)
    pixels = 3 * 64 * 96 + 60 * 90
    assert network.training.epochs == round(segment.LOOKS * pixels / (5 * 96**2))


# --- options --------------------------------------------------------------------------------------

NETWORKS = {"small": {"network"}, "vesuvius": {"test_resnet-5x7", "test_resnet-3x9"}}
MEMBERS = {"floor", "networks"}
EFFECTS = [
    *((option, value, {"networks"}) for option, value in {
        "size": 96, "weights": "imagenet", "epochs": 2, "crops": 12, "batch": 2, "group": 1,
        "optimiser": "sgd", "lr": 0.01, "warm_up": 0.5, "ema": 0.9, "clip": 0.5, "blocks": 2,
        "width": 12, "decoder_width": 8, "dropout": 0.6, "drop_path": 0.5, "smoothing": 0.3,
        "overlap": 0.5, "warp": 0.2, "rotate": 90.0, "elastic": 0.05, "foreground": 0.3,
        "cutmix": 0.7, "mixup": 0.7, "z_shift": 1, "shuffle": 0.7, "weighting": "inner",
        "stride": 0.75, "alternate": False, "precision": "bf16-mixed", "layout": "contiguous",
        "mode": "windows", "block": 256, "halo": 96, "phases": 1,
    }.items()),
    ("depth", 2, MEMBERS),
    ("guard", 8, MEMBERS),
    ("trees", 5, {"floor"}),
    ("position", True, {"floor"}),
    ("decide", "share", {"decisions"}),
    ("beta", 1.0, {"networks", "decisions"}),
    ("lattice", 16, {*MEMBERS, "split", "decisions"}),
    ("folds", 3, {*MEMBERS, "split"}),
    ("seed", 1, {*MEMBERS, "split"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "option", "value", "touched"), tried(segment, EFFECTS, NETWORKS)
)
def test_a_changed_option_redoes_what_depends_on_it(
    scans: dict, redone: Callable, recipe: str, option: str, value: object, touched: set
) -> None:
    assert redone(make, scans, recipe, **{option: value}) == touched


def test_another_backbone_is_another_training(scans: dict, redone: Callable) -> None:
    assert redone(make, scans, "small", backbone="resnet10t") == {"network"}
    made = made_of("vesuvius", scans, backbone="resnet10t,test_resnet")
    assert [m.name for m in made.members] == [
        "floor", "resnet10t-5x7", "resnet10t-3x9", "test_resnet-5x7", "test_resnet-3x9"
    ]  # fmt: skip


def test_every_option_has_its_effect_tested() -> None:
    assert untried(segment, EFFECTS) == {name: {"members", "backbone"} for name in RECIPES}


@pytest.mark.parametrize("file", ["a-mask.png", "a-region.png", "a/2.png"])
def test_what_lies_in_a_file_redoes_what_depends_on_it(
    scans: dict, tmp_path: Path, file: str
) -> None:
    of = copied(scans, tmp_path / "new")
    before = digests(make(tmp_path / "s", of))
    picture = cv2.imread(str(tmp_path / "new" / file), cv2.IMREAD_UNCHANGED)
    picture[20:40, 20:40] = 255 - picture[20:40, 20:40]
    cv2.imwrite(str(tmp_path / "new" / file), picture)
    after = digests(make(tmp_path / "t", of))
    assert {k for k in before if before[k] != after[k]} >= {"floor", "network"}


# --- pictures in colour ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Arguments of `init` for pictures whose masks only their colour tells."""
    folder, rng = tmp_path_factory.mktemp("coloured"), np.random.default_rng(0)
    lines = ["id,slices,mask"]
    for name in "abcdef":
        mask = np.zeros((64, 64), np.uint8)
        cv2.circle(mask, tuple(rng.integers(16, 48, 2).tolist()), 12, 255, -1)
        picture = rng.integers(60, 120, (64, 64, 3)).astype(np.uint8)
        picture[:, :, 2] += mask // 3
        picture[:, :, 0] -= mask // 5
        cv2.imwrite(str(folder / f"{name}.png"), picture)
        cv2.imwrite(str(folder / f"{name}-mask.png"), mask)
        lines.append(f"{name},{name}.png,{name}-mask.png")
    (folder / "pictures.csv").write_text("\n".join(lines) + "\n")
    return {"table": str(folder / "pictures.csv"), "target": "mask"}


def told_of(folder: Path, of: dict, **options: object) -> list[str]:
    """What `init` warns of."""
    told: list[str] = []
    context = replace(INLINE, warn=lambda words, _: told.append(words))
    make(folder, of, context, **{"lattice": None, **options})
    return told


@pytest.mark.parametrize("members", ["floor", "network"])
def test_pictures_in_colour_take_the_whole_trip(
    coloured: dict, tmp_path: Path, members: str
) -> None:
    study = make(tmp_path / "s", coloured, members=members, depth=None, group=3)
    assert study.settings().facts.depth == 3
    stages.run(study, INLINE)
    assert study.report_file.is_file()
    masks = answer(study, coloured, tmp_path / "a")
    assert {mask.shape for mask in masks.values()} == {(64, 64)}


def test_pictures_in_colour_are_told_of_once_and_grey_ones_take_no_colour_away(
    coloured: dict, tmp_path: Path
) -> None:
    words = "6 of 6 volumes are a picture in colour, which is three slices: red, green and blue"
    assert told_of(tmp_path / "all", coloured, depth=None) == [words]
    of = copied(coloured, tmp_path / "new")
    grey = cv2.imread(str(tmp_path / "new/b.png"), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(tmp_path / "new/b.png"), grey)
    assert told_of(tmp_path / "most", of, depth=None) == [words.replace("6 of", "5 of")]
    assert Study(tmp_path / "most").settings().facts.depth == 3


# --- facts ----------------------------------------------------------------------------------------


def test_the_facts_are_those_of_the_volumes(scans: dict) -> None:
    manifest = load(source_of(scans))
    measured, facts = segment.FAMILY.facts(manifest, scanned(manifest))
    assert (facts.cases, facts.height, facts.width, facts.bits) == (4, 64, 96, 8)
    assert facts.depth == min(DEPTHS)
    assert facts.sizes == {"64x96": 3, "60x90": 1}
    assert measured.measured["depth"].tolist() == [str(d) for d in DEPTHS]
    assert len(set(measured.measured["physical"].tolist())) == 4
    folder = Path(scans["table"]).parent
    masks = [cv2.imread(str(folder / f"{name}-mask.png"), -1) > 0 for name in "abcd"]
    region = cv2.imread(str(folder / "a-region.png"), -1) > 0
    shares = [masks[0][region].mean(), *(m.mean() for m in masks[1:])]
    assert facts.target["share"] == pytest.approx(np.mean(shares), abs=1e-6)
    assert facts.target["lattice"] == 1
    pixels = [cv2.imread(str(folder / f"{n}/{z}.png"), -1) / 255
              for n, d in zip("abcd", DEPTHS, strict=True) for z in range(d)]  # fmt: skip
    per_volume = np.split(
        np.array([[p.mean(), (p**2).mean()] for p in pixels]), np.cumsum(DEPTHS)[:-1]
    )
    mean, square = np.mean([v.mean(axis=0) for v in per_volume], axis=0)
    assert facts.mean[0] == pytest.approx(mean, abs=1e-4)
    assert facts.std[0] == pytest.approx(np.sqrt(square - mean**2), abs=1e-4)


def test_the_depth_is_that_of_the_shallowest_volume_up_to_sixteen(scans: dict) -> None:
    manifest = load(source_of(scans))
    _, facts = segment.FAMILY.facts(manifest, scanned(manifest))
    for depth, wanted in ((1, (1, 1)), (2, (1, 2)), (3, (1, 3)), (10, (3, 3)), (65, (5, 3))):
        made = segment.small(replace(facts, depth=depth))
        (network,) = [m for m in made.members if m.name == "network"]
        assert (network.network.groups, network.network.channels) == wanted
        assert made.members[0].slices == network.network.slices


def test_a_shallow_volume_that_takes_slices_from_all_is_told_of(
    scans: dict, tmp_path: Path
) -> None:
    (told,) = told_of(tmp_path / "s", scans, depth=None, group=3)
    assert told == (
        'members look at 1 of the slices, because volume "d" has only 1; others have up to 5; '
        "cure: depth=3 (shallower volumes are padded)"
    )
    assert told_of(tmp_path / "given", scans, depth=3, group=3) == []


def test_cells_that_are_coarser_than_the_masks_are_told_of(scans: dict, tmp_path: Path) -> None:
    (told,) = told_of(tmp_path / "s", scans, lattice=16)
    assert told == "the masks are finer than cells of lattice=16; cure: lattice=1"
    assert told_of(tmp_path / "given", scans, lattice=1) == []


def test_nothing_is_told_of_depths_that_change_nothing(tmp_path: Path) -> None:
    of = draw_scans(tmp_path / "new", sizes=[(64, 96)] * 3, depths=(4, 3, 5), region=None)
    assert told_of(tmp_path / "s", of, depth=None, group=3) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"depth": 65, "group": 5}, 'option depth="65": .*less than or equal to 64'),
        ({"depth": 64, "group": 3}, r"depth=64 is not of whole groups of 3.*: depth=63, or"),
        ({"depth": 10, "group": 4}, r"depth=10 .*: depth=8 or depth=12, or another group="),
    ],
)
def test_a_depth_that_would_be_cut_is_refused(
    scans: dict, tmp_path: Path, options: dict, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        make(tmp_path / "s", scans, **options)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("depth", "group", "shape"),
    [(64, 4, (16, 4)), (63, 3, (21, 3)), (2, 3, (1, 2)), (1, 1, (1, 1))],
)
def test_a_depth_is_taken_as_it_is_given(
    scans: dict, depth: int, group: int, shape: tuple[int, int]
) -> None:
    made = made_of("small", scans, depth=depth, group=group)
    (network,) = [m for m in made.members if m.name == "network"]
    assert (network.network.groups, network.network.channels) == shape
    assert made.members[0].slices == depth


@pytest.mark.parametrize(("options", "cure"), [({"block": 40, "halo": 16}, "block=160")])
def test_large_crops_that_cannot_be_are_refused(
    scans: dict, tmp_path: Path, options: dict, cure: str
) -> None:
    with pytest.raises(UsageError, match=f"cure: {cure}"):
        make(tmp_path / "s", scans, **options)


@pytest.mark.parametrize(
    ("width", "cheap", "lattice"),
    [(4, 0, 1), (10, 0, 2), (26, 0, 4), (26, 5900, 4), (26, 6000, 2), (26, 30_000, 1)],
)
def test_cells_are_as_fine_as_the_masks_need_or_finer_where_that_is_cheap(
    scans: dict,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    width: int,
    cheap: int,
    lattice: int,
) -> None:
    monkeypatch.setattr("foveal.scan.FEW_CELLS", cheap)
    of = copied(scans, tmp_path / "thin")
    for name, size in zip("abcd", SIZES, strict=True):
        stripes = (np.add.outer(np.arange(size[0]), np.arange(size[1])) + 1) // width % 3 == 0
        cv2.imwrite(str(tmp_path / f"thin/{name}-mask.png"), stripes * np.uint8(255))
    recipe = made_of("small", of, lattice=None)
    assert recipe.target.lattice == recipe.answer.lattice == lattice
    assert {m.name: getattr(m, "lattice", None) for m in recipe.members}["floor"] == lattice


def test_volumes_that_share_a_file_are_one(scans: dict, tmp_path: Path) -> None:
    of = copied(scans, tmp_path / "new")
    folder = tmp_path / "new"
    for name, links in (("e", ["b/0.png"]), ("f", ["b/2.png", "d/0.png"])):
        (folder / name).mkdir()
        for k, link in enumerate(links):
            (folder / name / f"{k}.png").symlink_to(folder / link)
        with Path(of["table"]).open("a") as table:
            table.write(f"{name},{name},a-mask.png,\n")
    manifest = load(source_of(of))
    measured, _ = segment.FAMILY.facts(manifest, scanned(manifest))
    physical = measured.measured["physical"].tolist()
    assert physical[1] == physical[3] == physical[4] == physical[5]
    assert len(set(physical)) == 3
    made = make(tmp_path / "s", of, folds=3)
    stages.split(made, INLINE)
    fold = split_of(open_study(made)).fold.tolist()
    assert fold[1] == fold[3] == fold[4] == fold[5]


def test_an_image_that_two_rows_name_is_one_volume(scans: dict, tmp_path: Path) -> None:
    of = copied(scans, tmp_path / "new")
    as_zarr(tmp_path / "new/b")
    (tmp_path / "new/link").symlink_to(tmp_path / "new/b")
    with Path(of["table"]).open("a") as table:
        table.write("e,link,b-mask.png,\nf,b/full,b-mask.png,\n")
    manifest = load(source_of(of))
    measured, _ = segment.FAMILY.facts(manifest, scanned(manifest))
    physical = measured.measured["physical"].tolist()
    assert physical[1] == physical[4] == physical[5]
    assert len(set(physical)) == 4


def test_equal_volumes_with_other_masks_are_told_of(inked: Opened) -> None:
    manifest = inked.manifest
    assert segment.suspicions(manifest) == []
    same = {**manifest.measured, "sha256": np.full(len(manifest), "one")}
    (said,) = segment.suspicions(replace(manifest, measured=same))
    assert manifest.ids[0] in said


def test_slices_that_seem_to_be_missing_are_told_of(scans: dict, tmp_path: Path) -> None:
    of = copied(scans, tmp_path / "new")
    first, *_ = sorted((tmp_path / "new/a").glob("*"))
    names = [first.with_name(f"z{k}{first.suffix}") for k in (0, 1, 2, 4, 5, 6)]
    for path in names:
        path.write_bytes(first.read_bytes())
    for path in (tmp_path / "new/a").iterdir():
        if path not in names:
            path.unlink()
    manifest = load(source_of(of))
    measured, _ = segment.FAMILY.facts(manifest, scanned(manifest))
    (said,) = [s for s in segment.suspicions(measured) if "slices" in s]
    assert "1 volumes (a: z2" in said
    assert "is followed by z4" in said


def test_masks_that_mark_most_of_their_volume_are_told_of(inked: Opened) -> None:
    manifest = inked.manifest
    shares = np.full(len(manifest), "0.20000")
    shares[1] = "0.90000"
    (said,) = segment.suspicions(
        replace(manifest, measured={**manifest.measured, "marked": shares})
    )
    assert said.startswith(f"1 masks mark more than half of their volumes: {manifest.ids[1]};")
    of_old = {name: of for name, of in manifest.measured.items() if name != "marked"}
    assert segment.suspicions(replace(manifest, measured=of_old)) == []
    assert all(0 < float(share) < 0.5 for share in manifest.measured["marked"])
