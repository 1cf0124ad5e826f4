"""`multilabel` takes the whole trip, leaves no trace where it refuses, and redoes what changed."""

import csv
import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from safetensors import safe_open

from conftest import CELLS, INLINE, answer, small_study, table_of
from effects import tried, untried
from foveal import stages
from foveal.errors import DataError, Stopped, TargetError, UsageError
from foveal.members.training import SNAPSHOT
from foveal.recipes import multilabel
from foveal.simulate.cells import CHANNELS
from foveal.stages.open import open_study
from foveal.stages.split import open_split
from foveal.study import Study
from foveal.task import Context

RECIPES = {
    "small": CELLS,
    "hpa": {
        **{name: value for name, value in CELLS.items() if name not in ("trees", "words")},
        "weights": "none",
        "optimiser": "adamw",
        "near_duplicates": False,
        "at_least_one": False,
    },
}
"""Options that make a recipe take seconds a training."""

make = partial(small_study, "multilabel", RECIPES)


def run(folder: Path, of: dict, **options: object) -> Study:
    study = make(folder, of, **options)
    stages.run(study, INLINE)
    return study


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, cells: dict) -> Study:
    return run(tmp_path_factory.mktemp("multilabel") / "study", cells)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory, cells: dict) -> Study:
    """With a network alone, which needs no features."""
    return run(tmp_path_factory.mktemp("quick") / "study", cells, members="soft_f1")


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def few(of: dict, path: Path, count: int = 2) -> Path:
    """A table of the first cases, and of nothing but their ids."""
    return write(path, [{"id": row["id"]} for row in table_of(Path(of["table"]))[:count]])


def copied(of: dict, folder: Path) -> dict:
    """The same pictures, to be harmed."""
    shutil.copytree(Path(of["table"]).parent, folder)
    table, images = (folder / Path(str(of[key])).name for key in ("table", "images"))
    return {**of, "table": table, "images": str(folder / "images" / images.name)}


def names_of(of: dict) -> list[str]:
    """All labels of a table of words, as a study sorts them."""
    return sorted({word for row in table_of(Path(of["table"])) for word in row["places"].split()})


def as_columns(of: dict, path: Path, **more: str) -> dict:
    """The same pictures with a column of 0 and 1 a label, and others that are the same in all."""
    names = names_of(of)
    write(
        path,
        [
            {
                "id": row["id"],
                "sample": row["sample"],
                **{name: str(int(name in row["places"].split())) for name in names},
                **more,
            }
            for row in table_of(Path(of["table"]))
        ],
    )
    return {**of, "table": path, "target": ",".join([*names, *more])}


# --- the trip -------------------------------------------------------------------------------------


def test_the_trip_ends_with_a_report_a_leaderboard_and_answers_in_words(
    finished: Study, cells: dict, tmp_path: Path
) -> None:
    board = table_of(finished.combine_folder / "leaderboard.csv")
    members = {"floor", "patches", "entropy", "focal", "soft_f1"}
    assert members | {"mean of all"} <= {row["row"] for row in board}
    assert all(0 <= float(row["score"]) <= 1 for row in board)
    assert sum(row["chosen"] == "chosen" for row in board) == 1
    rows = answer(finished, cells, tmp_path / "a.csv", answer="soft_f1")
    assert [list(row) for row in rows] == [["id", "places"]] * 24
    assert [row["id"] for row in rows] == [row["id"] for row in table_of(Path(cells["table"]))]
    names = names_of(cells)
    for row in rows:
        told = row["places"].split(" ") if row["places"] else []
        assert told == [name for name in names if name in told]


def test_the_report_tells_of_every_label(finished: Study, cells: dict) -> None:
    page = finished.report_file.read_text()
    assert len(page) > 20_000
    _, _, section = page.partition("Labels</h2>")
    assert section
    assert "average precision" in section
    for name in names_of(cells):
        assert f"<td>{name}</td>" in section


