"""A dictionary of patches: learned from pictures alone, and about texture."""

from dataclasses import replace

import numpy as np
import pytest

from foveal.models.patches import PatchDictionary

SMALL = PatchDictionary(words=12, patches=2000, rounds=4, mirrored=False)


def textures(count: int, channels: int = 1, side: int = 24, seed: int = 0) -> list[np.ndarray]:
    """Stripes one way or the other, at any brightness and place."""
    rng, made = np.random.default_rng(seed), []
    for k in range(count):
        phase, level = rng.uniform(0, 2 * np.pi), rng.uniform(90, 160)
        wave = 40 * np.sin(np.arange(side) * 1.4 + phase)
        stripes = np.broadcast_to(wave if k % 2 else wave[:, None], (side, side))
        noisy = level + stripes + rng.normal(0, 4, (side, side))
        made.append(np.clip(noisy, 0, 255).astype(np.uint8)[:, :, None].repeat(channels, axis=2))
    return made


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pictures_of_any_size_have_as_many_finite_numbers(channels, dtype):
    pictures = [p.astype(dtype) for p in textures(6, channels)]
    words = SMALL.learn(pictures.__getitem__, range(6), np.random.default_rng(0))
    assert words["filters"].shape == (36 * channels, 12)
    for shape in ((3, 4), (6, 6), (24, 50)):
        numbers = SMALL(np.full((*shape, channels), 77, dtype), words)
        assert numbers.shape == (6 * words["filters"].shape[1],)
        assert np.isfinite(numbers).all()


def test_it_sees_texture_and_not_brightness():
    pictures = textures(40)
    words = SMALL.learn(pictures.__getitem__, range(20), np.random.default_rng(0))
    x = np.stack([SMALL(p, words) for p in pictures])
    brighter = SMALL(np.clip(pictures[30].astype(int) + 30, 0, 255).astype(np.uint8), words)
    assert np.abs(brighter - x[30]).max() < 0.05
    distance = np.linalg.norm(x[20:, None] - x[None, :20], axis=2)
    np.testing.assert_array_equal(distance.argmin(axis=1) % 2, np.arange(20) % 2)


def test_sixteen_bits_say_what_eight_say():
    pictures = textures(4)
    words = SMALL.learn(pictures.__getitem__, range(4), np.random.default_rng(0))
    fine = SMALL(pictures[0].astype(np.uint16) * 257, words)
    np.testing.assert_allclose(fine, SMALL(pictures[0], words), atol=1e-4)


def test_answers_are_those_of_a_slow_loop():
    picture = textures(1, 3, side=14)[0]
    words = SMALL.learn(lambda _: picture, [0], np.random.default_rng(0))
    rows = []
    for top in range(0, 9, 2):
        for left in range(0, 9, 2):
            patch = picture[top : top + 6, left : left + 6].transpose(2, 0, 1).reshape(-1) / 255
            patch = patch - patch.mean()
            rows.append(patch / np.sqrt((patch**2).mean() + (8 / 255) ** 2))
    answers = np.array(rows) @ words["filters"] - words["offset"]
    parts = []
    for side in (answers, -answers):
        strong = np.maximum(side - 1, 0)
        parts += [strong.mean(0), np.sqrt((strong**2).mean(0)), strong.max(0)]
    np.testing.assert_allclose(SMALL(picture, words), np.sqrt(np.concatenate(parts)), atol=1e-3)


def test_the_same_draw_learns_the_same_words():
    pictures = textures(6)
    one, two, other = (
        SMALL.learn(pictures.__getitem__, range(6), np.random.default_rng(k)) for k in (0, 0, 1)
    )
    np.testing.assert_array_equal(one["filters"], two["filters"])
    assert np.abs(one["filters"] - other["filters"]).max() > 0.01


def test_identical_pictures_do_not_break_the_clustering():
    flat = np.full((16, 16, 1), 9, np.uint8)
    words = SMALL.learn(lambda _: flat, range(3), np.random.default_rng(0))
    assert np.isfinite(words["filters"]).all()


def test_a_mirror_image_is_described_as_the_picture_where_it_is_wanted():
    pictures = [np.random.default_rng(k).integers(0, 255, (17, 20, 3), np.uint8) for k in range(4)]
    words = SMALL.learn(pictures.__getitem__, range(4), np.random.default_rng(0))
    both = replace(SMALL, mirrored=True)
    for other in (pictures[0][::-1], pictures[0][:, ::-1], pictures[0][::-1, ::-1]):
        np.testing.assert_allclose(both(other, words), both(pictures[0], words), atol=1e-6)
        assert np.abs(SMALL(other, words) - SMALL(pictures[0], words)).max() > 0.01
