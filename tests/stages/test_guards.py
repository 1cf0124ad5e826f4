"""What a study notices, refuses and survives once it is there."""

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import torch
from safetensors.numpy import load_file, save_file
from threadpoolctl import threadpool_info, threadpool_limits

from conftest import FAST, INLINE, small_study, table_of
from foveal import stages
from foveal.combine.leaderboard import rank
from foveal.errors import (
    ManifestError,
    MemoryBudgetError,
    SplitError,
    Stopped,
    StudyError,
    TargetError,
    UsageError,
    WeightsError,
)
from foveal.files import read_json
from foveal.launch import Channel
from foveal.machine import cores
from foveal.manifest import Case, load
from foveal.predict.deadline import Deadline
from foveal.predictions import Predictions
from foveal.simulate.retina import simulate_retina
from foveal.stages.address import family_of, resolve
from foveal.stages.combine import digest_of_description
from foveal.stages.open import open_study
from foveal.stages.place import keep_what_is_read, require_place
from foveal.stages.predict import _source, _steps
from foveal.stages.progress import Curve
from foveal.stages.split import open_split, truth_of
from foveal.stages.train import _judge, is_trained, load_state, out_of_fold
from foveal.study import SCORES, Study
from foveal.table import Source
from foveal.task import Context, State


def _not_yet() -> bool:
    raise AssertionError("scoring has begun")


NO_SCORING = Context(slots=(), should_stop=_not_yet)

make = partial(small_study, "grade", {"small": FAST})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, eyes: dict) -> Study:
    study = make(tmp_path_factory.mktemp("guards") / "study", eyes, members="floor,regression")
    stages.run(study, INLINE)
    return study


def answer(study: Study, eyes: dict, out: Path, **more: object) -> None:
    asked = {"table": eyes["table"], "images": eyes["images"], "context": INLINE}
    stages.predict(study, out=out, **{**asked, **more})


def test_the_picture_size_can_be_the_group(tmp_path: Path) -> None:
    sizes = (40, 48, 56, 64)
    for k in range(24):
        size = (sizes[k // 3 % 4], 48, 3)
        picture = np.random.default_rng(k).integers(0, 255, size, np.uint8)
        cv2.imwrite(str(tmp_path / f"{k}.png"), picture)
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["file,grade", *(f"{k}.png,{k % 3}" for k in range(24))]))
    said: list[str] = []
    call = partial(
        stages.init,
        tmp_path / "s",
        recipe="grade:small",
        table=table,
        target="grade",
        images=str(tmp_path / "{file}"),
        options={**FAST, "folds": 2},
        columns={"group": "image_size"},
        context=Context(slots=(), say=said.append),
    )
    study = call()
    stages.split(study)
    with study.folds_file.open() as file:
        rows = list(csv.DictReader(file))
    found = {(k // 3 % 4, row["group"], row["fold"]) for k, row in enumerate(rows)}
    assert len(found) == len({group for _, group, _ in found}) == 4
    call()
    assert "nothing to do" in said[-1]


def edited(study: Study, folder: Path, old: str, new: str) -> Study:
    """A copy whose `study.yaml` somebody edited."""
    shutil.copytree(study.folder, folder)
    copy = Study(folder)
    text = copy.settings_file.read_text()
    assert old in text
    copy.settings_file.write_text(text.replace(old, new))
    return copy


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("size: 32", "size: 64"),
        ("views: centre", "views: flips"),
        ("folds: 3", "folds: 2"),
        ("members: floor,regression", "members: floor"),
    ],
)
def test_options_edited_after_a_run_answer_nothing_before_the_next(
    finished: Study, eyes: dict, tmp_path: Path, old: str, new: str
) -> None:
    study = edited(finished, tmp_path / "s", old, new)
    for row in ("floor", "regression"):  # the one that the option does not touch neither
        with pytest.raises(StudyError, match="cure: foveal run"):
            answer(study, eyes, tmp_path / "x.csv", answer=row)
    with pytest.raises(StudyError, match=r"cure: foveal (run|split)"):
        stages.report(study, INLINE)


def test_folds_that_are_missing_or_of_other_options_are_named(
    finished: Study, eyes: dict, tmp_path: Path
) -> None:
    for study in (
        make(tmp_path / "new", eyes),
        edited(finished, tmp_path / "edited", "folds: 3", "folds: 2"),
    ):
        with pytest.raises(StudyError, match=r"no folds as study\.yaml asks for them"):
            stages.combine(study, INLINE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("group: patient", "group: clinic"),
        ("site: clinic\n", ""),
        ("- grade\n", "- grade\n- patient\n"),
        ("recipe: grade:small", "recipe: multilabel:small"),
    ],
)
def test_columns_edited_after_the_table_was_checked_are_refused(
    finished: Study, tmp_path: Path, old: str, new: str
) -> None:
    study = edited(finished, tmp_path / "s", old, new)
    for stage in (stages.split, stages.train, stages.combine):
        with pytest.raises(StudyError, match=r"not those that were checked.*--replace"):
            stage(study, context=INLINE)


def test_a_table_of_another_init_is_refused(finished: Study, tmp_path: Path) -> None:
    study = Study(tmp_path / "s")
    shutil.copytree(finished.folder, study.folder)
    *rows, _ = study.manifest_file.read_text().splitlines(keepends=True)
    study.manifest_file.write_text("".join(rows))  # as when the disk was full between both files
    with pytest.raises(StudyError, match="not those that were checked"):
        stages.split(study, INLINE)


def test_replace_looks_at_changed_pictures_and_mends_a_broken_study(
    eyes: dict, tmp_path: Path
) -> None:
    source, folder = Path(eyes["table"]).parent, tmp_path / "new"
    shutil.copytree(source, folder)
    images = str(eyes["images"]).replace(str(source), str(folder))
    of = {**eyes, "table": folder / Path(eyes["table"]).name, "images": images}
    study = make(tmp_path / "s", of)
    before = study.manifest().measured["sha256"]
    path = Path(study.manifest().paths[0][0])
    cv2.imwrite(str(path), 255 - cv2.imread(str(path)))
    call = partial(
        stages.init, tmp_path / "s", recipe="grade:small", options=FAST, context=INLINE, **of
    )
    call(replace_old=True)
    changed = study.manifest().measured["sha256"] != before
    assert changed[0]
    assert changed.sum() == 1
    described = study.settings_file.read_text()
    study.settings_file.write_text(described.replace("  cases: ", "  kases: "))
    call(replace_old=True)
    assert study.settings_file.read_text() == described
    for file in (study.manifest_file, study.settings_file):
        whole = file.read_bytes()
        file.write_bytes(b"")
        with pytest.raises(StudyError, match="foveal init FOLDER --replace"):
            call()
        call(replace_old=True)
        assert file.read_bytes() == whole


