"""The whole trip on a small study: it ends, skips what is done, redoes what an option touches."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from conftest import CELLS, FAST, INK, INLINE, SWIM, TISSUE, small_study
from foveal import stages
from foveal.errors import ManifestError, StudyError, TargetError, UsageError
from foveal.study import Study
from foveal.task import Context

make = partial(small_study, "grade", {"small": FAST})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, eyes: dict) -> Study:
    study = make(tmp_path_factory.mktemp("trip") / "study", eyes)
    stages.run(study, INLINE)
    return study


def answer(study: Study, eyes: dict, out: Path, **more: object) -> list[list[str]]:
    asked = {"table": eyes["table"], "images": eyes["images"], "context": INLINE}
    stages.predict(study, out=out, **{**asked, **more})
    with out.open() as file:
        return list(csv.reader(file))


def test_the_trip_ends_with_a_report_and_answers(
    finished: Study, eyes: dict, tmp_path: Path
) -> None:
    assert finished.report_file.stat().st_size > 20_000
    rows = answer(finished, eyes, tmp_path / "a.csv", scores=True)
    assert rows[0][:3] == ["image", "grade", "grade_expected"]
    with Path(eyes["table"]).open() as file:
        assert [r[0] for r in rows[1:]] == [r["image"] for r in csv.DictReader(file)]
    for row in rows[1:]:
        assert row[1] in "01234"
        assert sum(map(float, row[3:])) == pytest.approx(1, abs=1e-4)


def test_every_row_of_the_leaderboard_can_answer(
    finished: Study, eyes: dict, tmp_path: Path
) -> None:
    board = json.loads((finished.combine_folder / "leaderboard.json").read_text())
    names = [row["name"] for row in board["rows"]]
    assert {"floor", "regression", "cumulative", "expectation"} <= set(names)
    answers = [answer(finished, eyes, tmp_path / "b.csv", answer=n) for n in names[:5]]
    assert len({json.dumps(a) for a in answers}) > 1
    with pytest.raises(UsageError, match="did you mean"):
        answer(finished, eyes, tmp_path / "c.csv", answer="regresion")


def test_a_second_run_trains_nothing(finished: Study) -> None:
    heard: list[str] = []
    stages.run(finished, Context(slots=(), progress=lambda what, *_: heard.append(what)))
    assert "training" not in heard


def test_an_unreadable_picture_gets_the_prior_answer(
    finished: Study, eyes: dict, tmp_path: Path
) -> None:
    source = Path(eyes["images"]).parent
    names = sorted(p.name for p in source.iterdir())[:3]
    for name in names:
        (tmp_path / name).write_bytes((source / name).read_bytes())
    (tmp_path / names[1]).write_bytes((source / names[1]).read_bytes()[:200])
    (tmp_path / names[2]).unlink()
    (tmp_path / "new.csv").write_text("image\n" + "\n".join(names) + "\n")
    done = stages.predict(
        finished,
        table=tmp_path / "new.csv",
        images=str(tmp_path / "{image}"),
        out=tmp_path / "out.csv",
        context=INLINE,
    )
    assert set(done.unreadable) == set(names[1:])
    prior = json.loads((finished.combine_folder / "answers.json").read_text())["prior"]["grade"]
    rows = dict(line.split(",") for line in (tmp_path / "out.csv").read_text().splitlines())
    assert rows[names[1]] == rows[names[2]] == str(prior)


def test_where_nothing_can_be_read_everybody_gets_the_prior_answer(
    finished: Study, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    (tmp_path / "new.csv").write_text("image\na.jpg\nb.jpg\n")
    for row in ("floor", "patches", "regression", "mean of all"):
        done = stages.predict(
            finished,
            table=tmp_path / "new.csv",
            images=str(tmp_path / "{image}"),
            out=tmp_path / "out.csv",
            answer=row,
            scores=True,
            context=INLINE,
        )
        assert set(done.unreadable) == {"a.jpg", "b.jpg"}
        assert len((tmp_path / "out.csv").read_text().splitlines()) == 3


def ended(arguments: list[str], after: float, how: signal.Signals) -> int:
    """The exit code of a call, or of one that was ended by a signal."""
    command = [sys.executable, "-m", "foveal.cli", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        return process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, how)
        return process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["grade", "identify", "segment", "multilabel", "slide"])
def test_killed_at_random_moments_the_answers_are_the_same_bytes(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Killed and stopped in turn: what is stopped goes on in the middle of a training."""
    data, options = {
        "grade": ("eyes", {**FAST, "epochs": 12}),
        "identify": ("flukes", {**SWIM, "epochs": 12}),
        "segment": ("scans", {**INK, "epochs": 6}),
        "multilabel": ("cells", {**CELLS, "epochs": 40}),
        "slide": ("slides", {**TISSUE, "epochs": 12, "pooling": "attention"}),
    }[family]
    given = request.getfixturevalue(data)
    whole, torn = (
        stages.init(tmp_path / name, recipe=f"{family}:small", options=options, **given)
        for name in ("whole", "torn")
    )
    stages.run(whole, Context(slots=("cpu",)))
    codes = []
    for attempt in range(60):
        how = (signal.SIGINT, signal.SIGKILL)[attempt % 2]
        after = 4.0 + 2.3 * (attempt % 5) + 0.5 * attempt  # a busy machine gets there too
        codes.append(ended(["run", str(torn.folder), "--quiet"], after, how))
        if codes[-1] == 0:
            break
    assert codes[-1] == 0
    assert set(codes[:-1]) <= {75, -signal.SIGKILL}
    asked = {"table": given["table"], "images": given.get("images", ""), "scores": True}
    outs = []
    for study in (whole, torn):
        out = tmp_path / "answers" / study.folder.name
        out.parent.mkdir(exist_ok=True)
        stages.predict(study, out=out, **asked)
        outs.append(contents(out))
    assert outs[0] == outs[1]


