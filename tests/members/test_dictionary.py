import numpy as np

from foveal.members.dictionary import _joined
from foveal.members.ridge import CLIP, spread


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
    x = _joined(given, found, tensors)
    assert x.shape == (300, 200)
    assert np.isclose(x[:, :40].var(axis=0).sum(), 100, rtol=0.02)
    assert np.isclose(x[:, 40:].var(axis=0).sum(), 100)


def test_one_odd_picture_moves_a_given_feature_no_further_than_the_clip() -> None:
    given, found, tensors = blocks()
    odd = given[:1] + 1e9
    assert np.allclose(_joined(odd, found[:1], tensors)[:, :40], CLIP * np.sqrt(100 / 40))


def test_a_rare_strong_answer_of_the_dictionary_counts_in_full() -> None:
    given, found, tensors = blocks()
    usual, strong = (_joined(given[:1], found[:1] * k, tensors)[0, 40:] for k in (1, 100))
    assert strong.max() > 20 * np.abs(usual).max()
