"""Scores keep their ids, shapes and gaps through disk, choice and joining."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import ShapeError, StudyError
from foveal.predictions import NO_FOLD, Predictions, join


def graded(ids: str, fold: int, **known) -> Predictions:
    """One case a letter, with the columns x and y."""
    values = np.array([[ord(i), -ord(i)] for i in ids], dtype=np.float32).reshape(-1, 2)
    folds = np.full(len(ids), fold)
    return Predictions.of(list(ids), values, columns=("x", "y"), fold=folds, **known)


def masks(shapes: list[tuple[int, ...]], ids: list[str]) -> Predictions:
    sizes = [int(np.prod(s)) for s in shapes]
    return Predictions(
        ids=tuple(ids),
        values=np.arange(sum(sizes), dtype=np.float32),
        shapes=tuple(shapes),
        columns=(),
        fold=np.arange(len(ids)) % 3 - 1,
        seconds=np.arange(len(ids)) / 7,
        peak_bytes=np.arange(len(ids)) * 1e9,
    )


def written(folder: Path, predictions: Predictions, prefix: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    for name, data in predictions.files().items():
        (folder / (prefix + name)).write_bytes(data)
    return folder


def assert_same(got: Predictions, wanted: Predictions) -> None:
    assert (got.ids, got.shapes, got.columns) == (wanted.ids, wanted.shapes, wanted.columns)
    assert dict(got.known) == dict(wanted.known)
    for name in ("values", "fold", "seconds", "peak_bytes"):
        np.testing.assert_array_equal(getattr(got, name), getattr(wanted, name))


@settings(max_examples=30, deadline=None, database=None)
@given(
    ids=st.lists(st.text(st.characters(codec="utf-8")), max_size=4, unique=True),
    shapes=st.lists(
        st.lists(st.integers(0, 4), max_size=3).map(tuple), min_size=4, max_size=4
    ),
)  # fmt: skip
def test_ragged_masks_with_any_id_come_back_from_disk(tmp_path_factory, ids, shapes):
    wanted = masks(shapes[: len(ids)], ids)
    got = Predictions.open(written(tmp_path_factory.mktemp("p"), wanted))
    assert_same(got, wanted)
    start = 0
    for (name, array), i, shape in zip(got.arrays(), ids, shapes, strict=False):
        assert (name, array.shape) == (i, shape)
        assert array.reshape(-1).tolist() == list(range(start, start + array.size))
        start += array.size
    assert start == len(wanted.values)


def test_two_predictions_share_a_folder_under_prefixes(tmp_path):
    known = {2: ("x",), 0: ("x", "y")}
    first, second = graded("ab", 2, known=known), graded("c", 0, seconds=0.25, peak_bytes=3e9)
    written(written(tmp_path, first, "oof-"), second, "new-")
    assert_same(Predictions.open(tmp_path, "oof-"), first)
    assert_same(Predictions.open(tmp_path, "new-"), second)


def test_values_are_mapped_and_cannot_be_written(tmp_path):
    opened = Predictions.open(written(tmp_path, graded("ab", 0)))
    with pytest.raises(ValueError, match="read-only"):
        opened.matrix().values[0, 0] = 1


@pytest.mark.parametrize("name", ["values.npy", "index.json"])
def test_missing_or_truncated_files_are_no_predictions(tmp_path, name):
    written(tmp_path, graded("ab", 0))
    data = (tmp_path / name).read_bytes()
    for kept in (len(data) - 1, len(data) // 2, 7):
        (tmp_path / name).write_bytes(data[:kept])
        with pytest.raises(StudyError, match=str(tmp_path)):
            Predictions.open(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(StudyError, match=str(tmp_path)):
        Predictions.open(tmp_path)


def test_another_format_is_refused(tmp_path):
    written(tmp_path, graded("a", 0))
    index = tmp_path / "index.json"
    index.write_text(index.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(StudyError, match="format 2"):
        Predictions.open(tmp_path)


def test_a_column_is_absent_only_for_cases_of_folds_that_did_not_know_it():
    joined = join([graded("ab", 0, known={0: ("y",)}), graded("c", 1), graded("d", NO_FOLD)])
    wanted = [[False, True], [False, True], [True, True], [True, True]]
    assert joined.matrix().present.tolist() == wanted
    assert joined.matrix(slice(1, 3)).present.tolist() == wanted[1:3]
    assert joined.take(["d", "b"]).matrix().present.tolist() == [wanted[3], wanted[1]]


def test_blocks_of_a_walk_make_up_the_whole():
    whole = graded("abcdefg", 0)
    width = len(whole.columns)
    for size in (1, 3, 7, 100):
        parts = [whole.matrix(rows).values for rows in whole.walk(size * width)]
        assert max(map(len, parts)) <= size
        np.testing.assert_array_equal(np.concatenate(parts), whole.matrix().values)
    assert list(graded("", 0).walk()) == []


def test_take_aligns_values_folds_and_costs_by_id():
    wanted = masks([(2, 3), (), (1,), (0, 5)], ["a", "b", "c", "d"])
    taken = wanted.take(["c", "d", "a"])
    arrays, before = dict(taken.arrays()), dict(wanted.arrays())
    assert list(arrays) == ["c", "d", "a"]
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, before[name])
    np.testing.assert_array_equal(taken.fold, wanted.fold[[2, 3, 0]])
    np.testing.assert_array_equal(taken.seconds, wanted.seconds[[2, 3, 0]])
    assert len(wanted.take([])) == 0


def test_take_names_a_case_without_a_prediction():
    with pytest.raises(ShapeError, match='2 cases have no prediction, the first is "é"'):
        graded("ab", 0).take(["a", "é", "z"])


def test_join_refuses_other_columns_and_shared_cases():
    other = Predictions.of(["c"], np.zeros((1, 2), np.float32), columns=("y", "x"))
    with pytest.raises(ShapeError, match="columns"):
        join([graded("ab", 0), other])
    with pytest.raises(ShapeError, match="twice"):
        join([graded("ab", 0), graded("b", 1)])


def test_parts_that_do_not_fit_are_refused():
    whole = masks([(2,), (1,)], ["a", "b"])
    for change in (
        {"values": whole.values[:-1]},
        {"shapes": ((3,),)},
        {"ids": ("a", "a")},
        {"shapes": ((2,), (2,))},
    ):
        with pytest.raises(ShapeError):
            replace(whole, **change)
    with pytest.raises(ShapeError, match="2 values a case for 1 columns"):
        Predictions.of(["a"], np.zeros((1, 2), np.float32), columns=("x",))
    with pytest.raises(ShapeError, match="no named columns"):
        whole.matrix()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_finite_numbers_are_named(value):
    of = graded("abc", 0)
    assert of.not_numbers() == []
    values = of.values.copy()
    values[3] = value
    assert replace(of, values=values).not_numbers() == ["b"]