def contents(out: Path) -> dict[str, bytes]:
    """The bytes of an answer, one file or a folder of them."""
    if out.is_file():
        return {"": out.read_bytes()}
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_a_deadline_always_leaves_a_valid_answer(
    finished: Study, eyes: dict, tmp_path: Path
) -> None:
    for limit in ("4s", "15s"):
        out = tmp_path / f"{limit}.csv"
        started = time.monotonic()
        asked = ["--table", eyes["table"], "--images", eyes["images"], "--out", str(out)]
        limited = ["--deadline", limit, "--answer", "mean of all"]
        command = [sys.executable, "-m", "foveal.cli", "predict", str(finished.folder)]
        process = subprocess.run(
            [*command, *asked, *limited], capture_output=True, text=True, check=False
        )
        assert process.returncode == 0, process.stderr
        assert time.monotonic() - started < float(limit[:-1]) + 1
        assert len(out.read_text().splitlines()) == 37


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ["again: combine (changed: members)"]),
        ({"cuts": "halves"}, ["again: combine (changed: decode, members)"]),
        (
            {"trees": 9},
            [
                "again: 6 trainings of patches, floor (changed: trees)",
                "again: combine (changed: members)",
            ],
        ),
        (
            {"folds": 2},
            [
                "again: split (changed: folds)",
                "again: 4 trainings of patches, floor (changed: folds)",
                "again: combine (changed: members)",
            ],
        ),
    ],
)
def test_a_run_says_what_it_does_again_and_why(
    finished: Study, eyes: dict, tmp_path: Path, change: dict, words: list[str]
) -> None:
    shutil.copytree(finished.folder, tmp_path / "s")
    options = {**FAST, "members": "floor,patches", **change}
    study = stages.init(
        tmp_path / "s", recipe="grade:small", options=options, replace_old=True, **eyes
    )
    heard: list[str] = []
    stages.run(study, Context(slots=(), say=heard.append))
    again = [line for line in heard if line.startswith("again")]
    assert len(again) == len(words)
    for said, wanted in zip(again, words, strict=True):
        assert said.startswith(wanted)


def test_the_same_init_is_nothing_and_another_is_refused(eyes: dict, tmp_path: Path) -> None:
    heard: list[str] = []
    make(tmp_path / "s", eyes)
    context = Context(say=heard.append)
    stages.init(tmp_path / "s", recipe="grade:small", options=FAST, context=context, **eyes)
    assert "nothing to do" in heard[0]
    with pytest.raises(UsageError, match="size is 32, not 64"):
        make(tmp_path / "s", eyes, size=64)
    stages.init(
        tmp_path / "s", recipe="grade:small", options={**FAST, "size": 64}, replace_old=True, **eyes
    )
    assert Study(tmp_path / "s").settings().options["size"] == 64


def test_combine_before_train_names_the_cure(eyes: dict, tmp_path: Path) -> None:
    study = make(tmp_path / "s", eyes)
    stages.split(study)
    with pytest.raises(StudyError, match="foveal train"):
        stages.combine(study, INLINE)
    with pytest.raises(StudyError, match="foveal run"):
        answer(study, eyes, tmp_path / "x.csv")
    with pytest.raises(UsageError, match='did you mean "floor"'):
        stages.train(study, member="flor", context=INLINE)


