"""`identify` takes the whole trip, leaves no trace where it refuses, and redoes what changed."""

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from conftest import INLINE, NEW, SWIM, answer, small_study, table_of
from effects import tried, untried
from foveal import stages
from foveal.errors import TargetError, UsageError
from foveal.manifest import Manifest, load
from foveal.recipes import identify
from foveal.stages.open import open_study
from foveal.stages.split import split_of
from foveal.study import Study
from foveal.survey import survey
from foveal.table import Source
from foveal.task import Context

RECIPES = {
    "small": SWIM,
    "humpback": {**SWIM, "weights": "none", "mirrored": False, "together": 1, "centres": 1},
}
"""Options that make a recipe take a second a training."""

make = partial(small_study, "identify", RECIPES)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, flukes: dict) -> Study:
    study = make(tmp_path_factory.mktemp("identify") / "study", flukes)
    stages.run(study, INLINE)
    return study


# --- the trip -------------------------------------------------------------------------------------


def test_the_trip_ends_with_a_report_a_leaderboard_and_answers(
    finished: Study, flukes: dict, tmp_path: Path
) -> None:
    assert finished.report_file.stat().st_size > 20_000
    board = table_of(finished.combine_folder / "leaderboard.csv")
    assert {"floor", "arcface", "cosface", "mean of all"} <= {row["row"] for row in board}
    assert all(0 <= float(row["score"]) <= 1 for row in board)
    assert sum(row["chosen"] == "chosen" for row in board) == 1
    rows = answer(finished, flukes, tmp_path / "a.csv")
    asked = table_of(Path(flukes["table"]))
    assert [list(row) for row in rows] == [["image", "identity"]] * len(asked)
    assert [row["image"] for row in rows] == [row["image"] for row in asked]
    everybody = {row["identity"] for row in asked}
    for row in rows:
        names = row["identity"].split(" ")
        assert len(names) == len(set(names)) == 5
        assert set(names) <= everybody
    assert any(NEW in row["identity"] for row in rows)


def test_pictures_that_were_learned_are_recognised(
    finished: Study, flukes: dict, tmp_path: Path
) -> None:
    who = {row["image"]: row["identity"] for row in table_of(Path(flukes["table"]))}
    rows = answer(finished, flukes, tmp_path / "a.csv", answer="floor", scores=True)
    known = [row for row in rows if who[row["image"]] != NEW]
    first = [row["identity"].replace(f"{NEW} ", "").split()[0] for row in known]
    assert (
        np.mean([who[row["image"]] == name for row, name in zip(known, first, strict=True)]) > 0.9
    )
    for row in rows:
        assert 0 <= float(row["identity_score"]) <= 1
        assert 0 <= float(row["identity_new"]) <= 1


def test_every_row_of_the_leaderboard_can_answer(
    finished: Study, flukes: dict, tmp_path: Path
) -> None:
    names = [row["row"] for row in table_of(finished.combine_folder / "leaderboard.csv")]
    answers = [answer(finished, flukes, tmp_path / "b.csv", answer=name) for name in names]
    assert len({json.dumps(a) for a in answers}) > 1


def test_out_of_fold_nobody_is_named_whom_the_fold_did_not_learn(finished: Study) -> None:
    opened = open_study(finished)
    made, names = split_of(opened), opened.target
    row_of = {name: k for k, name in enumerate(opened.manifest.ids)}
    told = table_of(finished.combine_folder / "oof.csv")
    assert [t["id"] for t in told] == [
        i for i, k in zip(opened.manifest.ids, made.fold.tolist(), strict=True) if k >= 0
    ]
    hidden = 0
    for query in told:
        row, fold = row_of[query["id"]], int(query["fold"])
        known = set(names[made.learns(fold)].tolist()) - {NEW}
        assert fold == made.fold[row]
        assert set(query["best"].split()) <= known
        assert set(query["label"].split()) <= {*known, NEW}
        assert query["truth"] == (names[row] if names[row] in known else NEW)
        hidden += names[row] != NEW and query["truth"] == NEW
    assert hidden > 0


def test_out_of_fold_new_queries_weigh_what_was_said(finished: Study) -> None:
    weight: dict[str, Counter] = defaultdict(Counter)
    for query in table_of(finished.combine_folder / "oof.csv"):
        weight[query["fold"]][query["truth"] == NEW] += float(query["weight"])
    for of in weight.values():
        assert of[True] / (of[True] + of[False]) == pytest.approx(SWIM["new_share"], abs=1e-4)


