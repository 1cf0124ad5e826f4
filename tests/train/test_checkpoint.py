"""What is saved comes back bit for bit, or not at all."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import nn

from foveal.errors import StudyError
from foveal.train.checkpoint import Checkpoint, load_optimizer, optimizer_tensors, under
from foveal.train.optim import AdamW, Sgd

WEIGHTS = torch.arange(6.0).reshape(2, 3)
NUMBERS = {"epoch": 3, "step": 0, "loss": 0.1, "names": ["a", "é"], "best": None}


VALUES = {
    "turned": WEIGHTS.T,
    "column": WEIGHTS[:, 1],
    "counter": torch.tensor(7),
    "empty": WEIGHTS[:0],
    "not finite": torch.tensor([0.1, float("nan"), -float("inf")], dtype=torch.float64),
    "rough": torch.tensor([1.5, 2.5], dtype=torch.bfloat16),
    "truth": torch.tensor([True, False]),
    "random": torch.get_rng_state(),
    "trained": nn.Parameter(WEIGHTS.clone()),
    "twin": WEIGHTS.T,
    "last": torch.rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
}


def test_every_kind_of_tensor_and_number_comes_back(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "new" / "folder" / "c", "mark")
    checkpoint.save(VALUES, NUMBERS)
    tensors, numbers = checkpoint.load()
    assert numbers == NUMBERS
    assert set(tensors) == set(VALUES)
    for name, value in VALUES.items():
        torch.testing.assert_close(tensors[name], value.detach(), rtol=0, atol=0, equal_nan=True)


def test_another_mark_or_no_file_is_nothing(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "c", "mark")
    for _ in range(2):
        assert checkpoint.load() is None
        checkpoint.save(VALUES, NUMBERS)
        assert Checkpoint(checkpoint.path, "other").load() is None
        assert checkpoint.load() is not None
        checkpoint.path.unlink()


def test_a_file_cut_anywhere_or_of_garbage_is_nothing(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "c", "mark")
    checkpoint.save({"w": WEIGHTS}, NUMBERS)
    whole = checkpoint.path.read_bytes()
    other = [b"garbage", b"\xff" * 500, whole + b"x", save({"w": WEIGHTS})]
    other += [save({"w": WEIGHTS}, metadata={"mark": "mark", **m}) for m in ({}, {"numbers": "{"})]
    for data in (*other, *(whole[:k] for k in range(len(whole)))):
        checkpoint.path.write_bytes(data)
        assert checkpoint.load() is None, data
    checkpoint.path.unlink()
    checkpoint.path.mkdir()
    assert checkpoint.load() is None


@contextmanager
def no_room() -> Iterator[None]:
    """No file may grow beyond a kilobyte, as on a disk that is almost full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_save_that_fails_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "c", "mark")
    checkpoint.save({"w": WEIGHTS}, {"step": 1})
    with no_room(), pytest.raises(StudyError, match="cannot write"):
        checkpoint.save({"w": torch.zeros(10_000)}, {"step": 2})
    with pytest.raises(TypeError):
        checkpoint.save({"w": WEIGHTS + 1}, {"step": object()})
    tensors, numbers = checkpoint.load()
    assert numbers == {"step": 1}
    assert torch.equal(tensors["w"], WEIGHTS)
    assert list(tmp_path.iterdir()) == [checkpoint.path]


def step(model: nn.Module, optimizer: torch.optim.Optimizer, seeds: range) -> None:
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        model(torch.rand(5, 4, generator=generator)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("optim", [AdamW(0.1), Sgd(0.1), Sgd(0.1, momentum=0.0)], ids=repr)
@pytest.mark.parametrize("done", [0, 1, 4])
def test_an_optimiser_goes_on_as_if_it_had_never_stopped(
    tmp_path: Path, optim: Callable, done: int
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        whole, resumed = (nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)) for _ in range(2))
    optimizer, other = optim(whole), optim(resumed)
    step(whole, optimizer, range(done))
    checkpoint = Checkpoint(tmp_path / "c", "mark")
    checkpoint.save(optimizer_tensors(optimizer), {})
    resumed.load_state_dict(whole.state_dict())
    step(whole, optimizer, range(10, 13))

    weights = {k: v.clone() for k, v in resumed.state_dict().items()}
    step(resumed, other, range(90, 97))  # what it knew before must be forgotten
    resumed.load_state_dict(weights)
    load_optimizer(other, checkpoint.load()[0])
    step(resumed, other, range(10, 13))
    for name, value in whole.state_dict().items():
        assert value.isfinite().all()
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.parametrize("optim", [AdamW(0.1), Sgd(0.1)], ids=repr)
def test_what_an_optimiser_went_back_to_stays_as_it_was(optim: Callable) -> None:
    model = nn.Linear(4, 2)
    optimizer = optim(model)
    step(model, optimizer, range(3))
    anchor = {k: v.clone() for k, v in optimizer_tensors(optimizer).items()}
    before = {k: v.clone() for k, v in anchor.items()}
    load_optimizer(optimizer, anchor)
    step(model, optimizer, range(2))
    assert before
    assert all(torch.equal(v, anchor[k]) for k, v in before.items())


def test_names_under_a_prefix_lose_it_once() -> None:
    names = ("model.model.w", "models.w", "a.model.w")
    assert set(under(dict.fromkeys(names, WEIGHTS), "model.")) == {"model.w"}