def test_what_is_not_said_of_a_study_described_anew_is_as_it_was(
    eyes: dict, tmp_path: Path
) -> None:
    first = partial(stages.init, tmp_path / "s", recipe="grade:small", context=INLINE, **eyes)
    study = first(options=FAST, columns={"site": "grade"})
    text = study.settings_file.read_text()
    study.settings_file.write_text(text.replace("trees: 8", "trees: 9"))
    edited_, said = study.settings(), []
    again = partial(
        stages.init, study.folder, replace_old=True, context=replace(INLINE, say=said.append)
    )
    again()
    assert study.settings() == edited_
    assert edited_.options["trees"] == 9
    again(options={"size": 64}, columns={"site": ""})
    changed = {**edited_.options, "size": 64}
    assert (dict(study.settings().options), study.settings().source.site) == (changed, "")
    assert not said
    again(recipe="classify:small", images=eyes["images"])
    assert study.settings().recipe == "classify:small"
    assert not study.settings().options
    assert said[0].startswith("options of grade:small are left out: ")
    assert "trees=9" in said[0]


def test_a_column_called_channel_is_one_like_others(eyes: dict, tmp_path: Path) -> None:
    rows = Path(eyes["table"]).read_text().splitlines()
    table = tmp_path / "t.csv"
    table.write_text("\n".join([f"{rows[0]},channel", *(f"{row},." for row in rows[1:])]))
    root, _, name = str(eyes["images"]).rpartition("/")
    of = {**eyes, "table": table, "images": f"{root}/{{channel}}/{name}"}
    make(tmp_path / "s", of)
    study = stages.init(tmp_path / "s", replace_old=True, context=INLINE)
    assert study.settings().source.images.endswith("/{channel}/" + name)


