"""Keypoints that recognise: whom a fold may know, what new cases may use, and what tells."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import NEW, job_of
from foveal.decide.votes import votes
from foveal.members import local
from foveal.members.local import LocalFeatures
from foveal.predictions import NO_FOLD, Predictions
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
    for name in ("gallery", "owner"):
        np.testing.assert_array_equal(before.tensors[name], after.tensors[name])


def test_waves_and_places_keep_distances(swum: Opened, tmp_path: Path, of: LocalFeatures) -> None:
    work, one = job(swum, tmp_path), replace(of, ways=of.ways[:1])

    def lengths(**changes: object) -> np.ndarray:
        gallery = replace(one, **changes).fit(work).tensors["gallery"][:50, :-1].astype(np.float64)
        return ((gallery[:, None] - gallery[None]) ** 2).sum(axis=2)

    few = lengths(waves=1, places=0.0)
    whole, placed = (lengths(waves=10, places=p) for p in (0.0, 1.0))
    assert (few <= whole + 1e-2).all()
    assert whole.max() <= 2.01
    assert (whole <= placed + 1e-2).all()


def test_every_way_votes_among_its_kind(swum: Opened, tmp_path: Path, of: LocalFeatures) -> None:
    work = job(swum, tmp_path)
    both = values_of(of, work)
    alone = [values_of(replace(of, ways=(way,)), work) for way in of.ways]
    assert not np.array_equal(*alone)
    np.testing.assert_allclose(both, np.mean(alone, axis=0), atol=1e-3)


def test_settings_reach_the_scores(swum: Opened, tmp_path: Path, of: LocalFeatures) -> None:
    work = job(swum, tmp_path)
    before = values_of(of, work)
    fewer = tuple(
        replace(way, steps=(way.steps[0], replace(way.steps[1], count=20))) for way in of.ways
    )
    for change in ({"waves": 1}, {"places": 0.0}, {"ways": fewer}):
        assert not np.array_equal(before, values_of(replace(of, **change), work))


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
    assert state.tensors["gallery"].shape == (0, 76 + 3)
    said = said_of(blind, state, work, work.held)
    assert said.known == {0: (), NO_FOLD: ()}
    assert (said.values == 0).all()
    assert not said.matrix().present.any()


def test_new_cases_are_compared_once_for_all_folds(
    swum: Opened, tmp_path: Path, of: LocalFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = [job(swum, tmp_path / str(k), fold) for k, fold in enumerate((0, 1))]
    states, rows = [of.fit(one) for one in work], work[0].held
    alone = [said_of(of, state, one, rows) for state, one in zip(states, work, strict=True)]
    asked = []
    monkeypatch.setattr(local, "votes", lambda *a, **k: asked.append(k) or votes(*a, **k))
    together = of.score(states, work[0].cases, rows, work[0].resources)
    assert len(asked) == len(of.ways)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.values, other.values, atol=1e-6)
    of.score([replace(s, for_new={}) for s in states], work[0].cases, rows, work[0].resources)
    assert len(asked) == 3 * len(of.ways)