def test_out_of_fold_every_case_has_its_labels_and_a_score_of_each(
    finished: Study, cells: dict
) -> None:
    rows = table_of(finished.combine_folder / "oof.csv")
    table, names = table_of(Path(cells["table"])), names_of(cells)
    assert [row["id"] for row in rows] == [row["id"] for row in table]
    for row, asked in zip(rows, table, strict=True):
        assert set(row["truth"].split()) == set(asked["places"].split())
        assert set(row["label"].split()) <= set(names)
        assert all(0 <= float(row[f"score:{name}"]) <= 1 for name in names)


def test_every_row_of_the_leaderboard_can_answer(
    finished: Study, cells: dict, tmp_path: Path
) -> None:
    names = [row["row"] for row in table_of(finished.combine_folder / "leaderboard.csv")]
    asked = {"table": few(cells, tmp_path / "few.csv"), "scores": True}
    answers = [answer(finished, cells, tmp_path / "b.csv", answer=n, **asked) for n in names]
    assert {len(rows) for rows in answers} == {2}
    assert len({json.dumps(rows) for rows in answers}) == len(names)
    for rows in answers:
        shares = [float(row[f"{name}_p"]) for row in rows for name in names_of(cells)]
        assert all(0 <= share <= 1 for share in shares)


def test_a_second_run_trains_nothing(finished: Study) -> None:
    heard: list[str] = []
    stages.run(finished, Context(slots=(), progress=lambda what, *_: heard.append(what)))
    assert "training" not in heard


def test_hpa_takes_the_whole_trip_with_four_snapshots_and_a_mixture(
    cells: dict, tmp_path: Path
) -> None:
    options = {"epochs": 4, "cycles": 4, "snapshots": 4, "at_least_one": True}
    study = run(tmp_path / "s", cells, recipe="hpa", members="focal", **options)
    rows = answer(study, cells, tmp_path / "a.csv", scores=True)
    assert all(row["places"] for row in rows)
    state = study.job_folder("focal", 0) / "state.safetensors"
    with safe_open(state, framework="np") as file:
        back = {name.partition(SNAPSHOT)[0] for name in file.keys() if SNAPSHOT in name}  # noqa: SIM118  it is no dict
    assert back == {"1", "2", "3"}


# --- columns of 0 and 1 ---------------------------------------------------------------------------


def test_columns_of_0_and_1_are_answered_as_words_are_but_in_their_own_form(
    quick: Study, cells: dict, tmp_path: Path
) -> None:
    of, names = as_columns(cells, tmp_path / "t.csv"), names_of(cells)
    study = run(tmp_path / "s", of, members="soft_f1")
    words = answer(quick, cells, tmp_path / "w.csv", scores=True)
    flags = answer(study, of, tmp_path / "f.csv", scores=True)
    assert list(words[0]) == ["id", "places", *(f"{name}_p" for name in names)]
    assert list(flags[0]) == ["id", *names, *(f"{name}_p" for name in names)]
    for told, marked in zip(words, flags, strict=True):
        own = told.pop("places").split()
        assert {name: marked.pop(name) for name in names} == {
            name: str(int(name in own)) for name in names
        }
        assert told == marked
        assert all(0 <= float(told[f"{name}_p"]) <= 1 for name in names)
    assert list(answer(study, of, tmp_path / "n.csv")[0]) == ["id", *names]


def test_columns_keep_their_own_order(cells: dict, tmp_path: Path) -> None:
    of = as_columns(cells, tmp_path / "t.csv")
    turned = ["vesicles", "cytosol", "nucleoli"]
    study = run(tmp_path / "s", {**of, "target": ",".join(turned)}, members="soft_f1")
    (first, *_) = answer(study, of, tmp_path / "a.csv", scores=True)
    assert list(first) == ["id", *turned, *(f"{name}_p" for name in turned)]


