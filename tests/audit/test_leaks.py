import numpy as np
import pytest

from conftest import aptos, truth_of
from foveal.audit.leaks import conflicting_duplicates, told_by
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
