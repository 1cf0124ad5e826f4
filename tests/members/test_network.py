"""A network behind the door of a member: it learns, restores, and survives too little memory."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import FAST, job_of
from foveal import stages
from foveal.errors import MemoryBudgetError, Stopped
from foveal.files import read_json
from foveal.losses import ordinal
from foveal.members.network import Network
from foveal.members.training import Training, snapshots_of
from foveal.models.backbone import Backbone
from foveal.stages.open import Opened, open_study
from foveal.task import Context, Job, Resources
from foveal.transforms.mix import Mixup


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, eyes: dict) -> Opened:
    folder = tmp_path_factory.mktemp("network") / "study"
    study = stages.init(folder, recipe="grade:small", options=FAST, **eyes)
    stages.split(study, Context(slots=()))
    return open_study(study)


def job(opened: Opened, folder: Path, **changes: object) -> Job:
    return replace(job_of(opened, folder), **changes)


def network(opened: Opened, name: str = "regression") -> Network:
    (found,) = [m for m in opened.recipe.members if m.name == name]
    return found


def trained(member: Network, **changes: object) -> Network:
    return replace(member, training=replace(member.training, **changes))


def scores(opened: Opened, member: Network, work: Job) -> np.ndarray:
    state = member.fit(work)
    (got,) = member.score([state], work.cases, work.held, work.resources)
    return got.matrix().values[:, 0]


@pytest.mark.parametrize("name", ["regression", "cumulative", "expectation"])
def test_each_approach_scores_in_grades(opened: Opened, tmp_path: Path, name: str) -> None:
    got = scores(opened, network(opened, name), job(opened, tmp_path))
    assert np.isfinite(got).all()
    assert -1 < got.min() <= got.max() < 5


def test_the_same_job_gives_the_same_bits_for_any_number_of_threads(
    opened: Opened, tmp_path: Path
) -> None:
    member = network(opened)
    one = scores(opened, member, job(opened, tmp_path / "a"))
    resources = Resources(cache=opened.study.cache_folder / "t", threads=3)
    other = scores(opened, member, job(opened, tmp_path / "b", resources=resources))
    assert np.array_equal(one, other)


def test_pictures_made_anew_give_the_same_bits_as_cached_ones(
    opened: Opened, tmp_path: Path
) -> None:
    member = network(opened)
    cached = scores(opened, member, job(opened, tmp_path / "a"))
    direct = Resources(cache=tmp_path / "none", cache_bytes=0)
    assert np.array_equal(
        cached, scores(opened, member, job(opened, tmp_path / "b", resources=direct))
    )
    assert not list((tmp_path / "none").glob("*.npy"))


def test_the_score_is_the_mean_over_snapshots(opened: Opened, tmp_path: Path) -> None:
    both = trained(network(opened), epochs=4, cycles=2, snapshots=2)
    work = job(opened, tmp_path)
    state = both.fit(work)
    weights = snapshots_of(state)
    assert len(weights) == 2
    assert set(weights[0]) == set(weights[1])
    alone = []
    for one in weights:
        said = replace(state, tensors={k: v.numpy() for k, v in one.items()})
        (got,) = both.score([said], work.cases, work.held, work.resources)
        alone.append(got.matrix().values)
    (got,) = both.score([state], work.cases, work.held, work.resources)
    assert np.abs(alone[0] - alone[1]).max() > 1e-4
    assert got.matrix().values == pytest.approx(np.mean(alone, axis=0), abs=1e-6)
    last = trained(both, snapshots=1).fit(job(opened, tmp_path / "last"))
    assert all(np.array_equal(v, weights[0][k]) for k, v in last.tensors.items())


@pytest.mark.parametrize(
    "change",
    [
        lambda m: replace(m, head=replace(m.head, dropout=0.7)),
        lambda m: trained(m, mix=Mixup()),
        lambda m: trained(m, warm_up=0.0),
        lambda m: trained(m, ema=0.0),
        lambda m: trained(m, clip=0.01),
        lambda m: trained(m, precision="bf16-mixed"),
        lambda m: trained(m, augment=replace(m.training.augment, rotate_degrees=170.0)),
        lambda m: trained(m, backbone=Backbone("resnet10t", drop_path=0.5)),
    ],
)
def test_settings_reach_the_scores(
    opened: Opened, tmp_path: Path, change: Callable[[Network], Network]
) -> None:
    member = network(opened)
    before = scores(opened, member, job(opened, tmp_path / "a"))
    assert not np.array_equal(before, scores(opened, change(member), job(opened, tmp_path / "b")))


def test_a_checkpoint_of_another_precision_is_not_gone_on_with(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where precision follows from the kind of device, it follows the device of the whole job."""
    mixed = lambda self, model, device: ("bf16-mixed", False)  # noqa: E731
    member = trained(network(opened), epochs=3)
    asked = iter([False] * 4 + [True] * 99)
    stopping = replace(Resources(cache=tmp_path / "cache"), should_stop=lambda: next(asked))
    with pytest.raises(Stopped):
        member.fit(job(opened, tmp_path / "a", resources=stopping))
    monkeypatch.setattr(Training, "numerics", mixed)
    went_on = member.fit(job(opened, tmp_path / "a"))
    afresh = member.fit(job(opened, tmp_path / "b"))
    for name, weights in afresh.tensors.items():
        np.testing.assert_array_equal(weights, went_on.tensors[name])


