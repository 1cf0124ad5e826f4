"""`classify` gives every picture one class, refuses others, and redoes what changed."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from conftest import CELLS, INLINE, answer, small_study, table_of
from effects import tried, untried
from foveal import stages
from foveal.errors import TargetError
from foveal.recipes import classify
from foveal.stages.open import open_study
from foveal.study import Study

RECIPES = {"small": {k: v for k, v in CELLS.items() if k not in ("cycles", "snapshots", "views")}}
"""Options that make a recipe take a second a training."""

ROWS = ("patches", "floor", "network", "mean of classical", "mean of all")

make = partial(small_study, "classify", RECIPES)


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Arguments of `init` for 24 small simulated pictures of cells, each with one place."""
    folder = tmp_path_factory.mktemp("classes")
    return classify.FAMILY.simulate(folder, cases=24, size=40, seed=3, duplicates=0.2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, classes: dict) -> Study:
    study = make(tmp_path_factory.mktemp("classify") / "study", classes)
    stages.run(study, INLINE)
    return study


def names_of(of: dict) -> list[str]:
    return sorted({row["places"] for row in table_of(of["table"])})


# --- the trip -------------------------------------------------------------------------------------


def test_the_trip_ends_with_a_report_and_a_leaderboard(finished: Study, classes: dict) -> None:
    board = table_of(finished.combine_folder / "leaderboard.csv")
    assert tuple(row["row"] for row in board) == ROWS
    assert all(0 <= float(row["score"]) <= 1 for row in board)
    page = finished.report_file.read_text()
    assert all(f"<td>{name}</td>" in page for name in names_of(classes))


def test_out_of_fold_every_case_has_one_class(finished: Study, classes: dict) -> None:
    rows, names = table_of(finished.combine_folder / "oof.csv"), names_of(classes)
    assert [(row["id"], row["truth"]) for row in rows] == [
        (row["id"], row["places"]) for row in table_of(classes["table"])
    ]
    assert {row["label"] for row in rows} <= set(names)
    assert all(0 <= float(row[f"score:{name}"]) <= 1 for row in rows for name in names)


@pytest.mark.parametrize("row", ROWS)
def test_an_answer_is_one_class_and_a_probability_of_each(
    finished: Study, classes: dict, tmp_path: Path, row: str
) -> None:
    rows = answer(finished, classes, tmp_path / "a.csv", answer=row, scores=True)
    names = names_of(classes)
    assert [list(told) for told in rows] == [["id", "places", *(f"{n}_p" for n in names)]] * 24
    assert [told["id"] for told in rows] == [told["id"] for told in table_of(classes["table"])]
    assert {told["places"] for told in rows} <= set(names)
    share = np.array([[float(told[f"{name}_p"]) for name in names] for told in rows])
    assert share.min() >= 0
    assert share.max() <= 1
    np.testing.assert_allclose(share.sum(axis=1), 1, atol=1e-4)
    plain = answer(finished, classes, tmp_path / "b.csv", answer=row)
    assert plain == [{name: told[name] for name in ("id", "places")} for told in rows]


def test_columns_of_0_and_1_are_answered_as_words_are_but_in_their_own_form(
    finished: Study, classes: dict, tmp_path: Path
) -> None:
    names = names_of(classes)
    lines = [
        ",".join([row["id"], row["sample"], *(str(int(row["places"] == name)) for name in names)])
        for row in table_of(classes["table"])
    ]
    (tmp_path / "t.csv").write_text("\n".join([",".join(["id", "sample", *names]), *lines]))
    of = {**classes, "table": tmp_path / "t.csv", "target": ",".join(names)}
    study = make(tmp_path / "s", of, members="floor")
    stages.run(study, INLINE)
    words = answer(finished, classes, tmp_path / "w.csv", answer="floor", scores=True)
    for told, marked in zip(words, answer(study, of, tmp_path / "f.csv", scores=True), strict=True):
        own = told.pop("places")
        assert {name: marked.pop(name) for name in names} == {n: str(int(n == own)) for n in names}
        assert told == marked


def test_a_picture_that_cannot_be_read_is_of_the_most_frequent_class(
    finished: Study, classes: dict, tmp_path: Path
) -> None:
    table, rows = tmp_path / "new.csv", table_of(classes["table"])
    table.write_text("id\nc0000\ngone\n")
    told = answer(finished, {**classes, "table": table}, tmp_path / "a.csv")
    counts = Counter(row["places"] for row in rows)
    assert counts[told[1]["places"]] == max(counts.values())


