from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foveal.manifest import Case
from foveal.members.dictionary import Dictionary, _joined
from foveal.members.ridge import CLIP, Learns, spread
from foveal.models.patches import PatchDictionary
from foveal.task import Job, Resources
from foveal.train.cache import Direct


def blocks(
    cases: int = 300,
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    rng, even = np.random.default_rng(0), np.ones(cases)
    given, found = rng.normal(3, 5, (cases, 40)), rng.exponential(2, (cases, 160))
    tensors = {}
    tensors["given_centre"], tensors["given_scale"] = spread(given, even)
    tensors["found_centre"], tensors["found_scale"] = spread(found, even)
    return given, found, tensors


def test_both_blocks_bring_half_of_the_variance() -> None:
    given, found, tensors = blocks()
    x, plain = _joined(given, found, tensors)
    assert plain.shape == given.shape
    assert x.shape == (300, 200)
    assert np.isclose(x[:, :40].var(axis=0).sum(), 100, rtol=0.02)
    assert np.isclose(x[:, 40:].var(axis=0).sum(), 100)


def test_one_odd_picture_moves_a_given_feature_no_further_than_the_clip() -> None:
    given, found, tensors = blocks()
    odd = given[:1] + 1e9
    assert np.allclose(_joined(odd, found[:1], tensors)[0][:, :40], CLIP * np.sqrt(100 / 40))


def test_a_rare_strong_answer_of_the_dictionary_counts_in_full() -> None:
    given, found, tensors = blocks()
    usual, strong = (_joined(given[:1], found[:1] * k, tensors)[0][0, 40:] for k in (1, 100))
    assert strong.max() > 20 * np.abs(usual).max()


@dataclass(frozen=True)
class Given:
    """What a function makes of the number of a case, without a cache."""

    make: Callable[[int], np.ndarray]

    def __call__(self, cases: list[Case], resources: Resources) -> Direct:
        return Direct(lambda row: self.make(int(cases[row].id)), (12, 12, 1), np.dtype(np.uint8))

    def seconds(self, cases: list[Case], rows: np.ndarray) -> float:
        return 0.0


def noise(k: int) -> np.ndarray:
    return np.random.default_rng(k).integers(0, 256, (12, 12, 1), dtype=np.uint8)


def numbers(k: int) -> np.ndarray:
    return np.random.default_rng(k).normal(0, 1, 5)


def test_a_picture_of_weight_0_adds_no_patches(tmp_path: Path) -> None:
    member = Dictionary(
        pictures=Given(noise),
        features=Given(numbers),
        patches=PatchDictionary(words=4, patches=200),
        trees=4,
        learns=Learns(),
    )

    def fit(ids: list[int]) -> dict[str, np.ndarray]:
        job = Job(
            key=(0, 0),
            cases=[Case(id=str(k), paths=()) for k in ids],
            train=np.arange(16),
            held=np.arange(0),
            target=np.eye(3)[np.arange(16) % 3],
            weight=(np.arange(16) < 12).astype(np.float64),
            group=np.arange(16),
            judge=lambda predictions: 0.0,
            folder=tmp_path,
            mark="m",
            resources=Resources(cache=tmp_path),
            report=lambda event: None,
        )
        return dict(member.fit(job).tensors)

    before, after = fit([*range(16)]), fit([*range(12), *range(90, 94)])
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert not np.array_equal(before["filters"], fit([50, *range(1, 16)])["filters"])