def test_what_a_study_is_described_by_counts_an_own_recipe_and_the_facts(
    finished: Study, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("trees = 5")
    settings = finished.settings()
    own = replace(settings, recipe=f"{mine}:small")
    before = digest_of_description(own)
    assert before == digest_of_description(own)
    mine.write_text("trees = 6")
    assert digest_of_description(own) != before
    facts = replace(settings, facts=replace(settings.facts, cases=7))
    assert digest_of_description(facts) != digest_of_description(settings)


@pytest.mark.parametrize("missing", ["recipe", "table", "target"])
def test_a_new_study_must_be_described(eyes: dict, tmp_path: Path, missing: str) -> None:
    described = {"recipe": "grade:small", **eyes}
    del described[missing]
    for replace_old in (False, True):
        with pytest.raises(UsageError, match=f"--{missing}"):
            stages.init(tmp_path / "s", replace_old=replace_old, context=INLINE, **described)
    assert not (tmp_path / "s").exists()


def test_an_answer_is_not_written_over_what_is_read(
    finished: Study, eyes: dict, tmp_path: Path
) -> None:
    table = tmp_path / "new.csv"
    shutil.copy(eyes["table"], table)
    for out in (table, finished.folder, *finished.own_files):
        with pytest.raises(UsageError, match="would write over"):
            answer(finished, eyes, out, table=table)
    assert table.read_bytes() == Path(eyes["table"]).read_bytes()


def test_an_answer_is_not_written_over_what_the_study_was_made_of(
    eyes: dict, finished: Study, tmp_path: Path
) -> None:
    """Though the new table says nothing of those files."""
    (tmp_path / "new.csv").write_text("image\nnew.jpg\n")
    picture = Path(finished.manifest().paths[0][0])
    (tmp_path / "link.csv").symlink_to(eyes["table"])
    (tmp_path / "linked").symlink_to(picture.parent)
    before = {path: path.read_bytes() for path in (Path(eyes["table"]), picture)}
    linked = tmp_path / "linked" / picture.name
    for out in (*before, tmp_path / "link.csv", linked):
        with pytest.raises(UsageError, match="would write over"):
            answer(
                finished,
                eyes,
                out,
                table=tmp_path / "new.csv",
                images=str(tmp_path / "{image}"),
                context=NO_SCORING,
            )
    assert {path: path.read_bytes() for path in before} == before


def test_no_mask_is_written_over_those_that_a_study_learns_from(
    scans: dict, tmp_path: Path
) -> None:
    study = stages.init(tmp_path / "s", recipe="segment:small", context=INLINE, **scans)
    look = partial(keep_what_is_read, study=study, table=tmp_path / "new.csv", cases=[])
    known = study.manifest()
    for path in (*known.target[:, 0].tolist(), *(p for paths in known.paths for p in paths)):
        with pytest.raises(UsageError, match="over what is read"):
            look([Path(path)])
    look([tmp_path / "out/a.png"])


def test_no_answer_is_written_over_a_mask_that_steers_training(
    finished: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, mask = finished.manifest(), str(tmp_path / "mask.png")
    masks = np.array(["", *[mask] * (len(known) - 1)])
    steered = replace(known, roles={**known.roles, "mask": masks})
    monkeypatch.setattr(Study, "manifest", lambda self: steered)
    with pytest.raises(UsageError, match="over what is read"):
        keep_what_is_read([Path(mask)], finished, tmp_path / "new.csv", [])


@pytest.mark.parametrize("recipe", ["grade:small", "identify:small"])
def test_a_second_target_column_is_refused(eyes: dict, tmp_path: Path, recipe: str) -> None:
    header, *rows = Path(eyes["table"]).read_text().splitlines()
    table = tmp_path / "two.csv"
    table.write_text("\n".join([f"{header},second", *(f"{row},1" for row in rows)]))
    of = {**eyes, "table": table, "target": f"{eyes['target']},second"}
    with pytest.raises(TargetError, match="one target column"):
        stages.init(tmp_path / "s", recipe=recipe, context=INLINE, **of)
    assert not (tmp_path / "s").exists()


def test_a_row_without_a_path_is_answered_and_named_without_one(
    finished: Study, tmp_path: Path
) -> None:
    (tmp_path / "new.csv").write_text("image,file\na.jpg,\nb.jpg,../b.jpg\nc.jpg,c.jpg\n")
    told = stages.predict(
        finished,
        table=tmp_path / "new.csv",
        images=str(tmp_path / "{file}"),
        out=tmp_path / "x.csv",
        answer="floor",
        context=INLINE,
    )
    assert told.unreadable["a.jpg"] == told.unreadable["b.jpg"]
    assert "cell is empty, or leads out of" in told.unreadable["a.jpg"]
    assert "c.jpg" in told.unreadable["c.jpg"]
    assert told.cases == 3


def test_a_table_without_the_studys_ids_is_refused_with_the_nearest(
    finished: Study, tmp_path: Path
) -> None:
    (tmp_path / "new.csv").write_text("Image,grade\na.jpg,1\n")
    with pytest.raises(ManifestError, match=r'has no column "image".*did you mean "Image"'):
        _source(finished, tmp_path / "new.csv", str(tmp_path / "{Image}"))


def test_a_fold_that_can_tell_nothing_has_a_curve_of_nothing(finished: Study) -> None:
    opened, made = open_split(finished)
    truth = truth_of(opened, made)
    scores = out_of_fold(opened, "regression", made)
    assert np.isfinite(_judge(opened, truth)(scores))
    nothing = replace(truth, weight=np.zeros(len(truth.weight)))
    assert np.isnan(_judge(opened, nothing)(scores))


def test_a_curve_goes_on_with_that_of_its_own_training_alone(tmp_path: Path) -> None:
    channel = Channel(report=lambda event: None, should_stop=lambda: False)
    first = Curve(tmp_path, "mark", channel)
    for epoch in (1, 2):
        first.hear({"epoch": epoch, "loss": 0.5, "lr": 1.0, "seconds": 0.1})
    assert not Curve(tmp_path, "mark", channel).rows  # it begins anew, so does its curve
    (tmp_path / "checkpoint.safetensors").touch()
    assert list(Curve(tmp_path, "mark", channel).rows) == [1, 2]
    other = Curve(tmp_path, "other", channel)
    other.hear({"epoch": 1, "loss": 0.7, "lr": 1.0, "seconds": 0.1})
    assert [row["loss"] for row in table_of(tmp_path / "metrics-so-far.csv")] == ["0.7"]
    assert list(Curve(tmp_path, "other", channel).rows) == [1]
    assert not Curve(tmp_path, "mark", channel).rows


def test_a_finished_training_leaves_nothing_to_go_on_with(finished: Study) -> None:
    assert not list(finished.folder.rglob("curve.json"))


def test_one_caller_at_a_time_changes_a_study(
    finished: Study, eyes: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foveal.study.LOCK_PATIENCE_SECONDS", 0.1)
    init = partial(
        stages.init, finished.folder, recipe="grade:small", options=FAST, replace_old=True, **eyes
    )
    settings = finished.settings_file.read_bytes()
    changing = [stages.split, stages.train, stages.combine, stages.report, stages.run]
    calls = [partial(stage, finished) for stage in changing]
    with finished.lock("another script") as descriptor:
        for call in (*calls, init):
            said: list[str] = []
            with pytest.raises(StudyError, match="held by another script"):
                call(context=replace(INLINE, say=said.append))
            assert "waiting up to 10 seconds" in said[-1]
        for call in calls:
            call(context=replace(INLINE, keep=(descriptor,)))
    assert finished.settings_file.read_bytes() == settings
    stages.run(finished, INLINE)


def test_no_study_is_made_for_a_device_that_is_not_to_be_had(
    eyes: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UsageError, match="no CUDA device"):
        make(tmp_path / "s", eyes, context=Context(device="cuda"))
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("target", ["", ","])
def test_a_study_without_a_target_is_refused(eyes: dict, tmp_path: Path, target: str) -> None:
    with pytest.raises(UsageError, match="cure: --target COLUMN"):
        make(tmp_path / "s", {**eyes, "target": target})
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("trees", [1, 3])
def test_any_number_of_trees_grows(eyes: dict, tmp_path: Path, trees: int) -> None:
    study = make(tmp_path / "s", eyes, trees=trees, members="floor")
    stages.run(study, INLINE)
    assert study.report_file.is_file()


def test_a_seed_below_zero_is_refused(eyes: dict, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="seed"):
        make(tmp_path / "s", eyes, seed=-1)


def test_a_study_is_made_in_the_folder_where_one_stands(eyes: dict, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    inode = (tmp_path / "s").stat().st_ino
    make(tmp_path / "s", eyes)
    assert (tmp_path / "s").stat().st_ino == inode
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    make(tmp_path / "link", eyes)
    assert (tmp_path / "real" / "study.yaml").is_file()


def test_weights_are_found_from_anywhere(
    eyes: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights").mkdir()
    monkeypatch.chdir(tmp_path)
    tensors = timm.create_model("lcnet_035", num_classes=0).state_dict()
    save_file(
        {name: t.numpy() for name, t in tensors.items()}, tmp_path / "weights/model.safetensors"
    )
    study = make(tmp_path / "s", eyes, weights="weights", backbone="lcnet_035")
    assert study.settings().options["weights"] == str(tmp_path / "weights")
    assert make(tmp_path / "t", eyes, weights="none").settings().options["weights"] == "none"
    for name, words in (("lcnet_050", "has the shapes"), ("resnet10t", "tensors are not in")):
        with pytest.raises(WeightsError, match=words):
            make(tmp_path / name, eyes, weights="weights", backbone=name)
        assert not (tmp_path / name).exists()
    torch.save(timm.create_model("lcnet_035"), tmp_path / "whole.pth")
    with pytest.raises(WeightsError, match="more than tensors; save the state_dict"):
        make(tmp_path / "w", eyes, weights="whole.pth", backbone="lcnet_035")


def test_a_recipe_function_that_promises_no_recipe_is_told_how(tmp_path: Path) -> None:
    lines = ["from foveal.recipes import grade", "", "def mine(facts, /):", "    return None"]
    (tmp_path / "mine.py").write_text("\n".join(lines))
    with pytest.raises(UsageError, match=r"promises no recipe; cure: def mine.*-> Recipe"):
        resolve(f"{tmp_path}/mine.py:mine")
    (tmp_path / "mine.py").write_text("\n".join(lines).replace("/)", "/) -> 'Recipe'"))
    with pytest.raises(UsageError, match=r"no FAMILY; cure: such as FAMILY = grade\.FAMILY"):
        resolve(f"{tmp_path}/mine.py:mine")


def test_a_number_can_be_a_name(flukes: dict, tmp_path: Path) -> None:
    of = {**flukes, "options": {"new": -1}}
    study = stages.init(tmp_path / "s", recipe="identify:small", context=INLINE, **of)
    assert open_study(study).recipe.answer.new == "-1"


def test_a_decoder_of_ones_own_answers(eyes: dict, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass, replace\n"
        "from foveal.decide.thresholds import Cuts\n"
        "from foveal.manifest import Facts\n"
        "from foveal.recipes import grade\n"
        "from foveal.task import Recipe\n"
        "FAMILY = grade.FAMILY\n"
        "@dataclass(frozen=True)\n"
        "class Given:\n"
        "    cut: float\n"
        "    def __call__(self, predictions, site=None):\n"
        "        return Cuts((self.cut,))(predictions)\n"
        "@dataclass(frozen=True)\n"
        "class Half:\n"
        "    at: float = 0.5\n"
        "    def fit(self, predictions, truth):\n"
        "        return Given(self.at)\n"
        "def mine(facts: Facts, /, *, folds: int = 2) -> Recipe:\n"
        "    made = grade.small(facts, folds=folds, members='floor', trees=3)\n"
        "    return replace(made, decode=Half(), panels=())\n"
    )
    address = f"{tmp_path}/mine.py:mine"
    study = stages.init(tmp_path / "s", recipe=address, context=INLINE, **eyes)
    stages.run(study, INLINE)
    asked = [
        "--table",
        str(eyes["table"]),
        "--images",
        eyes["images"],
        "--out",
        str(tmp_path / "x.csv"),
    ]
    call = [sys.executable, "-m", "foveal", "predict", str(study.folder), *asked]
    said = subprocess.run(call, capture_output=True, text=True)  # which has not read the recipe
    assert said.returncode == 0, said.stderr
    assert {row["grade"] for row in table_of(tmp_path / "x.csv")} <= {"0", "1"}


def test_members_in_another_order_are_combined_again(eyes: dict, tmp_path: Path) -> None:
    recipe = (
        "from dataclasses import replace\n"
        "from foveal.manifest import Facts\n"
        "from foveal.recipes import grade\n"
        "from foveal.task import Recipe\n"
        "FAMILY = grade.FAMILY\n"
        "def mine(facts: Facts, /, *, folds: int = 2) -> Recipe:\n"
        "    made = grade.small(facts, folds=folds, members='floor,patches', trees=3)\n"
        "    return replace(made, members=made.members[::1], panels=())\n"
    )
    (tmp_path / "mine.py").write_text(recipe)
    address = f"{tmp_path}/mine.py:mine"
    study = stages.init(tmp_path / "s", recipe=address, context=INLINE, **eyes)
    stages.run(study, INLINE)
    first = [row["name"] for row in read_json(study.leaderboard_file)["rows"]]
    (tmp_path / "mine.py").write_text(recipe.replace("[::1]", "[::-1]"))
    stages.run(study, INLINE)
    then = [row["name"] for row in read_json(study.leaderboard_file)["rows"]]
    assert then[:2] == first[1::-1]


def test_options_of_the_source_among_those_that_may_be_edited_are_refused(
    finished: Study, tmp_path: Path
) -> None:
    study = edited(finished, tmp_path / "s", "size: 32", "size: 32\n  channels: green")
    with pytest.raises(UsageError, match="among the options of"):
        open_study(study)


def test_a_number_as_the_name_of_an_option_is_refused(finished: Study, tmp_path: Path) -> None:
    study = edited(finished, tmp_path / "s", "size: 32", "size: 32\n  8: 1")
    with pytest.raises(UsageError, match='unknown option "8"'):
        open_study(study)


def test_a_training_begun_and_taken_back_leaves_the_finished_one(
    finished: Study, tmp_path: Path
) -> None:
    study = edited(finished, tmp_path / "s", "size: 32", "size: 64")
    opened, made = open_split(study)
    member = next(m for m in opened.recipe.members if m.kind == "networks")
    folder = study.job_folder(member.name, 0)
    curve = Curve(folder, "another", Channel(report=lambda event: None, should_stop=lambda: False))
    curve.hear({"epoch": 1, "loss": 0.5, "lr": 1.0, "seconds": 0.1})
    opened, made = open_split(edited(study, tmp_path / "back", "size: 64", "size: 32"))
    assert is_trained(opened, made, next(m for m in opened.recipe.members if m.name == member.name))


def test_a_rule_of_ones_own_that_is_edited_counts_again(eyes: dict, tmp_path: Path) -> None:
    recipe = (
        "from dataclasses import dataclass, replace\n"
        "from foveal.decide.thresholds import FixedCuts\n"
        "from foveal.manifest import Facts\n"
        "from foveal.recipes import grade\n"
        "from foveal.task import Recipe\n"
        "FAMILY = grade.FAMILY\n"
        "@dataclass(frozen=True)\n"
        "class Half:\n"
        "    def fit(self, predictions, truth):\n"
        "        return FixedCuts((0.5,)).fit(predictions, truth)\n"
        "def mine(facts: Facts, /, *, folds: int = 2) -> Recipe:\n"
        "    made = grade.small(facts, folds=folds, members='floor', trees=3)\n"
        "    return replace(made, decode=Half(), panels=())\n"
    )
    (tmp_path / "mine.py").write_text(recipe)
    study = stages.init(tmp_path / "s", recipe=f"{tmp_path}/mine.py:mine", context=INLINE, **eyes)
    stages.run(study, INLINE)
    before = (study.combine_folder / "oof.csv").read_bytes()
    trained = [path.read_bytes() for path in sorted(study.members_folder.rglob("done.json"))]
    (tmp_path / "mine.py").write_text(recipe.replace("(0.5,)", "(9.5,)"))
    stages.run(study, INLINE)
    assert (study.combine_folder / "oof.csv").read_bytes() != before
    assert [p.read_bytes() for p in sorted(study.members_folder.rglob("done.json"))] == trained


def test_a_recipe_file_of_ones_own_may_hold_dataclasses(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from typing import ClassVar\n"
        "from foveal.manifest import Facts\n"
        "from foveal.recipes import grade\n"
        "from foveal.task import Recipe\n"
        "FAMILY = grade.FAMILY\n"
        "@dataclass\n"
        "class Odd:\n"
        "    kind: ClassVar[str] = 'odd'\n"
        "    device: ClassVar[str] = 'cpu'\n"
        "def mine(facts: Facts, /, *, seed: int = 0) -> Recipe:\n"
        "    return grade.small(facts, seed=seed)\n"
    )
    family, function = resolve(f"{tmp_path}/mine.py:mine")
    assert function.__name__ == "mine"
    assert family.survey is not None


def test_a_backbone_of_one_size_is_refused_at_once_for_another(eyes: dict, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="takes 224 x 224 pixels and nothing else"):
        make(tmp_path / "s", eyes, backbone="vit_tiny_patch16_224", size=32)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"backbone": "dla34", "size": 80}, "80 x 80 pixels .*; cure: another size="),
        ({"backbone": "efficientvit_b0", "pooling": "gem"}, "Cannot disable pooling"),
        ({"backbone": "test_resnet", "size": 32, "batch": 1}, "batches of 1 .*more than 1 value"),
    ],
    ids=["size", "pooling", "batch"],
)
def test_a_network_that_cannot_see_the_pictures_is_refused_at_once(
    eyes: dict, tmp_path: Path, options: dict, why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        make(tmp_path / "s", eyes, **options, members="regression")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("old", "new", "why"), [("members: floor", "cuts: fifths\n  members: floor", "decode")]
)
def test_decisions_edited_after_a_run_answer_and_show_nothing_before_the_next(
    finished: Study, eyes: dict, tmp_path: Path, old: str, new: str, why: str
) -> None:
    study = edited(finished, tmp_path / "s", old, new)
    with pytest.raises(StudyError, match=f"changed: {why}"):
        answer(study, eyes, tmp_path / "x.csv")
    with pytest.raises(StudyError, match=f"changed: {why}"):
        stages.report(study, INLINE)
    stages.run(study, INLINE)
    answer(study, eyes, tmp_path / "x.csv")


def test_an_answer_that_fails_leaves_the_one_that_is_there(
    finished: Study, eyes: dict, tmp_path: Path
) -> None:
    out = tmp_path / "x.csv"
    answer(finished, eyes, out)
    before = out.read_text()
    study = edited(finished, tmp_path / "s", "size: 32", "size: 64")
    with pytest.raises(StudyError):
        answer(study, eyes, out, answer="regression")
    assert out.read_text() == before
    with pytest.raises(Stopped):
        answer(finished, eyes, out, context=replace(INLINE, should_stop=lambda: True))
    assert out.read_text() == before


@pytest.mark.parametrize("name", ["state.safetensors", "done.json"])
def test_a_damaged_training_is_called_damaged_and_costs_no_answer(
    finished: Study, eyes: dict, tmp_path: Path, name: str
) -> None:
    shutil.copytree(finished.folder, tmp_path / "s")
    (tmp_path / f"s/members/regression/0/{name}").unlink()
    out = tmp_path / "x.csv"
    out.write_text("of before")
    deadline = Deadline(60.0, time.monotonic())
    with pytest.raises(StudyError, match="files are missing or damaged; cure: foveal run"):
        answer(Study(tmp_path / "s"), eyes, out, answer="regression", deadline=deadline)
    assert out.read_text() == "of before"


def test_a_device_that_is_not_to_be_had_costs_no_answer(
    finished: Study, eyes: dict, tmp_path: Path
) -> None:
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is to be had here")
    out = tmp_path / "x.csv"
    out.write_text("of before")
    context = Context(device="cuda")
    with pytest.raises(UsageError, match="no CUDA device"):
        answer(finished, eyes, out, deadline=Deadline(60.0, time.monotonic()), context=context)
    assert out.read_text() == "of before"


def test_a_demo_writes_over_nothing_else_and_keeps_no_option_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "mine" / "data" / "labels.csv"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    with pytest.raises(UsageError, match="holds something else than a demo"):
        stages.demo("grade", tmp_path / "mine", options={}, context=INLINE)
    assert own.read_text() == "mine"
    with pytest.raises(UsageError, match="unknown option"):
        stages.demo("grade", tmp_path / "demo", options={"sise": 32}, context=INLINE)
    assert not (tmp_path / "demo").exists()
    described = []

    def stop(study: Study, context: Context) -> Path:
        described.append(study.settings().options)
        raise Stopped("enough")

    monkeypatch.setattr(sys.modules["foveal.stages.report"], "run", stop)
    few_eyes = partial(simulate_retina, cases=36, size=48, seed=3)
    family = replace(family_of("grade"), simulate=few_eyes)
    monkeypatch.setattr(sys.modules["foveal.stages.report"], "family_of", lambda _: family)
    few = {"members": "floor", "folds": 2}
    for options in (few, few, {}):
        with pytest.raises(Stopped):
            stages.demo("grade", tmp_path / "demo", options=options, context=INLINE)
    assert described[0] == described[1]
    assert described[0].items() >= few.items()
    assert not described[2].keys() & few.keys()


def test_scores_that_are_no_numbers_decide_nothing(
    finished: Study, eyes: dict, tmp_path: Path
) -> None:
    study = Study(tmp_path / "s")
    shutil.copytree(finished.folder, study.folder)
    state = study.job_folder("floor", 1) / "state.safetensors"
    tensors = load_file(state)
    save_file({**tensors, "intercept": np.full_like(tensors["intercept"], np.nan)}, state)
    given = stages.predict(
        study,
        table=eyes["table"],
        images=eyes["images"],
        out=tmp_path / "x.csv",
        answer="floor",
        context=INLINE,
    )
    assert set(given.unreadable.values()) == {"the scores of floor are no numbers"}
    assert len(given.unreadable) == len(table_of(Path(eyes["table"])))
    assert len({row["grade"] for row in table_of(tmp_path / "x.csv")}) == 1


def test_a_training_that_is_exchanged_while_it_is_read_answers_nothing(
    finished: Study, eyes: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study(tmp_path / "s")
    shutil.copytree(finished.folder, study.folder)

    def exchanged(folder: Path) -> State:
        state, mark = load_state(folder), folder / "done.json"
        mark.write_text(mark.read_text().replace('"digest": "', '"digest": "another '))
        return state

    monkeypatch.setattr(sys.modules["foveal.stages.predict"], "load_state", exchanged)
    with pytest.raises(StudyError, match=r"floor was trained anew.*cure: foveal combine"):
        answer(study, eyes, tmp_path / "x.csv", answer="floor")
    assert not (tmp_path / "x.csv").exists()


def test_a_row_without_a_picture_gets_the_prior(
    finished: Study, eyes: dict, tmp_path: Path
) -> None:
    names = [row["image"] for row in table_of(Path(eyes["table"]))[:4]]
    files = [names[0], "", names[2], names[3]]
    lines = ["image,file", *(f"{a},{b}" for a, b in zip(names, files, strict=True))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    out, images = tmp_path / "x.csv", eyes["images"].replace("{image}", "{file}")
    said = stages.predict(
        finished, table=tmp_path / "t.csv", images=images, out=out, context=INLINE
    )
    assert list(said.unreadable) == [names[1]]
    assert [row["image"] for row in table_of(out)] == names


def test_no_answer_replaces_a_picture_that_is_read(
    finished: Study, eyes: dict, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="would write over"):
        answer(finished, eyes, first_picture(eyes))
    assert cv2.imread(str(first_picture(eyes))) is not None


def first_picture(eyes: dict) -> Path:
    return Path(eyes["images"].format(**table_of(Path(eyes["table"]))[0]))


def test_weights_that_leave_a_fold_nothing_are_refused_at_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for k in range(8):
        cv2.imwrite(str(tmp_path / f"{k}.png"), rng.integers(0, 255, (40, 40, 3), np.uint8))
    lines = ["id,grade,fold,w", *(f"{k},{k // 2 % 2},{k % 2},{k % 2}" for k in range(8))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    of = {"table": tmp_path / "t.csv", "target": "grade", "images": f"{tmp_path}/{{id}}.png"}
    with pytest.raises(SplitError, match="weight of 0"):
        make(tmp_path / "s", {**of, "columns": {"fold": "fold", "weight": "w"}})
    assert not (tmp_path / "s").exists()


def test_a_number_that_is_no_text_any_more_is_refused(flukes: dict, tmp_path: Path) -> None:
    for value in (1.5, True):
        of = {**flukes, "options": {"new": value}}
        with pytest.raises(UsageError, match="new="):
            stages.init(tmp_path / "s", recipe="identify:small", context=INLINE, **of)


def test_channels_need_their_place_in_the_pattern(cells: dict, tmp_path: Path) -> None:
    of = {**cells, "images": cells["images"].replace("{channel}", "red")}
    options = {"channels": "red,green"}
    with pytest.raises(UsageError, match=r"cure: \{channel\} in --images"):
        stages.init(tmp_path / "s", recipe="multilabel:small", **{**of, "options": options})


def test_a_picture_that_went_away_is_an_error_of_the_floor_too(
    flukes: dict, tmp_path: Path
) -> None:
    shutil.copytree(Path(flukes["table"]).parent, tmp_path / "flukes")
    moved = str(tmp_path / "flukes")
    of = {k: str(v).replace(str(Path(flukes["table"]).parent), moved) for k, v in flukes.items()
          if k in ("table", "images")}  # fmt: skip
    options = {"members": "floor", "folds": 2, **flukes.get("options", {})}
    study = stages.init(
        tmp_path / "s",
        recipe="identify:small",
        context=INLINE,
        **{**flukes, **of, "options": options},
    )
    gone = next(iter((tmp_path / "flukes").rglob("*.jpg")), None) or next(
        iter((tmp_path / "flukes").rglob("*.png"))
    )
    away = gone.rename(gone.with_suffix(".away"))
    with pytest.raises(ManifestError, match="cannot be read in full"):
        stages.run(study, INLINE)
    away.rename(gone)
    stages.run(study, INLINE)
    assert study.report_file.is_file()


@pytest.mark.parametrize("counting", [3, 9])
def test_weights_of_0_are_as_if_the_rows_were_not_there_to_learn_from(
    eyes: dict, tmp_path: Path, counting: int
) -> None:
    rows = table_of(Path(eyes["table"]))
    order = sorted(rows, key=lambda row: row["patient"])
    of_grade = {g: [r["image"] for r in order if r["grade"] == g] for g in ("0", "2")}
    few = [*of_grade["0"][1 - counting :], of_grade["2"][-1]]
    lines = [",".join([*rows[0], "w"])]
    lines += [",".join([*r.values(), str(int(r["image"] in few))]) for r in rows]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    columns = {**eyes["columns"], "weight": "w"}
    of = {**eyes, "table": tmp_path / "t.csv", "columns": columns}
    study = make(tmp_path / "s", of, members="floor,patches", folds=3)
    stages.train(study, context=INLINE)
    assert (study.job_folder("patches", 2) / "done.json").is_file()


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("folder", "is a folder, a device or a stream"),
        ("pipe", "is a folder, a device or a stream"),
        ("/dev/null", "is a folder, a device or a stream"),
        ("/dev/stdout", "is a folder, a device or a stream"),
        ("file/x.csv", "file is no folder"),
        ("file/deep/x.csv", "file is no folder"),
        ("locked/deep/x.csv", "locked cannot be written"),
    ],
)
def test_an_answer_without_a_place_is_refused_before_anything_is_scored(
    finished: Study,
    eyes: dict,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    words: str,
) -> None:
    for name in ("folder", "locked"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("not an answer")
    access = os.access  # the superuser may write anywhere
    monkeypatch.setattr(os, "access", lambda p, mode: "locked" not in str(p) and access(p, mode))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=words):
        answer(finished, eyes, tmp_path / place, context=NO_SCORING)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "pipe").is_fifo()


def test_masks_need_a_folder_and_their_own_names(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "masks/a.png").mkdir(parents=True)
    with pytest.raises(UsageError, match="file is no folder"):
        require_place(tmp_path / "file", [tmp_path / "file/masks.csv"])
    with pytest.raises(UsageError, match=r"a\.png is a folder"):
        require_place(tmp_path / "masks", [tmp_path / "masks/a.png"])
    require_place(tmp_path / "masks", [tmp_path / "masks/masks.csv"])


def test_what_a_link_leads_to_is_written_and_the_link_stays(
    finished: Study, eyes: dict, tmp_path: Path
) -> None:
    (tmp_path / "real.csv").write_text("older")
    for link, target in (("link.csv", "real.csv"), ("early.csv", "late.csv")):
        (tmp_path / link).symlink_to(tmp_path / target)
        answer(finished, eyes, tmp_path / link)
        assert (tmp_path / link).is_symlink()
        assert len(table_of(tmp_path / target)) == len(table_of(Path(eyes["table"])))


def test_scratch_lies_beside_the_answer_and_is_gone_afterwards(
    finished: Study, eyes: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def look() -> bool:
        seen.extend(tmp_path.iterdir())
        return False

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "no such folder"))
    answer(finished, eyes, tmp_path / "x.csv", context=replace(INLINE, should_stop=look))
    assert {path.name[:16] for path in seen} == {".foveal-scratch-"}
    with pytest.raises(Stopped):
        answer(
            finished, eyes, tmp_path / "y.csv", context=replace(INLINE, should_stop=lambda: True)
        )
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