def test_one_column_of_0_and_1_is_one_label(cells: dict, tmp_path: Path) -> None:
    of = {**as_columns(cells, tmp_path / "t.csv"), "target": "cytosol"}
    study = run(tmp_path / "s", of, members="soft_f1")
    rows = answer(study, of, tmp_path / "a.csv", scores=True)
    assert list(rows[0]) == ["id", "cytosol", "cytosol_p"]
    assert {row["cytosol"] for row in rows} <= {"0", "1"}


def test_a_label_that_nobody_has_and_one_that_all_have_are_told_of_and_do_no_harm(
    cells: dict, tmp_path: Path
) -> None:
    of = as_columns(cells, tmp_path / "t.csv", nobody="0", everybody="1")
    heard: list[str] = []
    context = Context(slots=(), warn=lambda line, _: heard.append(line))
    options = {"cuts": "own", "members": "floor,soft_f1", "mixture": "1,1,1"}
    study = make(tmp_path / "s", of, context, **options)
    assert {"no case has label nobody", "every case has label everybody"} <= set(heard)
    assert any("fewer than 5 cases have label" in line and "golgi (2)" in line for line in heard)
    assert not any("label cytosol" in line for line in heard)
    assert any(line.startswith("batches change how often labels are seen") for line in heard)
    assert stages.run(study, INLINE).is_file()
    asked = {"table": few(cells, tmp_path / "few.csv"), "scores": True}
    for row in ("floor", "soft_f1"):
        for told in answer(study, of, tmp_path / "a.csv", answer=row, **asked):
            assert (told["nobody"], told["everybody"]) == ("0", "1")


def test_a_case_may_have_no_label(cells: dict, tmp_path: Path) -> None:
    rows = table_of(Path(cells["table"]))
    rows[4]["places"] = ""
    of = {**cells, "table": write(tmp_path / "t.csv", rows)}
    study = run(tmp_path / "s", of, members="soft_f1")
    assert table_of(study.combine_folder / "oof.csv")[4]["truth"] == ""


@pytest.mark.parametrize(("wanted", "fewest"), [(True, 1), (False, 0)])
def test_at_least_one_label_is_given_only_where_that_was_asked(
    cells: dict, tmp_path: Path, wanted: object, fewest: int
) -> None:
    rows = table_of(Path(cells["table"]))
    for row in rows:
        row["places"] = row["places"].replace("cytosol", "")
    of = {**cells, "table": write(tmp_path / "t.csv", rows)}
    options = {"members": "soft_f1", "cuts": "share", "at_least_one": wanted}
    study = run(tmp_path / "s", of, **options)
    counts = [len(row["places"].split()) for row in answer(study, of, tmp_path / "a.csv")]
    assert min(counts) == fewest


# --- files ----------------------------------------------------------------------------------------


def test_one_file_of_all_channels_is_answered_as_a_file_a_channel_is(
    quick: Study, cells: dict, tmp_path: Path
) -> None:
    folder = Path(cells["images"]).parent
    for row in table_of(Path(cells["table"])):
        planes = [cv2.imread(str(folder / f"{row['id']}_{name}.png"), -1) for name in CHANNELS]
        tifffile.imwrite(tmp_path / f"{row['id']}.tif", np.stack(planes), photometric="minisblack")
    of = {**cells, "images": str(tmp_path / "{id}.tif")}
    study = run(tmp_path / "s", of, channels="", members="soft_f1")
    manifest = study.manifest()
    assert {len(paths) for paths in manifest.paths} == {1}
    assert study.settings().facts == quick.settings().facts
    answer(quick, cells, tmp_path / "several.csv", scores=True)
    answer(study, of, tmp_path / "one.csv", scores=True)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "several.csv").read_bytes()


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_picture_of_other_channels_is_refused_and_named(
    cells: dict, tmp_path: Path, channels: int
) -> None:
    rng = np.random.default_rng(0)
    for k, row in enumerate(table_of(Path(cells["table"]))):
        pixels = rng.integers(0, 255, (channels if k == 6 else 4, 40, 40), dtype=np.uint8)
        tifffile.imwrite(tmp_path / f"{row['id']}.tif", pixels, photometric="minisblack")
    with pytest.raises(DataError) as error:
        make(tmp_path / "s", {**cells, "images": str(tmp_path / "{id}.tif")}, channels="")
    (culprit,) = error.value.culprits
    assert "c0006" in culprit
    assert not (tmp_path / "s").exists()


