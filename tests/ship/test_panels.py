"""Sections of the report: groups and folds are those of the split, masks are read once."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import INK, INLINE
from foveal import lattice, stages
from foveal.digests import revive
from foveal.errors import UnreadableImage
from foveal.files import csv_text, write_text
from foveal.manifest import Manifest, Window
from foveal.predictions import Predictions
from foveal.ship.panels import grade, segment
from foveal.ship.panels.slide import by_site
from foveal.ship.panels.study import chosen_step, folds, groups_of, oof, split_of
from foveal.split import Folds
from foveal.split.record import NONE, Split
from foveal.study import Study


def table_of(ids: list[str], **roles: list[str]) -> Manifest:
    """Cases of two grades."""
    grades = [str(k // 2 % 2) for k in range(len(ids))]
    return Manifest(
        ids=tuple(ids),
        paths=tuple((f"/{k}.tiff",) for k in range(len(ids))),
        id_column="id",
        target=np.array([[g] for g in grades]),
        target_columns=("grade",),
        roles={name: np.array(values, np.str_) for name, values in roles.items()},
    )


SPLIT_NOTES = {"imbalance": 0.0, "counted": "labels", "notes": []}


def study_of(folder: Path, manifest: Manifest, made: Split) -> Study:
    """What panels look at, of a study that grades every case rightly."""
    study = Study(folder)
    write_text(study.manifest_file, manifest.to_csv())
    write_text(study.folds_file, made.to_csv(manifest.ids))
    write_text(study.split_folder / "split.json", json.dumps(SPLIT_NOTES))
    step = {"members": ["floor"], "decode": {"cuts": [0.5]}}
    answers = {"chosen": "floor", "rows": {"other": [], "floor": [{}, step]}}
    write_text(study.combine_folder / "answers.json", json.dumps(answers))
    grades = manifest.target[:, 0].tolist()
    columns = (manifest.ids, made.fold.tolist(), grades, grades, grades, manifest.weight.tolist())
    rows = zip(*columns, strict=True)
    head = ("id", "fold", "truth", "label", "score", "weight")
    write_text(study.combine_folder / "oof.csv", csv_text([head, *rows]))
    return study


NAMES = [f"c{k:02}" for k in range(12)]
THREE = [f"p{k // 4}" for k in range(12)]


@pytest.mark.parametrize("group", [None, [""] * 12, ["p"] * 4 + [""] * 8, THREE])
@pytest.mark.parametrize("sha256", [None, THREE])
def test_sites_have_the_groups_of_the_split(
    tmp_path: Path, group: list[str] | None, sha256: list[str] | None
) -> None:
    """An empty cell is a group of its own, and pictures equal byte for byte are of one."""
    roles = {} if group is None else {"group": group}
    manifest = table_of(NAMES, site=["A"] * 12, **roles)
    if sha256 is not None:
        manifest = replace(manifest, measured={"sha256": np.array(sha256)})
    body = by_site(study_of(tmp_path, manifest, Folds(2)(manifest))).body
    assert ("too few groups" in body) is (THREE in (group, sha256))


def test_names_with_line_ends_of_other_systems_are_names(tmp_path: Path) -> None:
    manifest = table_of(["a\r\nb", "c\nd", "e", "f"])
    made = Folds(2)(manifest)
    study = study_of(tmp_path, manifest, made)
    np.testing.assert_array_equal(split_of(study).fold, made.fold)
    np.testing.assert_array_equal(groups_of(study, ["e", "a\r\nb"]), made.group[[2, 0]])
    assert "fold 1" in folds(study).body
    assert "0.0 % of the labels would have to move" in folds(study).lead


def test_parts_of_a_case_have_groups_of_their_own(tmp_path: Path) -> None:
    manifest = table_of(["a", "b"])
    windows = [Window(top=0, left=8 * k, height=8, width=8) for k in (0, 1, 0, 1)]
    made = Split(
        fold=np.array([0, 1, 0, NONE]),
        hidden=np.full(4, NONE),
        group=np.array([5, 6, 7, 8]),
        kind=np.array(["x"] * 4),
        imbalance=0.0,
        row=np.array([0, 0, 1, 1]),
        window=tuple(windows),
    )
    study = Study(tmp_path)
    write_text(study.manifest_file, manifest.to_csv())
    write_text(study.folds_file, made.to_csv(manifest.ids))
    assert groups_of(study, ["b/0", "a/1", "b/1"]).tolist() == [7, 6, 8]


def test_the_step_that_answers_is_the_last_of_the_chosen_row(tmp_path: Path) -> None:
    manifest = table_of(NAMES)
    study = study_of(tmp_path, manifest, Folds(2)(manifest))
    assert chosen_step(study) == {"members": ["floor"], "decode": {"cuts": [0.5]}}


def test_rows_of_no_weight_are_shown_nowhere(tmp_path: Path) -> None:
    """Every second case is wrong, and of no weight."""
    manifest = table_of(NAMES, weight=["1", "0"] * 6)
    study = study_of(tmp_path, manifest, Folds(2)(manifest))
    text = study.out_of_fold_file.read_text().splitlines()
    wrong = [re.sub(r",\d,0\.0$", ",7,0.0", line) for line in text]
    assert len({*wrong} - {*text}) == 6
    study.out_of_fold_file.write_text("\n".join(wrong))
    page = grade.confusion(study)
    assert "100 % are exactly right" in page.lead
    assert re.findall(r'class="hit">(\d+)', page.body) == ["3", "3"]
    shown = re.findall(r"<b>(\w+)</b>", grade.worst_cases(study).body)
    assert sorted(shown) == NAMES[::2]


# --- masks ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def segmented(tmp_path_factory: pytest.TempPathFactory, scans: dict) -> Study:
    options = {**INK, "members": "floor"}
    folder = tmp_path_factory.mktemp("segmented") / "study"
    study = stages.init(folder, recipe="segment:small", options=options, **scans)
    stages.run(study, INLINE)
    return study


def test_masks_are_read_once_and_only_shown_units_are_decided(
    segmented: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    decided: list[int] = []
    kind = type(revive(chosen_step(segmented)["decode"]))
    whole, decide = lattice.read_mask, kind.__call__

    def noted(path: str, *more: object) -> np.ndarray:
        read.append(path)
        return whole(path, *more)

    def counted(decode: object, predictions: Predictions) -> list[np.ndarray]:
        decided.append(len(predictions.ids))
        return decide(decode, predictions)

    monkeypatch.setattr(lattice, "read_mask", noted)
    monkeypatch.setattr(segment, "SHOWN", 3)
    monkeypatch.setattr(kind, "__call__", counted)
    page = "".join(panel(segmented).body for panel in segment.MASK_PANELS)
    manifest = segmented.manifest()
    regions = [paths[1] for paths in manifest.paths if len(paths) > 1]
    assert sorted(read) == sorted([*manifest.target[:, 0].tolist(), *regions])
    assert decided == [3]
    assert page.count('<div class="triple">') == 3


@pytest.mark.parametrize(("beta", "name", "words"), [(4.0, "f_4", "F4"), (1.0, "dice", "Dice")])
def test_units_are_judged_by_what_the_study_is_judged_by(
    segmented: Study, tmp_path: Path, beta: float, name: str, words: str
) -> None:
    study = Study(tmp_path / "s")
    shutil.copytree(segmented.folder, study.folder)
    text = study.settings_file.read_text()
    study.settings_file.write_text(text.replace("options:\n", f"options:\n  beta: {beta}\n"))
    stages.run(study, INLINE)
    body = segment.masks(study).body
    scores = {row["id"]: float(row[name]) for row in oof(study)}
    shown = re.findall(r"(\w+), the middle slice", body)
    assert shown == sorted(scores, key=lambda name: scores[name])
    assert body.count(f"<figcaption>{words} ") == len(shown)
    assert body.count(f">{words}</th>") == 1


def test_units_of_no_weight_are_not_shown(segmented: Study, tmp_path: Path) -> None:
    study = Study(tmp_path / "s")
    shutil.copytree(segmented.folder, study.folder)
    manifest = study.manifest()
    weights = np.array(["0", *["1"] * (len(manifest) - 1)])
    roles = {**manifest.roles, "weight": weights}
    write_text(study.manifest_file, replace(manifest, roles=roles).to_csv())
    shown = re.findall(r"(\w+), the middle slice", segment.masks(study).body)
    assert set(shown) < set(re.findall(r"(\w+), the middle slice", segment.masks(segmented).body))


def test_where_slices_are_gone_the_report_shows_the_rest(
    segmented: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(place: str) -> object:
        raise UnreadableImage(f"{place}: no such file, folder or pattern of slices")

    whole = segment.masks(segmented).body
    monkeypatch.setattr(segment, "find_slices", gone)
    body = segment.masks(segmented).body
    assert body.count("the middle slice") == whole.count("the middle slice")
    assert body.count("<img") == whole.count("<img") * 2 // 3


def test_pictures_of_masks_are_the_worst_and_say_whose_cut_they_show(segmented: Study) -> None:
    body = segment.masks(segmented).body
    table, _, pictures = body.partition("<h3>Pictures</h3>")
    assert "by the cut that answers" in pictures
    assert table.count("<tr>") == 1 + 4
    shown = re.findall(r"(\w+), the middle slice", pictures)
    scores = {row["id"]: float(row["f_0.5"]) for row in oof(segmented)}
    assert shown == sorted(scores, key=lambda name: scores[name])
