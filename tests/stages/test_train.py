"""Trainings: what is said of their end, and what becomes of one that memory was too small for."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conftest import FAST, INLINE, small_study
from foveal import launch, stages
from foveal.errors import Stopped
from foveal.files import read_json
from foveal.members.network import Network
from foveal.stages.init import _lanes
from foveal.stages.open import open_study
from foveal.stages.progress import PREPARING, Board, Steps
from foveal.stages.split import open_split
from foveal.stages.train import place
from foveal.study import Study
from foveal.task import Context, Job, State
from foveal.train import loop


def test_no_end_is_foreseen_before_there_is_something_to_go_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[str] = []
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    board = Board(
        ["floor fold 0", "floor fold 1"],
        Context(slots=(), progress=lambda _stage, _share, words: heard.append(words)),
    )
    for seconds, number, done in (
        (60, 0, 0.02),  # until then pictures were prepared
        (120, 0, 0.5),
        (180, 1, 0.5),
        (240, 0, 1),
        (300, 1, 1),
    ):
        now[0] = float(seconds)
        board.hear(number, {"done": done})
    assert heard[0] == "floor fold 0"
    assert heard[1] == "floor fold 0, about 3 min left"
    assert heard[2] == "floor fold 1, about 2 min left"
    assert heard[3] == "floor fold 0, about 1 min left"
    assert heard[4] == "floor fold 1"
    early = Board(["one"], Context(progress=lambda _a, _b, words: heard.append(words)))
    early.hear(0, {"done": 0.01})
    now[0] += 301
    early.hear(0, {"done": 0.02})
    assert heard[-2:] == ["one", "one, about 8h12m left"]
    for second, share in enumerate((0.0, 0.1, 0.2)):
        now[0] += 6 * second
        early.hear(0, {"looked_at": share})
    assert heard[-1] == "one trained, 20% of what it judges scored"
    assert heard[-2] == "one, about 8h12m left"


def test_steps_that_take_long_are_told_and_each_may_be_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[tuple[str, float]] = []
    now, stops = [0.0], [False]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = lambda what, share, _words: heard.append((what, share))  # noqa: E731
    step = Steps("judging", 4, Context(progress=progress, should_stop=lambda: stops[0]))
    for second in (0, 5, 11):
        now[0] = float(second)
        step()
    assert heard == [("judging", 0.5)]
    stops[0] = True
    with pytest.raises(Stopped):
        step()


def test_how_many_pictures_are_prepared_is_told(eyes: dict, tmp_path: Path) -> None:
    told: list[float] = []

    def progress(what: str, share: float, _words: str) -> None:
        told.extend([share] if what == PREPARING else [])

    of = {**FAST, "members": "floor"}
    study = small_study("grade", {"small": of}, tmp_path / "s", eyes)
    stages.train(study, context=replace(INLINE, progress=progress))
    assert told[-1] == 1
    assert told == sorted(told)


def test_every_training_has_draws_of_its_own(
    eyes: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, keys = Network.fit, set()

    def fit(self: Network, job: Job) -> State:
        keys.add(job.key)
        return plain(self, job)

    monkeypatch.setattr(Network, "fit", fit)
    of = {"members": "regression,cumulative", "seed": 7, "folds": 2, "epochs": 1}
    stages.train(small_study("grade", {"small": FAST}, tmp_path / "s", eyes, **of), context=INLINE)
    names = {"regression": 917721476, "cumulative": 2857502310}
    assert keys == {(7, number, fold) for number in names.values() for fold in range(2)}


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """Parts, epoch and step of all steps that are made, where one of 8 cases needs two parts."""
    plain, made = loop._Training.step, []

    def step(
        self: loop._Training, images: torch.Tensor, target: torch.Tensor, epoch: int, step: int
    ) -> torch.Tensor:
        if self.plan.accumulate == 1 and len(images) > 6:
            raise torch.OutOfMemoryError("no more")
        made.append((self.plan.accumulate, epoch, step))
        return plain(self, images, target, epoch, step)

    monkeypatch.setattr(loop._Training, "step", step)
    return made


def too_large(folder: Path, eyes: dict, **options: object) -> Study:
    of = {"members": "regression", "batch": 8, **options}
    study = small_study("grade", {"small": FAST}, folder, eyes, **of)
    stages.split(study, INLINE)
    return study


def test_a_training_that_ran_out_of_memory_goes_on_where_it_was_stopped(
    eyes: dict, tmp_path: Path, steps: list
) -> None:
    study = too_large(tmp_path / "s", eyes)
    stop = Context(slots=(), should_stop=lambda: len(steps) == 2)
    with pytest.raises(Stopped):
        stages.train(study, fold=0, context=stop)
    stages.train(study, fold=0, context=INLINE)
    each = len(steps) // FAST["epochs"]
    assert steps == [(2, epoch, step) for epoch in range(FAST["epochs"]) for step in range(each)]


def test_too_little_memory_for_one_training_says_nothing_of_another(
    eyes: dict, tmp_path: Path, steps: list
) -> None:
    study = too_large(tmp_path / "s", eyes)
    stages.train(study, fold=0, context=INLINE)
    opened, made = open_split(study)
    assert place(opened, made, opened.recipe.members[0], 0)[1]["override"] == {"accumulate": 2}
    text = study.settings_file.read_text()
    study.settings_file.write_text(text.replace("batch: 8", "batch: 4"))
    steps.clear()
    stages.train(study, fold=0, context=INLINE)
    assert {parts for parts, _, _ in steps} == {1}
    assert read_json(study.job_folder("regression", 0) / "state.json")["accumulate"] == 1


def test_members_are_expected_where_they_run(eyes: dict, tmp_path: Path) -> None:
    study = small_study("grade", {"small": FAST}, tmp_path / "s", eyes)
    every = list(open_study(study).recipe.members)
    classical, networks = every[:2], every[2:]
    assert [m.kind for m in every] == ["classical"] * 2 + ["networks"] * 3
    assert _lanes(("cpu", "cpu"), every) == [(["cpu", "cpu"], every)]
    both = _lanes(("cuda:0", "cuda:1", "cpu"), every)
    assert both == [(["cpu"], classical), (["cuda:0", "cuda:1"], networks)]
    assert _lanes(("cuda:0",), every) == [(["cuda:0"], every)]
    assert _lanes(("cuda:0", "cpu"), networks) == [(["cuda:0"], networks)]


def test_jobs_say_which_kind_of_device_they_have_a_use_for(
    eyes: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[list[str]] = []
    study = small_study("grade", {"small": FAST}, tmp_path / "s", eyes, members="floor,regression")
    monkeypatch.setattr(launch, "side_by_side", lambda *_, **more: heard.append(more["kinds"]))
    stages.train(study, context=INLINE)
    assert heard == [["cpu", "cuda"] * 3]