HARMS: dict[str, Callable[[Path], object]] = {
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:200]),
    "missing": lambda file: file.unlink(),
    "no picture": lambda file: file.write_bytes(b"no picture"),
    "of another size": lambda file: cv2.imwrite(str(file), np.zeros((20, 20), np.uint8)),
}


@pytest.fixture(scope="module")
def harmed(tmp_path_factory: pytest.TempPathFactory, cells: dict) -> dict:
    """Pictures of which one channel is broken, each in another way, and a table of them."""
    folder = tmp_path_factory.mktemp("harmed")
    of = copied(cells, folder / "new")
    for k, harm in enumerate(HARMS.values()):
        harm(folder / f"new/images/c000{k + 1}_{CHANNELS[k]}.png")
    return {**of, "table": few(cells, folder / "few.csv", count=len(HARMS) + 2)}


@pytest.mark.parametrize("row", ["floor", "patches", "soft_f1"])
def test_a_broken_channel_at_predict_gets_the_prior_answer_and_is_named(
    finished: Study, cells: dict, harmed: dict, tmp_path: Path, row: str
) -> None:
    asked = {k: harmed[k] for k in ("table", "images")}
    done = stages.predict(
        finished, out=tmp_path / "a.csv", answer=row, scores=True, context=INLINE, **asked
    )
    assert list(done.unreadable) == [f"c000{k + 1}" for k in range(len(HARMS))]
    for k, why in enumerate(done.unreadable.values()):
        assert f"c000{k + 1}_{CHANNELS[k]}.png" in why
    prior = json.loads((finished.combine_folder / "answers.json").read_text())["prior"]
    names, rows = names_of(cells), table_of(tmp_path / "a.csv")
    assert [r["id"] for r in rows] == [f"c000{k}" for k in range(len(HARMS) + 2)]
    told = [name for name, has in zip(names, prior["labels"], strict=True) if has]
    for got in rows[1:-1]:
        assert got["places"].split() == told
        assert [got[f"{name}_p"] for name in names] == [f"{p:.6g}" for p in prior["probabilities"]]


def test_pictures_beside_broken_ones_are_answered_as_ever(
    quick: Study, cells: dict, harmed: dict, tmp_path: Path
) -> None:
    whole, left = (answer(quick, of, tmp_path / "a.csv", scores=True) for of in (cells, harmed))
    for mine, theirs in ((left[0], whole[0]), (left[-1], whole[len(HARMS) + 1])):
        assert mine.keys() == theirs.keys()
        assert (mine["id"], mine["places"]) == (theirs["id"], theirs["places"])
        shares = [[float(one[k]) for k in one if k.endswith("_p")] for one in (mine, theirs)]
        assert shares[0] == pytest.approx(shares[1], abs=1e-5)  # of another batch, in its last bits


@pytest.mark.parametrize("harm", HARMS)
def test_a_broken_channel_at_init_is_named_and_nothing_is_left(
    cells: dict, tmp_path: Path, harm: str
) -> None:
    of = copied(cells, tmp_path / "new")
    HARMS[harm](tmp_path / "new/images/c0007_blue.png")
    with pytest.raises(DataError) as error:
        make(tmp_path / "deep" / "s", of)
    assert error.value.exit_code == 3
    (culprit,) = error.value.culprits
    assert culprit.startswith('row 8 (id "c0007"): ')
    assert "c0007_blue.png" in culprit
    assert [p.name for p in tmp_path.iterdir()] == ["new"]