BAD_TABLES = {
    "duplicate id": ("image,grade\na.jpg,0\na.jpg,1\n", ManifestError, "repeats"),
    "missing id": ("image,grade\na.jpg,0\n,1\n", ManifestError, "row 2"),
    "negative": ("image,grade\na.jpg,0\nb.jpg,-1\n", TargetError, "negative"),
    "fractional": ("image,grade\na.jpg,0\nb.jpg,1.5\n", TargetError, "fractional"),
    "empty grade": ("image,grade\na.jpg,0\nb.jpg,\n", TargetError, "empty"),
    "no number": ("image,grade\na.jpg,0\nb.jpg,mild\n", TargetError, "no number"),
    "one class": ("image,grade\na.jpg,2\nb.jpg,2\n", TargetError, "grade 2"),
    "empty table": ("image,grade\n", ManifestError, "no rows"),
    "missing column": ("image,stage\na.jpg,0\n", ManifestError, 'no column "grade"'),
    "out of the root": ("image,grade\n../a.jpg,0\nb.jpg,1\n", ManifestError, "leaves the root"),
    "missing file": ("image,grade\na.jpg,0\nnone.jpg,1\n", ManifestError, "none.jpg"),
    "truncated": ("image,grade\na.jpg,0\nhalf.jpg,1\n", ManifestError, "truncated"),
    "no picture": ("image,grade\na.jpg,0\ntext.jpg,1\n", ManifestError, "no picture"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_refused_init_names_the_culprit_and_leaves_the_disk_alone(
    eyes: dict, tmp_path: Path, name: str
) -> None:
    text, kind, words = BAD_TABLES[name]
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    first, second = sorted(Path(eyes["images"]).parent.iterdir())[:2]
    (pictures / "a.jpg").write_bytes(first.read_bytes())
    (pictures / "b.jpg").write_bytes(second.read_bytes())
    (pictures / "half.jpg").write_bytes(first.read_bytes()[:-100])
    (pictures / "text.jpg").write_text("I am no picture")
    table = tmp_path / "t.csv"
    table.write_text(text)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(kind) as error:
        stages.init(
            tmp_path / "deep" / "study",
            recipe="grade:small",
            table=table,
            images=str(pictures / "{image}"),
            target="grade",
        )
    assert words in " ".join([str(error.value), *error.value.culprits])
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("cell", "pattern", "words"),
    [
        ("a", "img/{image}", "did you mean {folder}/img/{{image}}.jpg?"),
        ("a.b", "img/{image}.png", "did you mean {folder}/img/{{image}}.tiff?"),
        ("a.png", "img/{image}", "did you mean {folder}/img/a.jpg?"),
        ("A.JPG", "img/{image}", "there is a.jpg: upper and lower case differ"),
        ("7.jpg", "img/{image}", "there is 007.jpg: zeros in front of numbers were lost"),
        ("a", "imgs/{image}.jpg", "there is no folder {folder}/imgs"),
        ("x\\a", "img/{image}.jpg", "backslashes"),
        ("zebra", "img/{image}.jpg", "/img/{{image}}.jpg)"),
    ],
)
def test_a_pattern_that_leads_to_no_file_is_told_of_what_lies_there(
    tmp_path: Path, cell: str, pattern: str, words: str
) -> None:
    (tmp_path / "img").mkdir()
    for name in ("a.jpg", "a.b.tiff", "b.png", "007.jpg"):
        (tmp_path / "img" / name).write_bytes(b"")
    (tmp_path / "t.csv").write_text(f"image,grade\n{cell},0\nnone,1\nnone2,1\n")
    with pytest.raises(ManifestError, match="none of the files of 3 rows is there") as error:
        stages.init(
            tmp_path / "s",
            recipe="grade:small",
            table=tmp_path / "t.csv",
            images=f"{tmp_path}/{pattern}",
            target="grade",
        )
    assert words.format(folder=tmp_path) in str(error.value)
    assert len(error.value.culprits) == 1


def test_a_role_that_is_none_is_named_with_the_nearest(eyes: dict, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='knows no "grp"; did you mean "group"'):
        stages.init(tmp_path / "s", recipe="grade:small", **{**eyes, "columns": {"grp": "patient"}})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sise": 64}, 'did you mean "size"'),
        ({"epochs": 0}, "epochs"),
        ({"size": 8}, "size"),
        ({"views": "many"}, "views"),
        ({"members": "flor"}, "flor"),
        ({"backbone": "resnet1o"}, "did you mean"),
        ({"folds": 1}, "folds"),
        ({"weights": "/nope"}, "weights=/nope: no such file or folder; cures: none"),
    ],
)
def test_a_wrong_option_is_named(eyes: dict, tmp_path: Path, options: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make(tmp_path / "s", eyes, **options)
    assert not (tmp_path / "s").exists()
