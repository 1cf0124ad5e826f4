"""Nearly equal pictures are found, whichever way they are turned, and others are not."""

import cv2
import numpy as np
import pytest

from foveal.audit.duplicates import MOST_BITS, SIDE, alike, looks


def picture(seed: int, side: int = 96) -> np.ndarray:
    """Blurred noise with a few bright blobs."""
    rng = np.random.default_rng(seed)
    plane = cv2.GaussianBlur(rng.random((side, side)).astype(np.float32), (0, 0), 4)
    for _ in range(6):
        x, y = rng.integers(10, side - 10, 2).tolist()
        cv2.circle(plane, (x, y), int(rng.integers(3, 12)), float(rng.random()), -1)
    return plane


def seen(plane: np.ndarray) -> np.ndarray:
    return looks(cv2.resize(plane, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float64))


TURNS = [(mirrored, quarters) for mirrored in (False, True) for quarters in range(4)]


@pytest.mark.parametrize(("mirrored", "quarters"), TURNS)
def test_a_turned_and_stored_again_picture_is_alike(mirrored: bool, quarters: int) -> None:  # noqa: FBT001
    for seed in range(10):
        plane = picture(seed)
        turned = np.rot90(plane[:, ::-1] if mirrored else plane, quarters)
        stored = cv2.imencode(".jpg", np.ascontiguousarray(turned * 255), [1, 70])[1]
        again = cv2.imdecode(stored, 0) / 255
        assert alike(np.stack([seen(plane), seen(again)])).tolist() == [0, 0]


def test_other_pictures_are_not() -> None:
    found = np.stack([seen(picture(seed)) for seed in range(200)])
    assert alike(found).tolist() == list(range(200))


def test_flat_pictures_look_like_nothing() -> None:
    flat = np.full((SIDE, SIDE), 0.5)
    assert not looks(flat).any()
    assert alike(np.stack([looks(flat)] * 3)).tolist() == [0, 1, 2]


def test_lots_are_those_of_all_pairs_compared() -> None:
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
    joined = near.any(axis=1) | near.any(axis=1).T
    lots = np.arange(len(found))
    for _ in range(len(found)):
        lots = np.array([lots[row].min() for row in joined])
    np.fill_diagonal(joined, True)  # noqa: FBT003
    assert alike(found).tolist() == lots.tolist()
    assert len(np.unique(lots)) < len(lots) - 60