def test_a_disk_too_full_for_pictures_changes_no_answer(
    finished: Study, eyes: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(finished, eyes, tmp_path / "x.csv", scores=True)
    tried: list[int] = []

    def full(_descriptor: int, _start: int, length: int) -> None:
        tried.append(length)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    answer(finished, eyes, tmp_path / "y.csv", scores=True)
    assert tried
    assert (tmp_path / "y.csv").read_bytes() == (tmp_path / "x.csv").read_bytes()


@pytest.mark.parametrize("place", ["in/a.png", "in", "in/*.png"])
def test_no_mask_is_written_among_slices(finished: Study, tmp_path: Path, place: str) -> None:
    case = Case(id="a", paths=(str(tmp_path / place),))
    (tmp_path / "in").mkdir()
    look = partial(keep_what_is_read, study=finished, table=tmp_path / "t.csv", cases=[case])
    with pytest.raises(UsageError, match="over what is read, or among it"):
        look([tmp_path / "in/a.png"])
    look([tmp_path / "out/a.png", tmp_path / "in/deeper/a.png"][: 1 if "*" in place else 2])


@pytest.mark.parametrize("name", ["combine/answers.json", "split/x.csv", "members/floor/0/x.csv"])
def test_no_answer_is_written_among_what_stages_wrote(
    finished: Study, eyes: dict, tmp_path: Path, name: str
) -> None:
    with pytest.raises(UsageError, match="over what is read, or among it"):
        answer(finished, eyes, finished.folder / name)


def test_a_region_that_only_new_volumes_have_is_used(scans: dict, tmp_path: Path) -> None:
    rows = table_of(Path(scans["table"]))
    folder = Path(scans["table"]).parent
    bare = folder / "bare.csv"
    kept = [name for name in rows[0] if name != "region"]
    bare.write_text("\n".join([",".join(kept), *(",".join(r[k] for k in kept) for r in rows)]))
    study = stages.init(
        tmp_path / "s", recipe="segment:small", context=INLINE, **{**scans, "table": bare}
    )
    given = load(_source(study, Path(scans["table"]), ""))
    assert [len(paths) for paths in given.paths] == [2 if r["region"] else 1 for r in rows]
    assert {len(paths) for paths in load(_source(study, bare, "")).paths} == {1}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": "abc"}, r'option size="abc": .*HEIGHTxWIDTH'),
        ({"cuts": "best"}, r'option cuts="best": .*cuts: closed_form, exact'),
        ({"folds": 1}, r'option folds="1": .*`site` to leave one site out'),
        ({"epochs": 0.5}, r'option epochs="0.5"'),
    ],
    ids=["size", "cuts", "folds", "epochs"],
)
def test_an_option_that_does_not_fit_is_refused_with_its_meaning_before_anything_is_read(
    eyes: dict, tmp_path: Path, options: dict, words: str
) -> None:
    heard: list = []
    context = replace(INLINE, progress=lambda *of: heard.append(of))
    with pytest.raises(UsageError, match=words):
        stages.init(tmp_path / "s", recipe="grade:small", options=options, context=context, **eyes)
    assert not heard


