"""What a mixed batch shows of each case is what its target says."""

import numpy as np
import pytest
import torch

from foveal.transforms.mix import CellCutmix, Cutmix, FirstOf, Mixup


def batch(cases: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Every case in its own constant colour, and the one-hot target of it."""
    colours = torch.arange(cases, dtype=torch.float32)
    return colours.view(-1, 1, 1, 1).expand(-1, 3, 8, 12).clone(), torch.eye(cases)


@pytest.mark.parametrize("mix", [Mixup(alpha=1.0), Cutmix(alpha=1.0, probability=1.0)])
def test_the_target_says_how_much_of_each_case_is_seen(mix):
    images, target = batch()
    for seed in range(20):
        mixed, owed = mix(images, target, np.random.default_rng(seed))
        torch.testing.assert_close(owed.sum(1), torch.ones(6))
        colours = torch.arange(6, dtype=torch.float32)
        torch.testing.assert_close(mixed.mean((1, 2, 3)), owed @ colours)
        assert (owed >= 0).all()


@pytest.mark.parametrize("mix", [Mixup(), Cutmix(probability=1.0)])
def test_a_batch_is_mixed_the_same_for_the_same_generator_and_never_written_to(mix):
    images, target = batch()
    before = images.clone(), target.clone()
    first, second, other = (mix(images, target, np.random.default_rng(s)) for s in (1, 1, 2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[1], other[1])
    assert not torch.equal(first[1], target)
    assert torch.equal(images, before[0])
    assert torch.equal(target, before[1])


@pytest.mark.parametrize("kind", [Mixup, Cutmix])
def test_probability_is_the_share_of_batches_that_are_mixed(kind):
    images, target = batch()
    rng = np.random.default_rng(0)
    for probability in (0.0, 0.3, 1.0):
        mix = kind(alpha=1.0, probability=probability)
        hits = sum(not torch.equal(mix(images, target, rng)[1], target) for _ in range(200))
        assert abs(hits / 200 - probability) < 0.1


def test_cutmix_shows_one_whole_rectangle_of_one_partner():
    images, target = batch()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        mixed, owed = Cutmix(probability=1.0)(images, target, rng)
        for k, picture in enumerate(mixed[:, 0]):
            foreign = picture != k
            assert set(picture.unique().tolist()) == set(owed[k].nonzero()[:, 0].tolist())
            assert foreign.sum() == foreign.any(0).sum() * foreign.any(1).sum()


def test_alpha_decides_how_evenly_two_cases_are_shared():
    images, target = batch()

    def evenness(mix) -> float:
        rng = np.random.default_rng(0)
        shares = [mix(images, target, rng)[1].amax(1).mean() for _ in range(100)]
        return float(torch.stack(shares).mean())

    for kind in (Mixup, Cutmix):
        even, uneven = kind(alpha=20.0, probability=1.0), kind(alpha=0.05, probability=1.0)
        assert evenness(even) < evenness(uneven) - 0.05


@pytest.mark.parametrize("mix", [Mixup(), Cutmix(probability=1.0)])
def test_a_single_case_is_its_own_partner_and_any_target_shape_passes(mix):
    images, target = batch(1)
    mixed, owed = mix(images, target, np.random.default_rng(0))
    torch.testing.assert_close(mixed, images)
    torch.testing.assert_close(owed, target)
    images, _ = batch()
    masks = torch.rand(6, 1, 8, 12)
    assert mix(images, masks, np.random.default_rng(0))[1].shape == masks.shape
    numbers = torch.arange(6.0)
    assert mix(images, numbers, np.random.default_rng(0))[1].shape == numbers.shape


def test_a_batch_is_mixed_by_the_first_way_that_does() -> None:
    images, target = batch()
    rng = np.random.default_rng
    never, always = Mixup(probability=0.0), Cutmix(probability=1.0)
    assert FirstOf((never,))(images, target, rng(0))[0] is images
    both = FirstOf((never, always))(images, target, rng(0))
    later = rng(0)
    never(images, target, later)
    alone = always(images, target, later)
    assert all(torch.equal(a, b) for a, b in zip(both, alone, strict=True))
    faded = FirstOf((Mixup(probability=1.0), always))(images, target, rng(0))
    assert torch.equal(faded[0], Mixup(probability=1.0)(images, target, rng(0))[0])


CELLS, WIDE = (6, 9), 4
"""Cells of a crop, and pixels a cell is wide."""


def crops(cases: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Every case in its own colour, its target in the same; every place a shade of it."""
    rows, columns = CELLS
    shade = torch.arange(rows * columns, dtype=torch.float32).view(1, 1, rows, columns) / 100
    colour = torch.arange(cases, dtype=torch.float32).view(-1, 1, 1, 1)
    target = (colour + shade).repeat(1, 2, 1, 1)
    target[:, 1] *= -1
    images = (colour + shade).repeat(1, 3, 1, 1)
    return images.repeat_interleave(WIDE, 2).repeat_interleave(WIDE, 3), target


def test_cell_cutmix_cuts_between_cells_and_takes_the_mask_along():
    images, target = crops()
    partners = set()
    for seed in range(40):
        mixed, owed = CellCutmix(1.0)(images, target, np.random.default_rng(seed))
        assert torch.equal(owed[:, 0], -owed[:, 1])
        pixels = owed[:, :1].repeat_interleave(WIDE, 2).repeat_interleave(WIDE, 3)
        assert torch.equal(mixed, pixels.expand(-1, 3, -1, -1))
        whose = owed[:, 0].floor()
        torch.testing.assert_close(owed[:, 0] - whose, target[:, 0] - target[:, 0].floor())
        boxes = set()
        for k, picture in enumerate(whose):
            foreign = picture != k
            assert foreign.sum() == foreign.any(0).sum() * foreign.any(1).sum()
            assert len(picture[foreign].unique()) <= 1
            partners |= {(k, int(other)) for other in picture[foreign].unique()}
            rows, columns = (foreign.any(side).nonzero()[:, 0].tolist() for side in (1, 0))
            if rows:
                boxes.add((rows[0], rows[-1], columns[0], columns[-1]))
        assert len(boxes) <= 1
    assert len(partners) > 12


def test_cell_cutmix_takes_every_share_of_the_area_alike():
    images, target = crops(2)
    found = []
    for seed in range(400):
        _, owed = CellCutmix(1.0)(images, target, np.random.default_rng(seed))
        foreign = owed[0, 0].floor() != 0
        if foreign.any():
            found.append(foreign.float().mean().item())
    assert np.mean(found) == pytest.approx(0.5, abs=0.05)
    assert np.std(found) == pytest.approx(1 / np.sqrt(12), abs=0.04)
    assert min(found) < 0.05
    assert max(found) == 1


def test_cell_cutmix_reaches_every_place():
    images, target = crops(2)
    seen = torch.zeros(CELLS)
    for seed in range(200):
        _, owed = CellCutmix(1.0)(images, target, np.random.default_rng(seed))
        seen += owed[0, 0].floor() != 0
    assert (seen > 5).all()


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_cell_cutmix_mixes_the_share_of_batches_that_it_is_told(probability):
    images, target = crops()
    rng, mix = np.random.default_rng(0), CellCutmix(probability)
    made = [mix(images, target, rng) for _ in range(200)]
    assert abs(np.mean([m[0] is not images for m in made]) - probability) < 0.1
    assert all((m[0] is images) == (m[1] is target) for m in made)


def test_cell_cutmix_mixes_the_same_for_the_same_generator_and_writes_to_nothing():
    images, target = crops()
    before = images.clone(), target.clone()
    first, second, other = (
        CellCutmix(1.0)(images, target, np.random.default_rng(s)) for s in (1, 1, 2)
    )
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[1], other[1])
    assert torch.equal(images, before[0])
    assert torch.equal(target, before[1])


def test_crops_are_cut_or_blended_never_both():
    images, target = crops()
    ways = {"cut": 0, "blended": 0, "none": 0}
    for seed in range(60):
        mix = FirstOf((CellCutmix(0.5), Mixup(alpha=1.0, probability=0.5)))
        mixed, owed = mix(images, target, np.random.default_rng(seed))
        pixels = owed[:, :1].repeat_interleave(WIDE, 2).repeat_interleave(WIDE, 3)
        torch.testing.assert_close(mixed, pixels.expand(-1, 3, -1, -1))
        if mixed is images:
            ways["none"] += 1
        else:
            seen = set(target[:, 0].flatten().tolist())
            ways["cut" if set(owed[:, 0].flatten().tolist()) <= seen else "blended"] += 1
    assert min(ways.values()) > 5
