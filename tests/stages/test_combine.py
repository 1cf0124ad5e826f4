"""The rows of the leaderboard for recipes of several kinds of members, and what is written."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import FAST, INLINE, small_study, truth_of
from foveal import stages
from foveal.combine.blend import CalibratedMean, LabelAverage, NonNegative
from foveal.combine.leaderboard import Leaderboard, rank
from foveal.manifest import Facts, Truth
from foveal.predictions import Predictions
from foveal.recipes import grade
from foveal.stages.combine import _board_json, _oof_csv, entries
from foveal.task import Recipe

FACTS = Facts(
    cases=100,
    target={"grades": 5},
    height=48,
    width=48,
    aspect=1.0,
    channels=3,
    bits=8,
    mean=(0.5, 0.5, 0.5),
    std=(0.2, 0.2, 0.2),
)
CLASSICAL, NETWORKS = ("patches", "floor"), ("regression", "cumulative", "expectation")
BLENDS = {"mean": CalibratedMean(), "label average": LabelAverage(5), "weighted": NonNegative()}


def recipe(members: Sequence[str]) -> Recipe:
    return grade.small(FACTS, members=",".join(members))


def rows(members: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    return [(e.name, e.members) for e in entries(recipe(members))]


def test_members_alone_then_each_blend_of_every_kind_and_of_all() -> None:
    both = (*CLASSICAL, *NETWORKS)
    assert rows(both) == [
        *((name, (name,)) for name in both),
        ("mean of classical", CLASSICAL),
        ("mean of networks", NETWORKS),
        ("mean of all", both),
        ("label average of classical", CLASSICAL),
        ("label average of networks", NETWORKS),
        ("label average of all", both),
        ("weighted of classical", CLASSICAL),
        ("weighted of networks", NETWORKS),
        ("weighted of all", both),
    ]


def test_a_single_kind_is_all_and_said_once() -> None:
    assert rows(NETWORKS) == [
        *((name, (name,)) for name in NETWORKS),
        *((f"{blend} of all", NETWORKS) for blend in BLENDS),
    ]


def test_a_kind_of_one_member_is_that_member() -> None:
    members = ("floor", *NETWORKS)
    assert rows(members)[4:] == [
        (f"{blend} of {label}", joined)
        for blend in BLENDS
        for label, joined in (("networks", NETWORKS), ("all", members))
    ]
    pair = ("patches", "cumulative")
    assert rows(pair)[2:] == [(f"{blend} of all", pair) for blend in BLENDS]


@pytest.mark.parametrize("name", [*CLASSICAL, *NETWORKS])
def test_one_member_is_one_row(name: str) -> None:
    assert rows([name]) == [(name, (name,))]


def test_every_row_decides_by_the_rule_of_the_recipe_and_blends_as_its_name_says() -> None:
    made = recipe(())
    for entry in entries(made):
        assert entry.decode == made.decode
        blend, _, label = entry.name.partition(" of ")
        assert entry.blend == BLENDS[blend if label else "mean"]


def test_names_are_told_apart_for_every_recipe() -> None:
    for made in (recipe(()), grade.aptos(FACTS, weights="none")):
        found = entries(made)
        assert len({e.name for e in found}) == len(found)
        assert len({(e.members, e.blend) for e in found}) == len(found)
        assert found[-1].members == tuple(m.name for m in made.members)


def ranked(truth: Truth, scores: dict[str, np.ndarray]) -> tuple[Leaderboard, dict]:
    ids = [str(k) for k in range(len(truth.target))]
    predictions = {
        name: Predictions.of(ids, s[:, None].astype(np.float32), columns=("expected",))
        for name, s in scores.items()
    }
    made = recipe(tuple(scores))
    return rank(entries(made), predictions, truth, metric=made.metric), predictions


def test_no_score_of_a_case_out_of_fold_knows_what_is_true_of_it() -> None:
    rng = np.random.default_rng(0)
    truth = truth_of(rng.integers(0, 5, 60), folds=3)
    scores = {name: truth.target + rng.normal(0, 1, 60) for name in NETWORKS}
    board, predictions = ranked(truth, scores)

    def out_of_fold(of: Truth) -> list[dict[str, str]]:
        text = _oof_csv(recipe(NETWORKS), of, board, predictions)
        return list(csv.DictReader(text.splitlines()))

    before = out_of_fold(truth)
    assert [row["id"] for row in before] == list(map(str, range(60)))
    for case in (0, 31):
        target = truth.target.copy()
        target[case] = 4 - target[case] if target[case] != 2 else 0
        after = out_of_fold(replace(truth, target=target))
        moved = [a["score"] != b["score"] for a, b in zip(after, before, strict=True)]
        own = truth.fold == truth.fold[case]
        assert moved == (~own).tolist()
        assert after[case]["label"] == before[case]["label"]


def test_the_leaderboard_is_valid_json_where_nothing_can_be_told() -> None:
    """Three cases have no interval, and a fold of one case no kappa."""
    truth = replace(truth_of(np.array([0, 1, 2]), folds=3), site=np.array(["a", "b", "b"]))
    board, _ = ranked(truth, {"cumulative": np.arange(3.0), "expectation": np.ones(3)})
    told = json.loads(json.dumps(_board_json(board, "quadratic_kappa"), allow_nan=False))
    assert told["nested_interval"] == [None, None]
    assert {tuple(row["interval"]) for row in told["rows"]} == {(None, None)}
    wanted = [[v if np.isfinite(v) else None for v in r.folds.values()] for r in board.rows]
    assert [list(row["folds"].values()) for row in told["rows"]] == wanted
    assert any(None in scores for scores in wanted)


def test_trainings_on_other_kinds_of_device_are_told_of(eyes: dict, tmp_path: Path) -> None:
    study = small_study("grade", {"small": FAST}, tmp_path / "s", eyes, members="floor,regression")
    stages.train(study, context=INLINE)
    notes = study.job_folder("regression", 0) / "state.json"
    said: list[str] = []
    context = replace(INLINE, warn=lambda text, _about: said.append(text))
    before = notes.read_text()
    assert '"cpu"' in before
    notes.write_text(before.replace('"cpu"', '"gpu"'))  # as long
    stages.combine(study, context)
    assert any("regression was trained on cpu and gpu" in text for text in said)