def test_with_a_deadline_whoever_is_finished_answers(finished: Study) -> None:
    rows = read_json(finished.answers_file)["rows"]
    steps = _steps(rows, "mean of all")
    members = [tuple(step["members"]) for step in steps]
    every = members[-1]
    assert steps[-1] == rows["mean of all"][-1]
    assert {(name,) for name in every} <= {*members}
    assert [len(some) for some in members] == sorted(len(some) for some in members)
    assert members.count(every) == 1


def test_of_as_many_members_the_better_row_answers() -> None:
    def step(*members: str, score: float | None = None) -> dict:
        return {"members": list(members)} | ({} if score is None else {"score": score})

    every = [step("a"), step("a", "b"), step("a", "b", "c", score=0.9)]
    rows = {
        "b": [step("b", score=0.8)],
        "a": [step("a", score=0.3)],
        "c": [step("c", score=0.5)],
        "all": every,
        "bc": [step("b"), step("b", "c", score=0.7)],
    }
    told = [("".join(s["members"]), s.get("score")) for s in _steps(rows, "all")]
    assert told == [
        ("a", None), ("a", 0.3), ("c", 0.5), ("b", 0.8), ("ab", None), ("bc", 0.7), ("abc", 0.9),
    ]  # fmt: skip


def limited(study: Study, eyes: dict, out: Path, **more: object) -> object:
    deadline = Deadline(600.0, time.monotonic())
    asked = {"table": eyes["table"], "images": eyes["images"], "context": INLINE}
    return stages.predict(study, out=out, deadline=deadline, **{**asked, **more})


