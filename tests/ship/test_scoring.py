"""Scores of files against scikit-learn, and files that do not fit each other."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, f1_score, fbeta_score

from foveal.errors import DataError, UsageError
from foveal.ship.scoring import METRICS, Scored, score

ORDER = np.random.default_rng(1).permutation(60)


def drawn(below: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, below, shape)


def table(path: Path, **columns: object) -> Path:
    rows = [",".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join([",".join(columns), *rows]) + "\n")
    return path


def of_texts(folder: Path, answer: str, truth: str, metric: str = "quadratic_kappa") -> Scored:
    (folder / "a.csv").write_text(answer)
    (folder / "t.csv").write_text(truth)
    return score(metric, folder / "a.csv", folder / "t.csv")


def test_quadratic_kappa_joins_rows_by_id_and_takes_the_columns_named(tmp_path: Path) -> None:
    y, z = drawn(5, 2, 60)
    truth = table(tmp_path / "t.csv", other=1 - y % 2, grade=y, image=range(60))
    mine = {"grade": [*(f"{g}.0" for g in z[ORDER]), 0], "other": [*(z[ORDER] % 2), 0]}
    answer = table(tmp_path / "a.csv", image=[*ORDER, "new"], **mine)
    got = score("quadratic_kappa", answer, truth)
    assert got.value == pytest.approx(cohen_kappa_score(y, z, weights="quadratic"))
    assert got.interval[0] < got.value < got.interval[1]
    assert (got.cases, got.without_truth) == (60, 1)
    answer = table(tmp_path / "a.csv", **mine, image=[*ORDER, "new"])
    got = score("quadratic_kappa", answer, truth, id_column="image", targets=["other"])
    assert got.value == pytest.approx(cohen_kappa_score(1 - y % 2, z % 2))


def test_macro_f1_of_a_column_for_every_label_or_of_words_in_one(tmp_path: Path) -> None:
    y, z = drawn(2, 2, 60, 3)
    right, mine = (dict(zip(("a", "b", "c"), t.T, strict=True)) for t in (y, z[ORDER]))
    truth = table(tmp_path / "t.csv", id=range(60), **right)
    answer = table(tmp_path / "a.csv", id=ORDER, **mine, remark=["?"] * 60)
    wanted = pytest.approx(f1_score(y, z, average="macro"))
    assert score("macro_f1", answer, truth).value == wanted
    some = score("macro_f1", answer, truth, targets=["b", "c"])
    assert some.value == pytest.approx(f1_score(y[:, 1:], z[:, 1:], average="macro"))
    right, mine = ([" ".join(np.array(["a", "bc", "d"])[r == 1]) for r in t] for t in (y, z))
    truth = table(tmp_path / "t.csv", id=range(60), labels=right)
    answer = table(tmp_path / "a.csv", id=range(60), labels=mine)
    assert score("macro_f1", answer, truth).value == wanted


def test_a_label_of_nobody_is_left_out_of_macro_f1(tmp_path: Path) -> None:
    truth = "id,a,b\nw,1,0\nx,0,0\ny,1,0\nz,1,0\n"
    assert of_texts(tmp_path, truth, truth, "macro_f1")[:2] == (1, (1, 1))
    assert of_texts(tmp_path, truth.replace("x,0,0", "x,0,1"), truth, "macro_f1").value == 0.5


def test_map_at_5_of_names_best_first(tmp_path: Path) -> None:
    answer = "id,who\nx,b a\ny,c\nz,a b c d e f\nw,\n"
    got = of_texts(tmp_path, answer, "id,who\nw,a\nx,a\ny,c\nz,f\n", "map_at_5")
    assert got.value == pytest.approx((0 + 1 / 2 + 1 + 0) / 4)


def test_names_that_no_answer_has_are_told(tmp_path: Path) -> None:
    truth = "id,who\nx,7\ny,8\nz,9\n"
    got = of_texts(tmp_path, "id,who\nx,7.0 8.0\ny,8.0\nz,9 7.0\n", truth, "map_at_5")
    assert got.doubt == ("2 of 3 true names are in no answer, such as 7; answers name 7.0, 8.0, 9")
    assert of_texts(tmp_path, "id,who\nx,7 8\ny,8\nz,7 8\n", truth, "map_at_5").doubt == ""


def masks(folder: Path, arrays: np.ndarray) -> Path:
    folder.mkdir()
    for k, array in enumerate(arrays):
        cv2.imwrite(str(folder / f"{k}.png"), array.astype(np.uint8))
    return folder


def test_masks_are_pooled_and_anything_above_zero_is_foreground(tmp_path: Path) -> None:
    y, z = drawn(2, 2, 6, 9, 7)
    pair = masks(tmp_path / "a", z * 3), masks(tmp_path / "t", y * 255)
    wanted = {beta: fbeta_score(y.ravel(), z.ravel(), beta=beta) for beta in (0.5, 1.0, 2.0)}
    for beta, value in wanted.items():
        assert score("f_beta", *pair, beta=beta).value == pytest.approx(value)
    assert score("f_beta", *pair).value == pytest.approx(wanted[0.5])
    got = score("dice", *pair)
    assert (got.value, got.cases) == (pytest.approx(wanted[1.0]), 6)


def test_masks_in_colour_are_read_as_a_study_reads_them(tmp_path: Path) -> None:
    y = np.arange(54).reshape(2, 3, 9) % 2
    blue = np.zeros((*y.shape, 3))
    blue[..., 0] = y * 200  # in OpenCV's order
    answer, truth = masks(tmp_path / "a", blue), masks(tmp_path / "t", y * 255)
    assert score("dice", answer, truth).value == 1


def test_masks_are_scored_by_a_table_of_their_paths(tmp_path: Path) -> None:
    y, z = drawn(2, 2, 3, 9, 7)
    answer = masks(tmp_path / "a", z)
    masks(tmp_path / "t", y * 255)
    (answer / "2.png").rename(answer / "x%2F2.jpg.png")
    table = tmp_path / "truth.csv"
    table.write_text("case,slices,outline\n0,a,t/0.png\n1,b,t/1.png\nx/2.jpg,c,t/2.png\n")
    got = score("dice", answer, table, targets=["outline"])
    assert (got.value, got.cases) == (pytest.approx(fbeta_score(y.ravel(), z.ravel(), beta=1)), 3)
    assert score("dice", answer, table, id_column="case", targets=["outline"]).value == got.value
    with pytest.raises(DataError, match=r'no column "mask" in .*truth\.csv'):
        score("dice", answer, table)


def test_names_of_classes_with_spaces_that_are_counted_as_words_are_told(tmp_path: Path) -> None:
    truth = "id,kind\nv,red cell\nw,white cell\nx,red cell\ny,white cell\n"
    answer = "id,kind\nv,white cell\nw,red cell\nx,red cell\ny,white cell\n"
    got = of_texts(tmp_path, answer, truth, "macro_f1")
    assert got.value == pytest.approx(2 / 3)
    assert got.doubt.endswith("--one-each counts whole cells as classes")
    lists = "id,kind\nv,a b\nw,b c\nx,a c\ny,a\n"
    assert of_texts(tmp_path, lists, lists, "macro_f1").doubt == ""


def test_masks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    ones = np.ones((3, 4, 5))
    truth, answer = masks(tmp_path / "t", ones), masks(tmp_path / "a", ones[:2])
    with pytest.raises(DataError, match="no mask for 1 of 3") as error:
        score("dice", answer, truth)
    assert error.value.culprits == ("2.png",)
    assert score("dice", truth, answer).without_truth == 1
    cv2.imwrite(str(answer / "2.png"), np.ones((5, 4), np.uint8))
    with pytest.raises(DataError, match=r"2\.png: \(5, 4\) in the answer, \(4, 5\) in the truth"):
        score("dice", answer, truth)
    for pair in ((answer / "0.png", truth), (answer, truth / "0.png"), (answer, tmp_path)):
        with pytest.raises(DataError, match="two folders of PNG masks"):
            score("dice", *pair)
    with pytest.raises(DataError, match=r"there is no folder .*nowhere; cure"):
        score("dice", tmp_path / "nowhere", truth)


GRADES = "id,grade\nx,0\ny,1\nz,2\n"


@pytest.mark.parametrize(
    ("answer", "truth", "words", "culprits"),
    [
        ("id,grade\nx,0\n", GRADES, "no row for 2 of 3 cases", ("y", "z")),
        ("id,grade\n", GRADES, "no row for 3 of 3 cases", ("x", "y", "z")),
        (GRADES, "id,grade\n", "no row for 0 of 0 cases", ()),
        (GRADES + "x,0\n", GRADES, "an id occurs twice in .*a.csv", ()),
        ("image,grade\nx,0\n", GRADES, 'no column "image" in .*t.csv', ()),
        ("id,grad\nx,0\n", GRADES, 'no column "grad" in .*t.csv; did you mean "grade"', ()),
        (GRADES, GRADES + "x,0\n", "an id occurs twice in .*t.csv", ()),
        ("id\nx\ny\nz\n", GRADES, "a.csv", ()),
        ("", GRADES, "a.csv", ()),
    ],
)
def test_tables_that_do_not_fit_are_refused(
    tmp_path: Path, answer: str, truth: str, words: str, culprits: tuple[str, ...]
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        of_texts(tmp_path, answer, truth)
    assert caught.value.culprits == culprits


@pytest.mark.parametrize("cell", ["mild", "", "nan", "inf", "0.9", "1.5", "1e9", "1 2"])
def test_what_is_no_whole_number_is_no_grade(tmp_path: Path, cell: str) -> None:
    other = GRADES.replace("1", cell)
    for name, pair in (("a.csv", (other, GRADES)), ("t.csv", (GRADES, other))):
        with pytest.raises(DataError, match='column "grade" holds no grade in 1 cells') as caught:
            of_texts(tmp_path, *pair)
        assert caught.value.culprits == (f'{tmp_path / name}, id "y": grade is "{cell}"',)


def test_whole_numbers_may_be_written_with_a_point(tmp_path: Path) -> None:
    assert of_texts(tmp_path, "id,grade\nx,0.0\ny,1\nz,2.00\n", GRADES).value == 1


def test_an_unknown_metric_is_named_before_a_file_is_opened(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='no metric "dise"; did you mean "dice"'):
        score("dise", tmp_path / "none", tmp_path / "none")
    for metric in METRICS:
        with pytest.raises(DataError, match="none"):
            score(metric, tmp_path / "none", tmp_path / "none")


def test_labels_that_are_none_are_refused(tmp_path: Path) -> None:
    for answer, truth in (
        ("id,a,b\nx,1,much\n", "id,a,b\nx,1,0\n"),
        ("id,labels\nx,\n", "id,labels\nx,\n"),
        ("id,a,b\nx,1,0\n", "id,c,d\nx,1,0\n"),
    ):
        (tmp_path / "a.csv").write_text(answer)
        (tmp_path / "t.csv").write_text(truth)
        with pytest.raises(DataError):
            score("macro_f1", tmp_path / "a.csv", tmp_path / "t.csv")


FLAGGED = "id,a,b\nx,1,0\ny,0,1\nz,1,1\n"


@pytest.mark.parametrize("cell", ["0.9", "0.1", "nan", "2", "-1", "1 0", "yes"])
def test_labels_in_columns_are_0_or_1(tmp_path: Path, cell: str) -> None:
    other = FLAGGED.replace("y,0", f"y,{cell}")
    for name, pair in (("a.csv", (other, FLAGGED)), ("t.csv", (FLAGGED, other))):
        with pytest.raises(DataError, match="1 cells are neither 0 nor 1") as caught:
            of_texts(tmp_path, *pair, metric="macro_f1")
        assert caught.value.culprits == (f'{tmp_path / name}, id "y": a is "{cell}"',)


def test_labels_may_have_a_point_and_an_empty_cell_is_0(tmp_path: Path) -> None:
    other = "id,a,b\nx,1.0,\ny, ,1\nz,1, 1.0\n"
    for pair in ((other, FLAGGED), (FLAGGED, other)):
        assert of_texts(tmp_path, *pair, metric="macro_f1").value == 1


ONE = "id,sick\nx,1\ny,0\nz,1\n"


@pytest.mark.parametrize("truth", [ONE, ONE.replace("0", ""), ONE.replace("y,0", "y,0 1")])
@pytest.mark.parametrize("cell", ["0.9", "nan", "yes", "0 2"])
def test_an_answer_to_one_column_of_0_and_1_is_no_word(
    tmp_path: Path, truth: str, cell: str
) -> None:
    with pytest.raises(DataError, match="1 cells are neither 0 nor 1") as caught:
        of_texts(tmp_path, ONE.replace("y,0", f"y,{cell}"), truth, "macro_f1")
    assert caught.value.culprits == (f'{tmp_path / "a.csv"}, id "y": sick is "{cell}"',)


def test_an_empty_cell_of_an_answer_to_one_column_of_0_and_1_is_0(tmp_path: Path) -> None:
    assert of_texts(tmp_path, ONE.replace("0", ""), ONE, "macro_f1").value == 1
    with pytest.raises(DataError, match="neither 0 nor 1"):
        of_texts(tmp_path, ONE.replace("y,0", "y,0 1"), ONE, "macro_f1")


def test_labels_that_are_called_0_and_1_are_words_among_others(tmp_path: Path) -> None:
    """As a study takes them, which has two labels then."""
    for truth in ("id,labels\nx,0 1\ny,\nz,1\n", "id,labels\nx,0 1\ny,2\nz,1\n"):
        assert of_texts(tmp_path, truth, truth, "macro_f1").value == 1
    got = of_texts(tmp_path, "id,l\nx,0 1\ny,2\nz,1\n", "id,l\nx,0 2\ny,2\nz,1\n", "macro_f1")
    assert got.value == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)


def test_a_class_with_spaces_in_its_name_is_one_where_each_case_has_one(tmp_path: Path) -> None:
    truth, answer = tmp_path / "t.csv", tmp_path / "a.csv"
    truth.write_text("id,l\nw,common rust\nx,leaf rust\ny,rust \nz,rust\n")
    answer.write_text("id,l\nw,common rust\nx,common rust\ny,rust\nz,rust\n")
    got = score("macro_f1", answer, truth, one_each=True)
    assert got.value == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert score("macro_f1", truth, truth, one_each=True).value == 1


def test_0_and_1_may_be_two_classes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,l\nx,0\ny,0\nz,1\n")
    (tmp_path / "t.csv").write_text("id,l\nx,0\ny,1\nz,1\n")
    got = score("macro_f1", tmp_path / "a.csv", tmp_path / "t.csv", one_each=True)
    assert got.value == pytest.approx(2 / 3)


def test_nobody_is_right_about_an_empty_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,name\nx,a b\n")
    (tmp_path / "t.csv").write_text("id,name\nx,\n")
    assert score("map_at_5", tmp_path / "a.csv", tmp_path / "t.csv").value == 0


def test_one_column_of_0_and_1_is_one_label(tmp_path: Path) -> None:
    y, z = drawn(2, 2, 60, 1)
    truth = table(tmp_path / "t.csv", id=range(60), sick=y[:, 0])
    answer = table(tmp_path / "a.csv", id=range(60), sick=z[:, 0])
    assert score("macro_f1", answer, truth).value == pytest.approx(f1_score(y[:, 0], z[:, 0]))


def test_a_metric_of_one_column_takes_no_others(tmp_path: Path) -> None:
    both = table(tmp_path / "t.csv", id=["a", "b"], grade=[0, 1], other=[1, 0])
    with pytest.raises(UsageError, match="scores one column, not 2"):
        score("quadratic_kappa", both, both, targets=["grade", "other"])