def test_a_second_run_trains_nothing(finished: Study) -> None:
    heard: list[str] = []
    stages.run(finished, Context(slots=(), progress=lambda what, *_: heard.append(what)))
    assert "training" not in heard


def test_an_unreadable_picture_gets_the_prior_answer(
    finished: Study, flukes: dict, tmp_path: Path
) -> None:
    source = Path(flukes["images"]).parent
    names = sorted(p.name for p in source.iterdir())[:3]
    for name in names:
        (tmp_path / name).write_bytes((source / name).read_bytes())
    (tmp_path / names[1]).write_bytes((source / names[1]).read_bytes()[:200])
    (tmp_path / names[2]).unlink()
    (tmp_path / "new.csv").write_text("image\n" + "\n".join(names) + "\n")
    asked = {"table": tmp_path / "new.csv", "images": str(tmp_path / "{image}")}
    prior = json.loads((finished.combine_folder / "answers.json").read_text())["prior"]["names"]
    assert len(prior) == 5
    assert prior[0] == NEW
    for row in ("floor", "arcface", "mean of all"):
        got = answer(finished, flukes, tmp_path / "out.csv", answer=row, scores=True, **asked)
        assert [r["image"] for r in got] == names
        assert [r["identity"].split() for r in got[1:]] == [prior, prior]


def test_a_member_left_out_is_not_trained(flukes: dict, tmp_path: Path) -> None:
    made = open_study(make(tmp_path / "s", flukes, members="floor,cosface"))
    assert [m.name for m in made.recipe.members] == ["floor", "cosface"]


# --- everybody is known ---------------------------------------------------------------------------


def closed(flukes: dict, folder: Path) -> dict:
    """The same photographs without those of nobody known."""
    lines = Path(flukes["table"]).read_text().splitlines()
    (folder / "closed.csv").write_text("\n".join(line for line in lines if NEW not in line) + "\n")
    return {**flukes, "table": str(folder / "closed.csv")}


def test_where_everybody_is_known_nobody_is_called_new(flukes: dict, tmp_path: Path) -> None:
    of = closed(flukes, tmp_path)
    heard: list[str] = []
    context = Context(slots=(), say=heard.append, warn=lambda line, _: heard.append(line))
    options = {"new": None, "new_share": None, "members": "floor,arcface"}
    study = make(tmp_path / "s", of, context, **options)
    assert sum("everybody is taken to be known; cure: new=" in line for line in heard) == 1
    assert stages.run(study, context).is_file()
    assert any("everybody is known" in line for line in heard)
    names = {row["identity"] for row in table_of(Path(of["table"]))}
    rows = answer(study, of, tmp_path / "a.csv", scores=True)
    assert list(rows[0]) == ["image", "identity", "identity_score"]
    for row in rows:
        named = row["identity"].split(" ")
        assert len(set(named)) == len(named) == 5
        assert set(named) <= names
    told = table_of(study.combine_folder / "oof.csv")
    assert {query["weight"] for query in told} == {"1"}


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [("", "the cell is empty"), ("w 1", '"w 1" has white space'), ("w\u2003", "has white space")],
)
def test_what_is_no_name_is_refused_and_nothing_is_left(
    flukes: dict, tmp_path: Path, name: str, words: str
) -> None:
    rows = table_of(Path(flukes["table"]))
    rows[4]["identity"] = name
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(TargetError) as error:
        make(tmp_path / "deep" / "s", {**flukes, "table": str(tmp_path / "t.csv")})
    assert error.value.exit_code == 3
    (culprit,) = error.value.culprits
    assert culprit == f'row 5 (id "{rows[4]["image"]}"): {culprit.partition(": ")[2]}'
    assert words in culprit
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"new_share": 0.0}, "new_share"),
        ({"new_share": 1.0}, "new_share"),
        ({"queries_per_identity": 0}, "queries_per_identity"),
        ({"k": 0}, "k"),
        ({"margin": 0.0}, "margin"),
        ({"embedding": 0}, "embedding"),
        ({"nearest": 1.5}, "nearest"),
        ({"members": "arcfaces"}, "arcfaces"),
        ({"new_shares": 0.2}, 'did you mean "new_share"'),
        ({"backbone": "resnet1o"}, "did you mean"),
        ({"folds": 1}, "folds"),
    ],
)
def test_a_wrong_option_is_named(flukes: dict, tmp_path: Path, options: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make(tmp_path / "s", flukes, **options)
    assert not (tmp_path / "s").exists()


# --- options --------------------------------------------------------------------------------------

NETWORKS = {name: {"arcface", "cosface"} for name in RECIPES}
MEMBERS = {"floor", "keypoints", "networks"}
EVERYTHING = {*MEMBERS, "split", "decisions"}
EFFECTS = [
    *((option, value, {"networks"}) for option, value in {
        "size": 48, "backbone": "test_byobnet", "weights": "imagenet", "epochs": 1, "batch": 4,
        "optimiser": "sgd", "lr": 0.02, "warm_up": 0.5, "ema": 0.9, "clip": 0.5, "margin": 0.4,
        "scale": 20.0, "centres": 2, "embedding": 24, "pooling": "own", "dropout": 0.6,
        "drop_path": 0.5, "mirrored": True, "least": 9, "together": 4, "rotate": 90.0,
        "elastic": 0.05, "cutout": 1.0, "precision": "bf16-mixed", "layout": "contiguous",
    }.items()),
    ("components", 9, {"floor"}),
    ("floor_size", 64, {"floor"}),
    ("keypoints", 50, {"keypoints"}),
    ("keypoint_size", 64, {"keypoints"}),
    ("keypoint_places", 1.0, {"keypoints"}),
    ("nearest", 0.0, {"floor", "networks"}),
    ("k", 4, {"decisions"}),
    ("new_share", 0.5, {"split", "decisions"}),  # of the same folds
    ("new_share", 0.05, EVERYTHING),
    ("queries_per_identity", 2, EVERYTHING),
    ("new", "nobody", EVERYTHING),
    ("folds", 2, EVERYTHING),
    ("seed", 1, EVERYTHING),
    ("cache_gb", 1.0, set()),
]  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "option", "value", "touched"), tried(identify, EFFECTS, NETWORKS)
)
def test_a_changed_option_redoes_what_depends_on_it(
    flukes: dict, redone: Callable, recipe: str, option: str, value: object, touched: set
) -> None:
    assert redone(make, flukes, recipe, **{option: value}) == touched