def test_under_a_deadline_members_that_fail_leave_the_others_to_answer(
    finished: Study, eyes: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    context = replace(INLINE, warn=lambda text, about: warned.append(text))
    failing = {"regression"}

    def states_of(folder: Path) -> State:
        if folder.parent.name in failing:
            raise MemoryBudgetError("too big")
        return load_state(folder)

    monkeypatch.setattr(import_module("foveal.stages.predict"), "load_state", states_of)
    asked = {"answer": "mean of all", "context": context}
    answered = limited(finished, eyes, tmp_path / "a.csv", **asked)
    assert (answered.members, len(answered.all_members)) == (("floor",), 2)
    assert "regression cannot answer: too big" in warned
    answer(finished, eyes, tmp_path / "floor.csv", answer="floor")
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "floor.csv").read_text()
    failing.add("floor")
    with pytest.raises(MemoryBudgetError, match="too big"):
        limited(finished, eyes, tmp_path / "a.csv", **asked)
    failing.remove("floor")
    with pytest.raises(MemoryBudgetError, match="too big"):  # without a deadline all are waited for
        answer(finished, eyes, tmp_path / "b.csv", answer="mean of all")


def test_a_call_with_a_deadline_that_is_refused_leaves_the_answer_of_before(
    finished: Study, eyes: dict, tmp_path: Path
) -> None:
    out = tmp_path / "a.csv"
    study = edited(finished, tmp_path / "s", "views: centre", "views: flips")
    out.write_text("of before")
    with pytest.raises(StudyError):
        limited(study, eyes, out)
    assert out.read_text() == "of before"
    same = edited(finished, tmp_path / "t", "folds: 3", "folds: 3\n  cache_gb: 3")
    limited(same, eyes, out)  # edited, but nothing of weight
    assert len(out.read_text().splitlines()) == 37


