"""Scores of batches: what the views, the precision and the layout do, and what they do not."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from foveal.errors import Stopped
from foveal.predict.infer import score
from foveal.transforms.views import View, centre, flip_vertical, flips, ten_crop


def network(outputs: int = 2) -> nn.Module:
    """One that tells left from right, with what acts otherwise in training."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5),
        nn.Linear(8 * 6 * 6, outputs),
    )  # fmt: skip


def batches(*sizes: int) -> list[Tensor]:
    rng = np.random.default_rng(0)
    return [torch.from_numpy(rng.integers(0, 255, (n, 3, 8, 8), dtype=np.uint8)) for n in sizes]


def plain(logits: Tensor) -> Tensor:
    return logits


def test_scores_are_those_of_the_model_in_order_whatever_the_batches() -> None:
    model = network()
    with torch.no_grad():
        wanted = model.eval()(torch.cat(batches(4, 3)).float()).sigmoid().numpy()
    got = score(model.train(), batches(4, 3), torch.sigmoid, views=centre)
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
    assert got.dtype == np.float32
    one_by_one = score(model, torch.cat(batches(4, 3)).split(1), torch.sigmoid, views=centre)
    np.testing.assert_allclose(one_by_one, wanted, rtol=1e-5)


@pytest.mark.parametrize("views", [flips, ten_crop], ids=["flips", "ten_crop"])
def test_views_are_merged_to_the_mean_of_each_alone(views: tuple[View, ...]) -> None:
    model = network()
    alone = [score(model, batches(3), torch.sigmoid, views=(v,)) for v in views]
    merged = score(model, batches(3), torch.sigmoid, views=views)
    np.testing.assert_allclose(merged, np.mean(alone, axis=0), rtol=1e-5)
    assert np.abs(merged - alone[0]).max() > 1e-4


def test_scores_are_brought_back_before_they_are_merged() -> None:
    upright = View(inverse=lambda scores: scores.flatten(1))
    turned = View(forward=flip_vertical, inverse=lambda scores: scores.flip(-2).flatten(1))
    got = score(nn.Identity(), batches(2), plain, views=(upright, turned))
    np.testing.assert_array_equal(got, batches(2)[0].flatten(1).numpy())


def test_one_number_a_case_becomes_a_column() -> None:
    got = score(network(1), batches(3, 2), lambda logits: logits[:, 0], views=centre)
    assert got.shape == (5, 1)


def test_bfloat16_changes_scores_by_little_and_not_by_nothing() -> None:
    images = [b / 255 for b in batches(6)]
    exact = score(network(), images, plain, views=centre)
    rough = score(network(), images, plain, views=centre, precision="bf16-mixed")
    assert rough.dtype == np.float32
    assert 0 < np.abs(rough - exact).max() < 0.05


def test_the_layout_changes_no_score_and_reaches_the_model() -> None:
    seen = []

    def note(_: nn.Module, given: tuple[Tensor]) -> None:
        seen.append(given[0].is_contiguous(memory_format=torch.channels_last))

    model = network()
    model.register_forward_pre_hook(note)
    usual = score(model, batches(4), plain, views=centre)
    other = score(model, batches(4), plain, views=centre, channels_last=True)
    np.testing.assert_allclose(other, usual, rtol=1e-4, atol=1e-3)
    assert seen == [False, True]


@pytest.mark.parametrize("before", [0, 1, 2])
def test_it_stops_before_the_next_batch(before: int) -> None:
    taken: list[int] = []
    model = network()
    model.register_forward_hook(lambda *_: taken.append(1))
    with pytest.raises(Stopped, match="the same call goes on"):
        score(
            model, batches(1, 1, 1), plain, views=centre, should_stop=lambda: len(taken) == before
        )
    assert len(taken) == before


@pytest.mark.parametrize("nothing", [[], batches(0)], ids=["no batch", "an empty batch"])
def test_no_cases_have_no_scores(nothing: list[Tensor]) -> None:
    got = score(network(), nothing, plain, views=flips)
    assert got.ndim == 2
    assert len(got) == 0
    assert got.dtype == np.float32