def test_the_channels_of_a_recipe_need_not_be_said(cells: dict, tmp_path: Path) -> None:
    options = {k: v for k, v in RECIPES["hpa"].items() if k != "channels"}
    study = stages.init(tmp_path / "s", recipe="multilabel:hpa", options=options, **cells)
    assert study.manifest().paths == make(tmp_path / "t", cells).manifest().paths


def test_channels_that_nobody_named_are_asked_for(cells: dict, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cure: channels="):
        make(tmp_path / "s", cells, channels="")
    with pytest.raises(DataError) as error:
        make(tmp_path / "s", cells, channels="red,violet")
    assert all("_violet.png" in culprit for culprit in error.value.culprits)
    assert not (tmp_path / "s").exists()


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cuts": "halves"}, "cuts"),
        ({"mixture": "1,2"}, "mixture"),
        ({"mixture": "rare,middling,common"}, "mixture"),
        ({"mixture": ".5,.3,-.2"}, "mixture"),
        ({"mixture": "0,0,0"}, "mixture"),
        ({"cycles": 0}, "cycles"),
        ({"cycles": 3, "epochs": 2}, "cycles=3: .* epochs=2; cure: fewer cycles"),
        ({"snapshots": 0}, "snapshots"),
        ({"snapshots": 3, "cycles": 2}, "snapshots=3: .* cycles=2; cure: fewer snapshots"),
        ({"inflate": "mirror"}, "inflate"),
        ({"near_duplicates": "perhaps"}, "near_duplicates"),
        ({"at_least_one": "perhaps"}, "at_least_one"),
        ({"pooling": "max"}, "pooling"),
        ({"members": "entropies"}, "entropies"),
        ({"cut": "own"}, 'did you mean "cuts"'),
        ({"backbone": "resnet1o"}, "did you mean"),
        ({"folds": 1}, "folds"),
        ({"folds": "site"}, "--site"),
        ({"trees": 0}, "trees"),
        ({"words": 0}, "words"),
        ({"size": 8}, "size"),
        ({"elastic": 0.5}, "elastic"),
    ],
)
def test_a_wrong_option_is_named(cells: dict, tmp_path: Path, options: dict, words: str) -> None:
    with pytest.raises((UsageError, DataError), match=words):
        make(tmp_path / "s", cells, **options)
    assert not (tmp_path / "s").exists()


BAD_TARGETS: dict[str, tuple[Callable[[dict], object], str, str]] = {
    "neither 0 nor 1": (lambda row: row.update(golgi="2"), "golgi,cytosol", 'golgi is "2"'),
    "an empty cell": (lambda row: row.update(golgi=""), "golgi,cytosol", 'golgi is ""'),
    "words beside numbers": (lambda row: None, "golgi,sample", 'sample is "s0000"'),
    "no label": (lambda row: None, "nobody", "no label"),
    "all labels": (lambda row: None, "everybody", "all labels"),
}


@pytest.mark.parametrize("fault", BAD_TARGETS)
def test_a_target_that_teaches_nothing_or_is_wrong_is_refused(
    cells: dict, tmp_path: Path, fault: str
) -> None:
    harm, target, words = BAD_TARGETS[fault]
    of = as_columns(cells, tmp_path / "t.csv", nobody="0", everybody="1")
    rows = table_of(of["table"])
    harm(rows[4])
    write(of["table"], rows)
    with pytest.raises(TargetError) as error:
        make(tmp_path / "s", {**of, "target": target})
    assert words in " ".join([str(error.value), *error.value.culprits])
    assert not (tmp_path / "s").exists()


# --- pictures that look alike ---------------------------------------------------------------------


def lots(of: dict) -> dict[str, bytes]:
    """What every picture shows of the protein, whichever way it is turned."""
    folder = Path(of["images"]).parent
    shown = {}
    for row in table_of(Path(of["table"])):
        plane = cv2.imread(str(folder / f"{row['id']}_green.png"), cv2.IMREAD_UNCHANGED)
        shown[row["id"]] = min(np.rot90(plane, turn).tobytes() for turn in range(4))
    return shown


