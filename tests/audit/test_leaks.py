from dataclasses import replace

import numpy as np
import pytest

from conftest import aptos, truth_of
from foveal.audit.leaks import (
    CURES,
    conflicting_duplicates,
    label_telltales,
    telltales,
    told_by,
)
from foveal.manifest import Manifest


def test_the_picture_size_of_aptos_tells_the_grade() -> None:
    size, grade = aptos()
    told = told_by(np.array([f"size {s}" for s in size]), truth_of(grade), 5)
    assert told == pytest.approx(0.729, abs=0.02)


def test_a_shuffled_size_tells_nothing() -> None:
    size, grade = aptos()
    shuffled = np.random.default_rng(0).permutation(size)
    assert told_by(shuffled, truth_of(grade), 5) < 0.08


def test_one_size_tells_nothing() -> None:
    assert told_by(np.array(["a"] * 4), truth_of(np.array([0, 1, 2, 3])), 4) == 0


def test_equal_pictures_with_other_grades_are_listed() -> None:
    manifest = Manifest(
        ids=("a", "b", "c", "d"),
        paths=(("x",),) * 4,
        id_column="id",
        target=np.array([["0"], ["1"], ["0"], ["2"]]),
        target_columns=("grade",),
        measured={"sha256": np.array(["s", "s", "t", "t"])},
    )
    found = conflicting_duplicates(manifest, np.array([0, 1, 0, 0]))
    assert found == [("a", "b")]


@pytest.mark.parametrize("role", ["site", "source"])
def test_a_role_that_tells_the_grade_is_said_with_its_cure(role: str) -> None:
    grade = np.tile([0, 0, 1, 1], 15)
    of_grade = np.where(grade > 0, "north", "south")
    roles = {role: of_grade}
    manifest = Manifest(
        ids=tuple(map(str, range(60))),
        paths=(("x",),) * 60,
        id_column="id",
        target=grade[:, None].astype(str),
        target_columns=("grade",),
        roles=roles,
    )
    truth = truth_of(grade)
    (said,) = telltales(manifest, truth)
    assert said.startswith(f"the {role} alone tells the grade with a quadratic kappa of 1.00")
    assert "; cure: " in said
    (kept,) = telltales(replace(manifest, roles={**roles, "group": of_grade}), truth)
    assert "cure" not in kept
    some = {**roles, "group": np.where(np.arange(60) < 30, of_grade, "")}
    assert telltales(replace(manifest, roles=some), truth) == [said]
    mixed = {**roles, "group": np.tile(["a", "b", "c", "d", "e"], 12)}
    assert telltales(replace(manifest, roles=mixed), truth) == [said]
    shuffled = np.random.default_rng(0).permutation(of_grade)
    assert telltales(replace(manifest, roles={role: shuffled}), truth) == []


def test_a_role_that_tells_labels_names_them_the_surest_first() -> None:
    rng = np.random.default_rng(0)
    site = np.where(np.arange(400) % 2, "north", "south")
    sure, likely, free = site == "north", rng.random(400) < 0.5, rng.random(400) < 0.5
    likely = np.where(rng.random(400) < 0.6, sure, likely)
    words = [
        " ".join(name for name, has in zip(("free", "likely", "sure"), row, strict=True) if has)
        for row in zip(free, likely, sure, strict=True)
    ]
    manifest = Manifest(
        ids=tuple(map(str, range(400))),
        paths=(("x",),) * 400,
        id_column="id",
        target=np.array(words)[:, None],
        target_columns=("labels",),
        roles={"site": site},
        measured={"label_names": np.array(words)},
    )
    (said,) = label_telltales(manifest)
    assert said.startswith("the site alone tells sure with a kappa of 1.00, likely with a kappa of")
    assert "free" not in said
    assert said.endswith(CURES["site"])
    alone = {"site": site, "group": site}
    assert "cure" not in label_telltales(replace(manifest, roles=alone))[0]
    assert label_telltales(replace(manifest, roles={"site": rng.permutation(site)})) == []


@pytest.mark.parametrize(
    ("cases", "share", "rates"),
    [(2000, 0.3, (0.30, 0.03)), (1000, 0.5, (0.25, 0.02)), (2000, 0.5, (0.40, 0.10))],
)
def test_a_role_that_tells_a_rare_label_is_said_too(
    cases: int, share: float, rates: tuple[float, float]
) -> None:
    rng = np.random.default_rng(0)
    is_first = rng.random(cases) < share
    has = rng.random(cases) < np.where(is_first, *rates)
    manifest = Manifest(
        ids=tuple(map(str, range(cases))),
        paths=(("x",),) * cases,
        id_column="id",
        target=has.astype(np.int64).astype(np.str_)[:, None],
        target_columns=("rare",),
        roles={"site": np.where(is_first, "A", "B")},
        measured={"label_names": np.where(has, "rare", "")},
    )
    (said,) = label_telltales(manifest)
    assert said.startswith("the site alone tells rare with a kappa of")


def test_the_cure_for_picture_sizes_takes_no_groups_away() -> None:
    size, grade = aptos()
    cases = len(grade)
    manifest = Manifest(
        ids=tuple(map(str, range(cases))),
        paths=(("x",),) * cases,
        id_column="id",
        target=grade.astype(np.str_)[:, None],
        target_columns=("grade",),
        measured={"image_size": size.astype(np.str_)},
    )
    (plain,) = telltales(manifest, truth_of(grade))
    assert "--group image_size" in plain
    patients = {"group": np.arange(cases).astype(np.str_)}
    (grouped,) = telltales(replace(manifest, roles=patients), truth_of(grade))
    assert "--group image_size" not in grouped
    assert "cure: a --group column of your own" in grouped