def test_out_of_memory_halves_the_batch_and_writes_it_down(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = ordinal.squared_error

    def hungry(most: int) -> Callable:
        def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            if len(logits) > most:
                raise torch.OutOfMemoryError("no more")
            return plain(logits, target)

        return loss

    notes: list = []
    member = replace(network(opened), loss=hungry(4))
    work = job(opened, tmp_path, report=notes.append)
    state = member.fit(work)
    assert state.notes["accumulate"] == 4
    assert read_json(tmp_path / "overrides.json") == {work.mark: {"accumulate": 4}}
    assert "cut into 4 parts" in notes[1]["note"]
    with pytest.raises(MemoryBudgetError, match="size="):
        replace(member, loss=hungry(0)).fit(job(opened, tmp_path / "b"))


def test_scoring_in_smaller_batches_gives_the_same_and_trains_once(
    opened: Opened, tmp_path: Path
) -> None:
    member, notes = network(opened), []

    def hungry(most: int) -> Network:
        def to_scores(logits: torch.Tensor) -> torch.Tensor:
            if len(logits) > most:
                raise torch.OutOfMemoryError("no more")
            return member.to_scores(logits)

        return replace(member, to_scores=to_scores)

    plain = scores(opened, member, job(opened, tmp_path / "a"))
    few = scores(opened, hungry(2), job(opened, tmp_path / "b", report=notes.append))
    np.testing.assert_allclose(few, plain, atol=1e-5)
    with pytest.raises(MemoryBudgetError, match="one case is scored at a time"):
        hungry(0).fit(job(opened, tmp_path / "c", report=notes.append))
    assert not any("note" in event for event in notes)
    assert not list(tmp_path.glob("*/overrides.json"))


def test_a_user_error_is_not_taken_for_too_little_memory(opened: Opened, tmp_path: Path) -> None:
    def broken(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        replace(network(opened), loss=broken).fit(job(opened, tmp_path))


def test_channels_last_follows_the_fixed_rule(opened: Opened, tmp_path: Path) -> None:
    depthwise = trained(network(opened), layout="auto")
    dense = trained(depthwise, backbone=Backbone("resnet10t"))
    assert depthwise.fit(job(opened, tmp_path / "a")).notes["channels_last"] is True
    assert dense.fit(job(opened, tmp_path / "b")).notes["channels_last"] is False


def test_the_time_of_large_pictures_is_told_from_smaller_ones(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Size] = []

    def step(_: torch.nn.Module, images: torch.Tensor, *, is_mixed: bool) -> float:
        assert not is_mixed
        seen.append(images.shape)
        return 2.0

    monkeypatch.setattr("foveal.members.training._step_seconds", step)
    resources = Resources(cache=tmp_path)
    for size, batch, shape, times in (
        ((64, 96), 2, (2, 3, 64, 96), 1),
        ((64, 96), 64, (4, 3, 64, 96), 1),
        ((6400, 256), 64, (4, 3, 3200, 128), 4),
        ((1001, 1001), 4, (4, 3, 1001, 1001), 1),
    ):
        training = trained(network(opened), size=size, batch=batch, epochs=3).training
        seconds = training.seconds(torch.nn.Identity(), 10, resources)
        assert set(seen) == {shape}
        assert seconds == pytest.approx(times * 2.0 / shape[0] * 10 * 3)
        seen.clear()


@pytest.mark.parametrize(
    ("precision", "kind"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)]
)
def test_the_step_that_is_timed_computes_as_the_training_does(
    opened: Opened, tmp_path: Path, precision: str, kind: torch.dtype
) -> None:
    model, seen = torch.nn.Conv2d(3, 2, 3), set()
    model.register_forward_hook(lambda _model, _given, made: seen.add(made.dtype))
    trained(network(opened), precision=precision).training.seconds(
        model, 10, Resources(cache=tmp_path)
    )
    assert seen == {kind}


def test_pictures_of_weight_0_are_no_part_of_an_epoch(opened: Opened, tmp_path: Path) -> None:
    whole, member = job(opened, tmp_path / "a"), network(opened)
    weight = whole.weight.copy()
    weight[whole.train[::2]] = 0
    without = job(opened, tmp_path / "b", train=whole.train[1::2])
    got = scores(opened, member, replace(whole, weight=weight))
    np.testing.assert_array_equal(got, scores(opened, member, without))