def folds_of(study: Study) -> dict[str, int]:
    stages.split(study, INLINE)
    opened, made = open_split(study)
    return dict(zip(opened.manifest.ids, made.fold.tolist(), strict=True))


def test_pictures_that_look_alike_are_listed_and_share_a_fold_where_that_is_wanted(
    cells: dict, tmp_path: Path
) -> None:
    shown = lots(cells)
    twice = [name for name, plane in shown.items() if list(shown.values()).count(plane) > 1]
    assert len(twice) >= 4
    bare = {**cells, "columns": {}}  # whose groups keep them together anyway
    apart = {}
    for near in (True, False):
        study = make(tmp_path / f"{near}", bare, near_duplicates=near)
        (said,) = stages.audit(study, INLINE)
        assert said.startswith(f"{len(twice)} pictures look nearly like another one")
        assert ", ".join(twice) in said
        fold = folds_of(study)
        apart[near] = [
            (one, other)
            for one, other in itertools.combinations(twice, 2)
            if shown[one] == shown[other] and fold[one] != fold[other]
        ]
    assert not apart[True]
    assert apart[False]


def test_a_channel_that_holds_nothing_is_told_of(cells: dict, tmp_path: Path) -> None:
    of = copied(cells, tmp_path / "new")
    cv2.imwrite(str(tmp_path / "new/images/c0003_blue.png"), np.zeros((40, 40), np.uint8))
    found = stages.audit(make(tmp_path / "s", of), INLINE)
    assert "channel 3 is the same everywhere in 1 pictures: c0003" in found


def test_equal_pictures_with_other_labels_are_told_of(quick: Study) -> None:
    manifest = quick.manifest()
    labels = manifest.measured["label_names"]
    audit = multilabel.FAMILY.audit
    assert not any("byte for byte" in line for line in audit(manifest))
    other = int(np.flatnonzero(labels != labels[0])[0])
    same = manifest.measured["sha256"].copy()
    same[other] = same[0]
    twice = replace(manifest, measured={**manifest.measured, "sha256": same})
    (said,) = [line for line in audit(twice) if "byte for byte" in line]
    assert f"{manifest.ids[0]} and {manifest.ids[other]}" in said


def test_the_facts_are_those_of_the_pictures(quick: Study, cells: dict) -> None:
    facts = quick.settings().facts
    assert facts.target["labels"] == names_of(cells)
    assert (facts.cases, facts.height, facts.width, facts.bits) == (24, 40, 40, 8)
    assert facts.channels == len(facts.mean) == len(facts.std) == 4
    folder = Path(cells["images"]).parent
    for name, mean in zip(CHANNELS, facts.mean, strict=True):
        planes = [cv2.imread(str(path), -1) / 255 for path in folder.glob(f"*_{name}.png")]
        assert mean == pytest.approx(np.mean(planes), abs=1e-4)


# --- going on after a stop ------------------------------------------------------------------------


