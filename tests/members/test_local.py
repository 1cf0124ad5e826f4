"""Keypoints that recognise: whom a fold may know, what new cases may use, and what tells."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import NEW, job_of
from foveal.members import local
from foveal.members.local import PLACES, LocalFeatures, _rehearsal
from foveal.predictions import Predictions
from foveal.stages.open import Opened
from foveal.stages.split import split_of
from foveal.task import Job, State


@pytest.fixture(scope="module")
def of(swum: Opened) -> LocalFeatures:
    (found,) = [m for m in swum.recipe.members if m.name == "keypoints"]
    return found


def job(swum: Opened, folder: Path, fold: int = 0, **changes: object) -> Job:
    made = split_of(swum)
    rows = {"train": np.flatnonzero(made.learns(fold)), "held": np.flatnonzero(made.fold == fold)}
    return replace(job_of(swum, folder), key=(0, fold), **rows, **changes)


def said_of(of: LocalFeatures, state: State, work: Job, rows: np.ndarray) -> Predictions:
    (said,) = of.score([state], work.cases, rows, work.resources)
    return replace(said, fold=np.full(len(said), work.key[-1]))


def values_of(of: LocalFeatures, work: Job) -> np.ndarray:
    return said_of(of, replace(of.fit(work), for_new={}), work, work.held).values


def test_a_fold_knows_whom_it_learned_from_and_new_cases_everybody(
    swum: Opened, tmp_path: Path, of: LocalFeatures
) -> None:
    work, names = job(swum, tmp_path), swum.target
    state = of.fit(work)
    learned = set(names[work.train].tolist()) - {NEW}
    everybody = set(names.tolist()) - {NEW}
    inside = said_of(of, replace(state, for_new={}), work, work.held)
    assert inside.columns == tuple(sorted(everybody))
    assert set(inside.known[0]) == learned
    assert learned < everybody
    hidden = [name not in learned for name in inside.columns]
    assert (inside.values.reshape(len(inside), -1)[:, hidden] == 0).all()
    named = np.flatnonzero(names != NEW)
    outside = said_of(of, state, work, named).values.reshape(len(named), -1)
    own = np.searchsorted(inside.columns, names[named])
    assert (outside.argmax(axis=1) == own).all()  # each finds itself
    assert outside.min() >= 0
    assert outside.max() <= 1


def test_patterns_are_found_again(swum: Opened, tmp_path: Path, of: LocalFeatures) -> None:
    first, chance = [], []
    for fold in range(split_of(swum).folds):
        work = job(swum, tmp_path / str(fold), fold)
        said = said_of(of, replace(of.fit(work), for_new={}), work, work.held)
        values, present = said.matrix()
        own = (np.array(said.columns) == swum.target[work.held][:, None]) & present
        asked = own.any(axis=1)
        first += own[asked, values[asked].argmax(axis=1)].tolist()
        chance += (1 / present[asked].sum(axis=1)).tolist()
    assert len(first) > 10
    assert np.mean(first) > 2.5 * np.mean(chance)


def test_what_a_fold_judges_changes_nothing_that_it_learns(
    swum: Opened, tmp_path: Path, of: LocalFeatures
) -> None:
    plain = job(swum, tmp_path / "a")
    unseen = np.setdiff1d(np.arange(len(plain.cases)), plain.train)
    other = plain.cases[int(plain.train[0])].paths
    cases = [replace(c, paths=other) if k in unseen else c for k, c in enumerate(plain.cases)]
    before, after = of.fit(plain), of.fit(job(swum, tmp_path / "b", cases=cases))
    for name in ("centre", "turn", "gallery", "owner"):
        np.testing.assert_allclose(before.tensors[name], after.tensors[name], atol=1e-3)


def test_directions_and_places_keep_distances(
    swum: Opened, tmp_path: Path, of: LocalFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "PLACES", (0.0,))
    work, one = job(swum, tmp_path), replace(of, ways=of.ways[:1])
    few, whole = (replace(one, directions=n).fit(work).tensors["gallery"] for n in (4, 128))
    assert few.shape == (len(whole), 4 + 2)
    monkeypatch.setattr(local, "PLACES", (1.0,))
    placed = replace(one, directions=128).fit(work).tensors["gallery"]
    lengths = [
        ((g[:50, None] - g[None, :50]) ** 2).sum(axis=2)
        for g in (few.astype(np.float64), whole.astype(np.float64), placed.astype(np.float64))
    ]
    assert (lengths[0] <= lengths[1] + 1e-2).all()
    assert lengths[1].max() <= 2.01
    assert (lengths[1] <= lengths[2] + 1e-2).all()


def test_settings_reach_the_scores(swum: Opened, tmp_path: Path, of: LocalFeatures) -> None:
    work = job(swum, tmp_path)
    before = values_of(of, work)
    fewer = tuple(
        replace(way, steps=(way.steps[0], replace(way.steps[1], count=20))) for way in of.ways
    )
    for change in ({"directions": 4}, {"ways": fewer}):
        assert not np.array_equal(before, values_of(replace(of, **change), work))


def test_how_keypoints_are_compared_is_chosen_by_what_recognises(
    swum: Opened, tmp_path: Path, of: LocalFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best is first taken alone: the choice is as good as it, and no worse than any other."""
    work = job(swum, tmp_path)
    chosen = of.fit(work).notes
    alone = {}
    for number, way in enumerate(of.ways):
        for place in PLACES:
            monkeypatch.setattr(local, "PLACES", (place,))
            alone[number, place] = replace(of, ways=(way,)).fit(work).notes["rehearsed"]
    assert 0 < chosen["rehearsed"] == max(alone.values())
    assert alone[chosen["way"], chosen["place"]] == chosen["rehearsed"]


def test_nobody_is_rehearsed_whose_pictures_are_one_group(
    swum: Opened, tmp_path: Path, of: LocalFeatures
) -> None:
    work = job(swum, tmp_path)
    asked, shown = _rehearsal(work)
    assert len(asked) > 5
    assert not np.isin(asked, shown).any()
    assert not np.isin(work.group[asked], work.group[shown]).any()
    assert set(work.target[asked].tolist()) == set(work.target[shown].tolist())
    together = replace(work, group=np.zeros(len(work.cases), dtype=np.int64))
    assert len(_rehearsal(together)[0]) == 0
    notes = of.fit(together).notes
    assert (notes["way"], notes["place"], notes["rehearsed"]) == (0, PLACES[0], 0.0)


def test_pictures_without_keypoints_have_no_vote_and_get_none(
    swum: Opened, tmp_path: Path, of: LocalFeatures
) -> None:
    work = job(swum, tmp_path)
    blind = replace(
        of,
        ways=tuple(
            replace(way, steps=(way.steps[0], replace(way.steps[1], contrast=0.99)))
            for way in of.ways
        ),
    )
    state = blind.fit(work)
    assert state.tensors["gallery"].shape == (0, 48 + 2)
    said = said_of(blind, state, work, work.held)
    assert said.known == {0: ()}
    assert (said.values == 0).all()
