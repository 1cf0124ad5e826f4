"""`grade` is built and run for two steps, redoes what changed, and measures what is there."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from conftest import FAST, INLINE, small_study
from effects import digests, tried, untried
from facts import FACTS
from foveal import stages
from foveal.manifest import Manifest, load
from foveal.options import shape_of
from foveal.recipes import classify, grade, multilabel
from foveal.survey import survey
from foveal.table import Source

RECIPES = {
    "small": FAST,
    "aptos": {"size": 32, "folds": 3, "backbone": "mobilenetv3_small_050", "weights": "none"},
}
"""Options that make a recipe quickly built."""

make = partial(small_study, "grade", RECIPES)


@pytest.mark.parametrize("name", ["small", "aptos"])
def test_a_recipe_takes_the_whole_trip(eyes: dict, tmp_path: Path, name: str) -> None:
    options = {
        "size": 32, "epochs": 1, "batch": 16, "folds": 2, "weights": "none",
        "backbone": "lcnet_035", "members": "floor,regression" if name == "small" else "",
    }  # fmt: skip
    if name == "aptos":
        options["members"] = "floor,regression-32,expectation-32"
    study = stages.init(tmp_path / "s", recipe=f"grade:{name}", options=options, **eyes)
    assert stages.run(study, INLINE).is_file()


APPROACHES = {"regression", "cumulative", "expectation"}
NETWORKS = {
    "small": APPROACHES,
    "aptos": {f"{name}-{side}" for name in APPROACHES for side in (32, 224)},
}
MEMBERS = {"networks", "floor", "patches"}
RULES = ("exact", "bagged_exact", "halves", "fifths")
EFFECTS = [
    *((option, value, {"networks"}) for option, value in {
        "backbone": "lcnet_035", "weights": "imagenet", "epochs": 1, "batch": 4,
        "optimiser": "sgd", "lr": 0.01, "warm_up": 0.5, "ema": 0.9, "clip": 0.5, "views": "flips",
        "rotate": 90, "flip": 0.1, "elastic": 0.05, "local_contrast": 4.0, "cutout": 1.0,
        "mixup": 0.7, "cutmix": 0.3, "pooling": "gem", "drop_path": 0.5, "dropout": 0.6,
        "balance": 1.0, "precision": "bf16-mixed", "layout": "contiguous",
    }.items()),
    ("flip", 0.0, {"networks", "patches"}),  # which then tell mirror images apart
    ("crop_border", False, MEMBERS),
    ("trees", 9, {"floor", "patches"}),
    ("words", 9, {"patches"}),
    ("features_size", 128, {"floor", "patches"}),
    *(("cuts", rule, {"decisions"}) for rule in RULES),
    ("grades", 6, {*MEMBERS, "decisions"}),
    ("folds", 2, {*MEMBERS, "split"}),
    ("seed", 1, {*MEMBERS, "split"}),
    ("near_duplicates", True, {"split"}),  # of the same folds, whose groups hold them already
    ("cache_gb", 1.0, set()),
]  # fmt: skip


@pytest.mark.parametrize(("recipe", "option", "value", "touched"), tried(grade, EFFECTS, NETWORKS))
def test_a_changed_option_redoes_what_depends_on_it(
    eyes: dict, redone: Callable, recipe: str, option: str, value: object, touched: set
) -> None:
    assert redone(make, eyes, recipe, **{option: value}) == touched


def test_another_size_is_another_training(eyes: dict, redone: Callable, tmp_path: Path) -> None:
    assert redone(make, eyes, "small", size=48) == APPROACHES
    one, other = (digests(make(tmp_path / f"{k}", eyes, recipe="aptos", size=k)) for k in (32, 48))
    assert {name for name, _ in one.items() ^ other.items()} == {
        f"{name}-{side}" for name in APPROACHES for side in (32, 48)
    }


def test_every_option_has_its_effect_tested() -> None:
    assert untried(grade, EFFECTS) == {name: {"members", "size"} for name in RECIPES}


def measured(eyes: dict) -> tuple[Manifest, grade.Facts]:
    source = Source(table=eyes["table"], images=eyes["images"], target=("grade",), site="clinic")
    manifest = load(source)
    return grade.facts(manifest, [survey(case) for case in manifest.cases()])


def test_a_size_that_tells_the_grade_is_suspicious(eyes: dict) -> None:
    manifest, _ = measured(eyes)
    told = np.where(manifest.target[:, 0].astype(int) > 0, "10x10", "20x20")
    confounded = replace(manifest, measured={**manifest.measured, "image_size": told})
    findings = grade.suspicions(confounded)
    assert "picture size alone" in findings[0]
    assert "--group image_size" in findings[0]


def test_pictures_that_look_alike_and_odd_channels_are_suspicious(eyes: dict) -> None:
    manifest, _ = measured(eyes)
    look, light = np.full(36, "", dtype="U1"), manifest.measured["channel_light"].copy()
    look[3:5], light[7] = "7", "0.5 0.0 " * 3
    odd = {**manifest.measured, "look": look, "channel_light": light}
    findings = grade.suspicions(replace(manifest, measured=odd))
    (alike,) = [f for f in findings if "look nearly like" in f]
    assert "2 pictures look nearly like another one" in alike
    assert f"{manifest.ids[3]}, {manifest.ids[4]}; cure" in alike
    assert any("same everywhere" in f and manifest.ids[7] in f for f in findings)


def test_equal_pictures_with_other_grades_are_found(eyes: dict) -> None:
    manifest, _ = measured(eyes)
    shas = np.array([str(k) for k in range(36)])
    grades = manifest.target[:, 0]
    other = int(np.flatnonzero(grades != grades[0])[0])
    shas[other] = shas[0]
    measured_twice = {**manifest.measured, "sha256": shas}
    findings = grade.suspicions(replace(manifest, measured=measured_twice))
    assert any(manifest.ids[0] in f and manifest.ids[other] in f for f in findings)


@pytest.mark.parametrize("name", ["small", "aptos"])
def test_every_cut_rule_can_be_asked_for(eyes: dict, name: str) -> None:
    _, facts = measured(eyes)
    rules = ("closed_form", *RULES)
    made = [getattr(grade, name)(facts, cuts=rule, weights="none").decode for rule in rules]
    assert len(set(map(repr, made))) == 5


def test_real_photographs_are_surveyed(real_data: Path) -> None:
    folder = real_data / "idrid_grade"
    if not folder.is_dir():
        pytest.skip(f"no {folder}; say where the real images are with --data DIR")
    columns = {"table": str(folder / "labels.csv"), "images": str(folder / "images" / "{image}")}
    manifest = load(Source(**columns, target=("grade",))).take(range(12))
    _, facts = grade.facts(manifest, [survey(case) for case in manifest.cases()])
    assert facts.sizes == {"478x720": 12}
    assert facts.aspect < 1.4


def test_shapes_keep_the_number_of_pixels() -> None:
    for aspect in (0.5, 1.0, 2.0):
        height, width = shape_of(128, aspect)
        assert height * width == pytest.approx(128 * 128, rel=0.15)
        assert width / height == pytest.approx(aspect, rel=0.15)
    assert shape_of("96x160", 1.0) == (96, 160)


def test_grey_and_colour_pictures_may_be_mixed(tmp_path: Path) -> None:
    import cv2

    rng = np.random.default_rng(0)
    rows = ["image,grade"]
    for k in range(12):
        shape = (40, 40) if k % 2 else (40, 40, 3)
        cv2.imwrite(str(tmp_path / f"{k}.png"), rng.integers(0, 255, shape, dtype=np.uint8))
        rows.append(f"{k}.png,{k % 3}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    study = stages.init(
        tmp_path / "s",
        recipe="grade:small",
        table=tmp_path / "t.csv",
        images=str(tmp_path / "{image}"),
        target="grade",
        options={"size": 32, "epochs": 1, "folds": 2, "members": "floor,regression"},
    )
    assert stages.run(study, INLINE).is_file()


def test_the_seed_reaches_cuts_that_are_drawn() -> None:
    made = [grade.small(FACTS[grade], cuts="bagged_exact", seed=k).decode for k in (0, 1)]
    assert [rule.seed for rule in made] == [0, 1]


@pytest.mark.parametrize(
    "family", [grade, multilabel, classify], ids=["grade", "multilabel", "classify"]
)
def test_networks_that_learn_no_mirror_images_see_none_when_they_answer(family) -> None:
    def views(**options: object) -> int:
        made = family.small(FACTS[family], **options)
        return len(next(m for m in made.members if m.kind == "networks").training.views)

    assert (views(), views(flip=0.0)) == (2, 1)
