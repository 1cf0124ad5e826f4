"""Nearly equal pictures are found, whichever way they are turned, and others are not."""

import tracemalloc

import cv2
import numpy as np
import pytest

from foveal.audit.duplicates import MOST_BITS, SIDE, _near, alike, looks


def picture(seed: int, side: int = 96) -> np.ndarray:
    """Blurred noise with a few bright blobs."""
    rng = np.random.default_rng(seed)
    plane = cv2.GaussianBlur(rng.random((side, side)).astype(np.float32), (0, 0), 4)
    for _ in range(6):
        x, y = rng.integers(10, side - 10, 2).tolist()
        cv2.circle(plane, (x, y), int(rng.integers(3, 12)), float(rng.random()), -1)
    return plane


def seen(plane: np.ndarray) -> np.ndarray:
    return cv2.resize(plane, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float64)


def stored(plane: np.ndarray, quality: int = 70) -> np.ndarray:
    data = cv2.imencode(".jpg", np.ascontiguousarray(plane * 255).astype(np.uint8), [1, quality])[1]
    return cv2.imdecode(data, 0) / 255


def scene(seed: int) -> np.ndarray:
    """Nearly all of it is what every picture has, as eyes have a disc, its place and its light."""
    return np.clip(0.85 * picture(1000) + 0.15 * picture(seed), 0, 1)


TURNS = [(mirrored, quarters) for mirrored in (False, True) for quarters in range(4)]


@pytest.mark.parametrize(("mirrored", "quarters"), TURNS)
def test_a_turned_and_stored_again_picture_is_alike(mirrored: bool, quarters: int) -> None:  # noqa: FBT001
    for seed in range(10):
        plane = picture(seed)
        turned = np.rot90(plane[:, ::-1] if mirrored else plane, quarters)
        assert alike(np.stack([seen(plane), seen(stored(turned))])).tolist() == [0, 0]


def test_other_pictures_are_not() -> None:
    found = np.stack([seen(picture(seed)) for seed in range(200)])
    assert alike(found).tolist() == list(range(200))


def test_flat_pictures_look_like_nothing() -> None:
    flat = np.full((SIDE, SIDE), 0.5)
    assert alike(np.stack([flat] * 3)).tolist() == [0, 1, 2]


def test_other_pictures_of_one_composition_are_not() -> None:
    """Signs alone would call most of them one."""
    found = np.stack([seen(scene(seed)) for seed in range(60)])
    look = looks(found)[:, 0]
    near = np.bitwise_count(look[:, None] ^ look) <= MOST_BITS
    assert near.sum() > 60 + 100
    assert alike(found).tolist() == list(range(60))


@pytest.mark.parametrize(("mirrored", "quarters"), TURNS)
def test_copies_among_pictures_of_one_composition_are(mirrored: bool, quarters: int) -> None:  # noqa: FBT001
    """They are found, and no two pictures are one for being turned the same unusual way."""
    planes = [scene(seed) for seed in range(40)]
    copies = [np.rot90(p[:, ::-1] if mirrored else p, quarters) for p in planes[:12]]
    copies = [seen(cv2.resize(stored(0.9 * c + 0.05, 90), (64, 64))) for c in copies]
    found = alike(np.stack([*map(seen, planes), *copies]))
    assert found.tolist() == [*range(40), *range(12)]


def test_where_all_are_copies_of_one_they_are_one() -> None:
    plane = scene(0)
    found = [seen(stored(plane, quality)) for quality in range(60, 100, 2)]
    assert not alike(np.stack(found)).any()


def test_many_pictures_of_one_look_take_little_memory() -> None:
    """Whether all of them are one, or each is another."""
    rng = np.random.default_rng(0)
    base = seen(picture(0))
    noise = 0.6 * base.std() * rng.standard_normal((1000, SIDE, SIDE))
    others, copies = base + noise, np.repeat(base[None], 1000, axis=0)
    for found, lots in ((others, 1000), (copies, 1)):
        tracemalloc.start()
        got = alike(found)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(np.unique(got)) == lots
        assert peak < 120e6


def test_pictures_of_nearly_one_look_are_those_of_all_pairs_compared() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(1, 2**63, (60, 8), dtype=np.uint64)
    found = [base]
    for bits in (1, 2, 3, 4, 5):
        flips = np.array([sum(1 << int(b) for b in rng.choice(64, bits, replace=False))
                          for _ in range(60)], dtype=np.uint64)  # fmt: skip
        changed = base.copy()
        changed[:, 0] = np.roll(base, bits, axis=1)[:, 0] ^ flips
        found.append(changed)
    found = np.concatenate(found)
    near = np.bitwise_count(found[:, :, None] ^ found[None, :, 0].reshape(1, 1, -1)) <= MOST_BITS
    wanted = {(8 * k + turn, other) for k, turn, other in np.argwhere(near).tolist() if k != other}
    pairs = [
        (int(some[k]), int(others[j]))
        for some, others, close in _near(found)
        for k, j in np.argwhere(close).tolist()
        if some[k] // 8 != others[j]
    ]
    assert len(pairs) == len(set(pairs)) > 60
    assert set(pairs) == wanted