def test_a_stopped_prediction_does_not_say_that_it_goes_on(
    finished: Study, eyes: dict, tmp_path: Path
) -> None:
    context = replace(INLINE, should_stop=lambda: True)
    with pytest.raises(Stopped, match="begins anew"):
        answer(finished, eyes, tmp_path / "a.csv", context=context)


def test_reading_is_told_of_file_by_file_and_stops_between(eyes: dict) -> None:
    """A file may take minutes."""
    survey = import_module("foveal.stages.init")._survey
    manifest, begun, told = load(Source(table=eyes["table"], images=eyes["images"])), [], []

    def slow(case: Case) -> None:
        begun.append(case.id)
        time.sleep(0.5)

    family = replace(import_module("foveal.recipes.grade").FAMILY, survey=slow)
    stops = iter([False, False, False, False, True])
    context = Context(progress=lambda *of: told.append(of), should_stop=lambda: next(stops))
    with pytest.raises(Stopped, match="begins anew"):
        survey(manifest, Source(table=eyes["table"]), family, context)
    assert len(begun) <= 2 * cores() < len(manifest)
    assert all(0 < share < 0.2 for _, share, _ in told)


def test_an_id_that_makes_too_long_a_name_is_refused_before_anything_is_scored(
    tmp_path: Path,
) -> None:
    with pytest.raises(UsageError, match="too long"):
        require_place(tmp_path / "out", [tmp_path / "out" / ("x" * 240 + ".png")])


def test_somebody_new_has_a_name(flukes: dict, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r'option new="".*at least 1 character'):
        stages.init(
            tmp_path / "s", recipe="identify:small", options={"new": ""}, context=INLINE, **flukes
        )