def test_a_column_of_0_and_1_names_two_classes(classes: dict, tmp_path: Path) -> None:
    lines = [f"{row['id']},{int(row['places'] == 'nucleus')}" for row in table_of(classes["table"])]
    (tmp_path / "t.csv").write_text("\n".join(["id,nuclear", *lines]))
    of = {**classes, "table": tmp_path / "t.csv", "target": "nuclear", "columns": {}}
    study = make(tmp_path / "s", of, members="floor")
    stages.run(study, INLINE)
    told = answer(study, of, tmp_path / "a.csv", scores=True)
    assert {row["nuclear"] for row in told} <= {"0", "1"}
    assert all(set(row) == {"id", "nuclear", "0_p", "1_p"} for row in told)


def test_names_of_several_words_stay_whole(classes: dict, tmp_path: Path) -> None:
    spaced = {n: f"{n} of a cell" if k else f"{n} spot" for k, n in enumerate(names_of(classes))}
    lines = [f"{row['id']},{spaced[row['places']]}" for row in table_of(classes["table"])]
    (tmp_path / "t.csv").write_text("\n".join(["id,kind", *lines]))
    of = {**classes, "table": tmp_path / "t.csv", "target": "kind", "columns": {}}
    study = make(tmp_path / "s", of, members="floor")
    stages.run(study, INLINE)
    truth = [row["truth"] for row in table_of(study.combine_folder / "oof.csv")]
    assert truth == [line.partition(",")[2] for line in lines]
    told = answer(study, of, tmp_path / "a.csv", scores=True)
    assert {row["kind"] for row in told} <= {*spaced.values()}
    assert [*told[0]] == ["id", "kind", *(f"{name}_p" for name in sorted(spaced.values()))]
    page = study.report_file.read_text()
    counts = Counter(truth)
    assert all(f"<td>{n}</td><td>{counts[n]}</td>" in page for n in counts)


# --- what is refused ------------------------------------------------------------------------------


def test_cases_of_several_classes_are_refused_and_named(cells: dict, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="any number of labels") as error:
        make(tmp_path / "s", cells)
    several = [row["id"] for row in table_of(cells["table"]) if " " in row["places"]]
    told = zip(error.value.culprits, several, strict=True)
    assert all(f'"{name}"' in culprit for culprit, name in told)
    assert not (tmp_path / "s").exists()


# --- options --------------------------------------------------------------------------------------

NETWORKS = {"small": {"network"}}
EVERYTHING = {"networks", "floor", "patches", "split"}
EFFECTS = [
    *((option, value, {"networks"}) for option, value in {
        "size": 48, "backbone": "test_byobnet", "weights": "imagenet", "epochs": 3, "batch": 4,
        "lr": 0.02, "rotate": 90.0, "flip": 0.1, "mixup": 0.7, "cutmix": 0.7, "dropout": 0.6,
        "balance": 1.0,
    }.items()),
    ("flip", 0.0, {"networks", "patches"}),  # which then tell mirror images apart
    ("trees", 5, {"floor", "patches"}),
    ("words", 9, {"patches"}),
    ("features_size", 128, {"floor", "patches"}),
    ("near_duplicates", True, {"split"}),  # of the same folds, whose groups hold them already
    ("channels", "yellow,red,green,blue", EVERYTHING),
    ("decide", "likeliest", {"decisions"}),
    ("folds", 3, EVERYTHING),
    ("seed", 1, EVERYTHING),
    ("cache_gb", 1.0, set()),
]  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "option", "value", "touched"), tried(classify, EFFECTS, NETWORKS)
)
def test_a_changed_option_redoes_what_depends_on_it(
    classes: dict, redone: Callable, recipe: str, option: str, value: object, touched: set
) -> None:
    assert redone(make, classes, recipe, **{option: value}) == touched


def test_every_option_has_its_effect_tested() -> None:
    assert untried(classify, EFFECTS) == {name: {"members"} for name in RECIPES}


def test_a_member_left_out_is_not_trained(classes: dict, tmp_path: Path) -> None:
    study = make(tmp_path / "s", classes, members="network,floor")
    assert [m.name for m in open_study(study).recipe.members] == ["floor", "network"]