def test_every_option_has_its_effect_tested() -> None:
    assert untried(identify, EFFECTS) == {name: {"members"} for name in RECIPES}


# --- facts and suspicions -------------------------------------------------------------------------


def measured(flukes: dict) -> tuple[Manifest, identify.Facts]:
    source = Source(table=flukes["table"], images=flukes["images"], target=("identity",))
    manifest = load(source)
    return identify.facts(manifest, [survey(case) for case in manifest.cases()])


def test_the_facts_count_names_and_the_pictures_own_size_is_kept(flukes: dict) -> None:
    manifest, facts = measured(flukes)
    assert facts.target == {"names": len(set(manifest.target[:, 0].tolist()))}
    assert (facts.height, facts.width) == (32, 64)
    (network,) = [m for m in identify.small(facts).members if m.name == "arcface"]
    height, width = network.training.size
    assert height * width == pytest.approx(32 * 64, rel=0.3)
    assert width > height


def test_equal_pictures_of_other_names_are_found(flukes: dict) -> None:
    manifest, _ = measured(flukes)
    assert identify.suspicions(manifest) == []
    names = manifest.target[:, 0]
    other = int(np.flatnonzero(names != names[0])[0])
    manifest.measured["sha256"][other] = manifest.measured["sha256"][0]
    (finding,) = identify.suspicions(manifest)
    assert f"{manifest.ids[0]} and {manifest.ids[other]}" in finding


def test_more_pictures_take_fewer_epochs(flukes: dict) -> None:
    _, facts = measured(flukes)
    epochs = [
        identify.small(replace(facts, cases=cases), size=64).members[-1].training.epochs
        for cases in (10, 300, 2000, 4000, 8000, 10**6)
    ]
    larger = identify.small(replace(facts, cases=4000), size=128).members[-1].training.epochs
    assert larger < epochs[3]
    assert epochs == sorted(epochs, reverse=True)
    assert len(set(epochs)) > 3
    assert epochs[-1] >= 1


def test_unknown_rows_that_do_not_count_leave_a_report(flukes: dict, tmp_path: Path) -> None:
    rows = [{**row, "f": int(row["identity"] != NEW)} for row in table_of(Path(flukes["table"]))]
    table = tmp_path / "t.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)
    of = {**flukes, "table": table, "columns": {**flukes["columns"], "weight": "f"}}
    options = {**SWIM, "members": "floor", "folds": 2}
    study = stages.init(tmp_path / "s", recipe="identify:small", options=options, **of)
    stages.run(study, INLINE)
    assert "How often the right name is found" in study.report_file.read_text()