def test_decisions_are_made_with_one_thread(
    finished: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, seen = edited(finished, tmp_path / "s", "views: centre", "views: centre"), []
    shutil.rmtree(study.combine_folder)

    def look(*given: object, **more: object) -> object:
        seen.extend(pool["num_threads"] for pool in threadpool_info())
        return rank(*given, **more)

    monkeypatch.setattr(sys.modules["foveal.stages.combine"], "rank", look)
    with threadpool_limits(2):
        stages.combine(study, INLINE)
    assert set(seen) == {1}


def test_decisions_stop_when_they_are_asked_to_and_go_on_later(
    finished: Study, tmp_path: Path
) -> None:
    study = edited(finished, tmp_path / "s", "views: centre", "views: centre")
    board = study.leaderboard_file.read_bytes()
    shutil.rmtree(study.combine_folder)
    asked: list[bool] = []

    def soon() -> bool:
        asked.append(True)
        return len(asked) > 5

    with pytest.raises(Stopped):
        stages.combine(study, replace(INLINE, should_stop=soon))
    assert len(asked) == 6
    assert not study.leaderboard_file.exists()
    stages.combine(study, INLINE)
    assert study.leaderboard_file.read_bytes() == board


def test_a_volume_that_went_away_is_no_training_that_is_done(scans: dict, tmp_path: Path) -> None:
    table = shutil.copytree(Path(scans["table"]).parent, tmp_path / "scans") / "scans.csv"
    options = {"members": "floor", "trees": 2, "folds": 2, "lattice": 8, "size": 64}
    study = stages.init(
        tmp_path / "s", **{**scans, "table": table}, recipe="segment:small", options=options
    )
    stages.split(study)
    opened, made = open_split(study)
    gone = next(c for k, c in enumerate(opened.manifest.cases()) if made.fold[k] == 0)
    place = Path(gone.paths[0])
    place.rename(place.with_name("away"))
    with pytest.raises(ManifestError, match="held-out cases") as caught:
        stages.train(study, fold=0, context=INLINE)
    assert gone.id.split("/")[0] in caught.value.culprits[0]
    place.with_name("away").rename(place)
    stages.train(study, fold=0, context=INLINE)
    assert len(Predictions.open(study.job_folder("floor", 0), prefix=SCORES)) == 2


def test_members_of_one_name_are_refused(scans: dict, tmp_path: Path) -> None:
    twice = {"backbone": "resnet18, resnet18", "weights": "none", "folds": 2}
    with pytest.raises(UsageError, match="members of one name: resnet18-3x9, resnet18-5x7"):
        stages.init(tmp_path / "s", **scans, recipe="segment:vesuvius", options=twice)


@pytest.mark.parametrize("role", ["group", "site", "source"])
def test_words_for_nothing_are_told_to_be_names(eyes: dict, tmp_path: Path, role: str) -> None:
    table = tmp_path / "t.csv"
    with Path(eyes["table"]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    cells = ["NA" if k < 5 else "" if k < 9 else f"p{k}" for k in range(len(rows))]
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "said"])
        writer.writeheader()
        writer.writerows({**row, "said": cell} for row, cell in zip(rows, cells, strict=True))
    heard: list[str] = []
    context = replace(INLINE, warn=lambda text, about: heard.append(text))
    stages.init(
        tmp_path / "s",
        **{**eyes, "table": table, "columns": {role: "said"}},
        recipe="grade:small",
        options={**FAST, "members": "floor"},
        context=context,
    )
    (found,) = [text for text in heard if '"NA"' in text]
    assert found.startswith(f'5 cases say "NA" in the column of the {role}, and are one {role}')


def test_the_column_of_slices_is_no_target(scans: dict, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="segment:small reads pictures from that column"):
        stages.init(tmp_path / "s", **{**scans, "target": "slices"}, recipe="segment:small")


def test_a_share_of_new_ones_needs_a_word_for_them(flukes: dict, tmp_path: Path) -> None:
    options = {"new_share": 0.5, "members": "floor", "folds": 2}
    with pytest.raises(UsageError, match="new_share= acts with new= alone"):
        stages.init(tmp_path / "s", **flukes, recipe="identify:small", options=options)


def test_cures_can_be_typed_whatever_the_folder_is_called(
    finished: Study, eyes: dict, tmp_path: Path
) -> None:
    study = edited(finished, tmp_path / "my study #1", "size: 32", "size: 64")
    with pytest.raises(StudyError) as caught:
        answer(study, eyes, tmp_path / "x.csv", answer="regression")
    assert f"cure: foveal run '{study.folder}'" in str(caught.value)


def test_slices_that_seem_to_be_missing_make_an_answer_doubtful(
    tmp_path: Path, scans: dict
) -> None:
    options = {"members": "floor", "trees": 2, "folds": 2, "lattice": 8, "size": 64}
    study = stages.init(tmp_path / "s", **scans, recipe="segment:small", options=options)
    stages.run(study, INLINE)
    folder = tmp_path / "gap"
    folder.mkdir()
    for k in (1, 2, 3, 5, 6, 7, 8):
        plane = np.random.default_rng(k).integers(0, 255, (70, 80), np.uint8)
        cv2.imwrite(str(folder / f"{k:03}.png"), plane)
    (tmp_path / "new.csv").write_text(f"id,slices\nx,{folder}\n")
    heard: list[tuple] = []
    context = replace(INLINE, warn=lambda *said: heard.append(said))
    stages.predict(study, table=tmp_path / "new.csv", out=tmp_path / "o", context=context)
    (found,) = [about for text, about in heard if "doubtful" in text]
    assert found == ['id "x": slices seem to be missing: 003.png is followed by 005.png']


def test_a_volume_of_few_slices_or_of_other_bits_makes_an_answer_doubtful(tmp_path: Path) -> None:
    def written(folder: Path, slices: int, dtype: type, white: int) -> Path:
        folder.mkdir()
        for k in range(slices):
            rng = np.random.default_rng([k, *folder.name.encode()])
            plane = rng.integers(0, white, (64, 64)).astype(dtype)
            cv2.imwrite(str(folder / f"{k}.png"), plane)
        return folder

    rows = ["id,slices,target"]
    for name in "abcd":
        mask = np.random.default_rng(0).integers(0, 2, (8, 8), np.uint8).repeat(8, 0).repeat(8, 1)
        cv2.imwrite(str(tmp_path / f"{name}.png"), mask * 255)
        rows.append(f"{name},{written(tmp_path / name, 6, np.uint16, 30_000)},{name}.png")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    options = {"members": "floor", "trees": 2, "folds": 2, "lattice": 8, "size": 64}
    of = {"table": tmp_path / "t.csv", "target": "target"}
    study = stages.init(tmp_path / "s", **of, recipe="segment:small", options=options)
    stages.run(study, INLINE)
    few, light = (written(tmp_path / n, *of) for n, of in {
        "few": (3, np.uint16, 30_000), "light": (6, np.uint8, 117)}.items())  # fmt: skip
    (tmp_path / "new.csv").write_text(f"id,slices\nx,{few}\ny,{light}\n")
    heard: list[tuple] = []
    context = replace(INLINE, warn=lambda *said: heard.append(said))
    stages.predict(study, table=tmp_path / "new.csv", out=tmp_path / "o", context=context)
    (found,) = [about for text, about in heard if "doubtful" in text]
    assert found == [
        'id "x": 3 slices where 6 are looked at: edges repeated',
        'id "y": 8 bit, where the study has 15 bits in 16: taken to be brightened 2 times when it '
        "was made",
    ]


def test_a_leaderboard_of_an_older_foveal_is_refused_with_its_cure(
    finished: Study, eyes: dict, tmp_path: Path
) -> None:
    study = edited(finished, tmp_path / "s", "views: centre", "views: centre")
    old = {k: v for k, v in read_json(study.answers_file).items() if k != "devices"}
    study.answers_file.write_text(json.dumps(old))
    with pytest.raises(StudyError, match=r"older than its options.*cure: foveal run"):
        answer(study, eyes, tmp_path / "x.csv")


def test_a_place_where_no_study_can_be_is_refused_before_anything_is_read(
    eyes: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(sys.modules["foveal.stages.init"], "_survey", None)
    for place in (tmp_path / "file" / "study", tmp_path / "file" / "deep" / "study"):
        with pytest.raises(UsageError, match="file cannot be written; cure: another folder"):
            make(place, eyes)