class Stopper:
    """Says stop after so many questions, and at every later one."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def kept(study: Study) -> set[int]:
    """How many snapshots the checkpoints hold from which a training would go on."""
    found = set()
    for path in study.folder.rglob("checkpoint.safetensors"):
        with safe_open(path, framework="np") as file:
            found.add(json.loads(file.metadata()["numbers"])["kept"])
    return found


def test_stopped_again_and_again_the_answers_are_the_same_bytes(
    cells: dict, tmp_path: Path
) -> None:
    options = {"epochs": 4, "batch": 4, "members": "soft_f1", "mixture": ".5,.3,.2"}
    whole = run(tmp_path / "whole", cells, **options)
    torn = make(tmp_path / "torn", cells, **options)
    seen: set[int] = set()
    for after in range(3, 200, 3):
        try:
            stages.run(torn, replace(INLINE, should_stop=Stopper(after)))
            break
        except Stopped:
            seen |= kept(torn)
    else:
        pytest.fail("it never ended")
    assert seen == {0, 1}
    one, other = (table_of(study.combine_folder / "oof.csv") for study in (whole, torn))
    assert one == other
    for study in (whole, torn):
        answer(study, cells, tmp_path / f"{study.folder.name}.csv", scores=True)
    assert (tmp_path / "torn.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_an_answer_is_the_mean_of_its_snapshots(quick: Study, cells: dict, tmp_path: Path) -> None:
    last = run(tmp_path / "s", cells, members="soft_f1", snapshots=1)
    both, one = (
        np.array(
            [
                [float(row[f"score:{name}"]) for name in names_of(cells)]
                for row in table_of(study.combine_folder / "oof.csv")
            ]
        )
        for study in (quick, last)
    )
    assert both.shape == one.shape
    assert np.abs(both - one).max() > 1e-6


# --- options --------------------------------------------------------------------------------------

LONGER = {name: {**options, "epochs": 3} for name, options in RECIPES.items()}
"""With more epochs than cycles, so that each may be changed alone."""

NETWORKS = {"small": {"entropy", "focal", "soft_f1"}, "hpa": {"entropy", "focal"}}
EVERYTHING = {"networks", "floor", "patches", "split"}
EFFECTS = [
    *((option, value, {"networks"}) for option, value in {
        "size": 48, "backbone": "test_byobnet", "weights": "imagenet", "inflate": "zeros",
        "epochs": 4, "cycles": 3, "snapshots": 1, "batch": 4, "optimiser": "sgd", "lr": 0.02,
        "warm_up": 0.5, "ema": 0.9, "clip": 0.5, "views": "flips", "rotate": 90.0,
        "quarter_turns": False, "flip": 0.1, "elastic": 0.05, "cutout": 1.0, "mixup": 0.7,
        "cutmix": 0.7, "pooling": "gem", "drop_path": 0.5, "dropout": 0.6, "mixture": ".2,.3,.5",
        "precision": "bf16-mixed", "layout": "contiguous",
    }.items()),
    ("flip", 0.0, {"networks", "patches"}),  # which then tell mirror images apart
    ("trees", 5, {"floor", "patches"}),
    ("words", 9, {"patches"}),
    ("features_size", 128, {"floor", "patches"}),
    ("near_duplicates", True, {"split"}),  # of the same folds, whose groups hold them already
    *(("cuts", rule, {"decisions"}) for rule in ("own", "common", "share")),
    ("at_least_one", True, {"decisions"}),
    ("channels", "yellow,red,green,blue", EVERYTHING),
    ("folds", 3, EVERYTHING),
    ("seed", 1, EVERYTHING),
    ("cache_gb", 1.0, set()),
]  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "option", "value", "touched"), tried(multilabel, EFFECTS, NETWORKS)
)
def test_a_changed_option_redoes_what_depends_on_it(
    cells: dict, redone: Callable, recipe: str, option: str, value: object, touched: set
) -> None:
    longer = partial(small_study, "multilabel", LONGER)
    assert redone(longer, cells, recipe, **{option: value}) == touched


def test_every_option_has_its_effect_tested() -> None:
    assert untried(multilabel, EFFECTS) == {name: {"members"} for name in RECIPES}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_member_left_out_is_not_trained(cells: dict, tmp_path: Path, recipe: str) -> None:
    study = make(tmp_path / "s", cells, recipe=recipe, members="focal,floor")
    assert [m.name for m in open_study(study).recipe.members] == ["floor", "focal"]


def test_more_pictures_take_fewer_epochs_and_a_plainer_network(quick: Study) -> None:
    facts = quick.settings().facts
    trained = [
        multilabel.small(replace(facts, cases=cases)).members[-1].training
        for cases in (500, 1200, 2500, 5000, 10**6)
    ]
    epochs = [training.epochs for training in trained]
    assert epochs[1:] == sorted(epochs[1:], reverse=True)
    assert epochs[-1] >= 1
    assert trained[0].backbone.name != trained[-1].backbone.name
