"""A network on crops: where it learns, what it sees there, and what becomes of its scores."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_cdt
from torch import Tensor

from conftest import INK, INLINE, draw_scans
from foveal import stages
from foveal.digests import digest
from foveal.errors import DiskFullError, MemoryBudgetError, Stopped, TargetError, UsageError
from foveal.files import read_json
from foveal.lattice import cells, part_of, region_of
from foveal.losses.overlap import CrossEntropyAndFBeta
from foveal.losses.overlap import foreground as plain_foreground
from foveal.manifest import Case, Window
from foveal.members.crops import Crops
from foveal.members.segmenter import Segmenter
from foveal.members.training import Training
from foveal.members.volumes import StoredVolumes, learnable
from foveal.models.backbone import Backbone
from foveal.models.volumetric import VolumetricModel
from foveal.predictions import Predictions
from foveal.read import slices
from foveal.read.volume import Volume
from foveal.split.record import Split
from foveal.stages.open import Opened
from foveal.stages.split import open_split
from foveal.task import Job, Member, Resources, State
from foveal.train.batches import AHEAD
from foveal.transforms.augment import Augment
from foveal.transforms.mix import CellCutmix, Mixup
from foveal.transforms.tiles import Dense, Inner, Windows, uniform

UPRIGHT = Augment(flip_horizontal=0.0)
FLIPPED = Augment(flip_horizontal=0.5, flip_vertical=0.5)
VIVID = Augment(flip_vertical=0.5, rotate_degrees=180.0, scale=(0.7, 1.4), elastic=0.03)

Units = tuple[Opened, Split]


def opened_study(folder: Path, of: dict, **options: object) -> Units:
    study = stages.init(folder, recipe="segment:small", options={**INK, **options}, **of)
    stages.split(study, INLINE)
    return open_split(study)


@pytest.fixture(scope="module")
def whole(inked: Opened) -> Units:
    """Folds over whole volumes."""
    return open_split(inked.study)


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Units:
    """Volumes of other sizes, one with a region, cut into three."""
    folder = tmp_path_factory.mktemp("cut")
    of = draw_scans(folder, sizes=[(64, 96), (60, 90)], depths=(4, 4), seed=2)
    return opened_study(folder / "study", of, folds=3, guard=4)


@pytest.fixture(scope="module")
def tall(tmp_path_factory: pytest.TempPathFactory) -> Units:
    """The same, higher than wide."""
    folder = tmp_path_factory.mktemp("tall")
    of = draw_scans(folder, sizes=[(96, 64), (90, 50)], depths=(4, 4), seed=3)
    return opened_study(folder / "study", of, folds=3, guard=4)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Units:
    """One volume in halves whose slices tell the row and the column of every pixel."""
    folder = tmp_path_factory.mktemp("places")
    of = draw_scans(folder, sizes=[(64, 96)], depths=(2,), seed=4)
    y, x = np.mgrid[:64, :96]
    for z, plane in enumerate((3 * y, 2 * x)):
        cv2.imwrite(str(folder / f"a/{z}.png"), plane.astype(np.uint8))
    return opened_study(folder / "study", of, folds=2, guard=6, depth=2)


def network(of: Units) -> Segmenter:
    """The study's network, on crops drawn evenly, scored by small windows."""
    (found,) = [m for m in of[0].recipe.members if m.name == "network"]
    return replace(found, dense=None, foreground=0.0)


def trained(member: Segmenter, **changes: object) -> Segmenter:
    return replace(member, training=replace(member.training, **changes))


def shaped(member: Segmenter, **changes: object) -> Segmenter:
    return replace(member, network=replace(member.network, **changes))


def job(of: Units, folder: Path, fold: int = 0, **changes: object) -> Job:
    opened, made = of
    work = Job(
        key=(0, fold),
        cases=opened.manifest.cases(),
        train=np.flatnonzero(made.learns(fold)),
        held=np.flatnonzero(made.fold == fold),
        target=opened.recipe.target.train(opened.target),
        weight=opened.manifest.weight,
        group=made.group,
        judge=lambda predictions: float(predictions.values.mean()),
        folder=folder,
        mark="m",
        resources=Resources(cache=opened.study.cache_folder / "t"),
        report=lambda event: None,
    )
    return replace(work, **changes)


def planes(member: Member, work: Job, state: State | None = None) -> dict[str, np.ndarray]:
    """The scores of the held units."""
    state = member.fit(work) if state is None else state
    (said,) = member.score([state], work.cases, work.held, work.resources)
    return dict(said.arrays())


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


# --- where it learns ------------------------------------------------------------------------------


def allowed_in(of: Units, fold: int, guard: int) -> tuple[Job, list[np.ndarray]]:
    work = job(of, Path())
    made = of[1]
    train, held = np.flatnonzero(made.learns(fold)), np.flatnonzero(made.fold == fold)
    volumes = [StoredVolumes(4)(work.cases[k], work.resources) for k in train]
    work = replace(work, train=train, held=held)
    return work, learnable(work.cases, train.tolist(), held.tolist(), volumes, guard=guard)


@pytest.mark.parametrize("guard", [0, 1, 4, 13])
@pytest.mark.parametrize("fold", [0, 1, 2])
@pytest.mark.parametrize("units", ["cut", "tall"])
def test_learning_keeps_the_guard_to_what_is_judged_at_any_place(
    request: pytest.FixtureRequest, units: str, fold: int, guard: int
) -> None:
    work, found = allowed_in(request.getfixturevalue(units), fold, guard)
    assert len(found) == len(work.train) > 0
    plane = {work.cases[r].paths: a.shape for r, a in zip(work.train, found, strict=True)}
    for row, allowed in zip(work.train, found, strict=True):
        case = work.cases[row]
        own = np.zeros(allowed.shape, dtype=bool)
        part_of(own, case.window)[...] = True
        judged = np.zeros((200, 200), dtype=bool)
        for k in work.held:
            if plane[work.cases[k].paths] == allowed.shape:
                part_of(judged, work.cases[k].window)[...] = True
        away = distance_transform_cdt(~judged, "chessboard")[: own.shape[0], : own.shape[1]]
        region = region_of(case, *own.shape)
        np.testing.assert_array_equal(allowed, own & region & (away > guard))


def test_a_guard_wider_than_the_volume_leaves_nothing(cut: Units) -> None:
    with pytest.raises(UsageError, match="guard=500"):
        allowed_in(cut, 1, 500)


def test_regions_that_are_all_empty_are_told_of(whole: Units, tmp_path: Path) -> None:
    work = job(whole, Path())
    volumes = [StoredVolumes(4)(work.cases[k], work.resources) for k in work.train]
    cases = list(work.cases)
    for k, volume in zip(work.train.tolist(), volumes, strict=True):
        path = str(tmp_path / f"{k}.png")
        cv2.imwrite(path, np.zeros(volume.plane, np.uint8))
        cases[k] = replace(cases[k], paths=(cases[k].paths[0], path))
    with pytest.raises(TargetError, match="regions are all empty") as caught:
        learnable(cases, work.train.tolist(), work.held.tolist(), volumes, guard=0)
    assert caught.value.culprits == tuple(cases[k].id for k in work.train)


def test_whole_volumes_are_learned_wherever_they_count(whole: Units) -> None:
    for fold in range(2):
        work, found = allowed_in(whole, fold, 30)
        for row, allowed in zip(work.train, found, strict=True):
            np.testing.assert_array_equal(allowed, region_of(work.cases[row], *allowed.shape))


Lessons = Callable[[int, int], Iterator[tuple[Tensor, Tensor]]]


@pytest.fixture
def lessons(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Lessons]:
    """What a member would be trained on."""

    def caught(member: Segmenter, work: Job) -> Lessons:
        found: list[Any] = []

        def fit(self: Training, job: Job, model: Any, loss: Any, data: Any, **_: Any) -> State:
            found.append(data)
            return State({}, {})

        with monkeypatch.context() as patch:
            patch.setattr(Training, "fit", fit)
            member.fit(work)
        return found[0]

    return caught


def crops(of: Lessons, epochs: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """All crops of some epochs, and their targets."""
    parts = [batch for epoch in range(epochs) for batch in of(epoch, 0)]
    images, targets = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
    return images, targets


def places_of(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The row and the column that every pixel of a crop of `places` is from."""
    return images[:, 0] / 3, images[:, 1] / 2


def mask_in(of: Units) -> np.ndarray:
    return cv2.imread(str(of[0].target[0]), cv2.IMREAD_UNCHANGED) > 0


def at_places(member: Segmenter, augment: Augment, number: int = 40) -> Segmenter:
    return replace(trained(member, augment=augment), crops=number)


@pytest.mark.parametrize("fold", [0, 1])
@pytest.mark.parametrize("augment", [UPRIGHT, FLIPPED], ids=["upright", "flipped"])
def test_the_target_of_a_crop_is_what_lies_behind_its_pixels(
    places: Units, lessons: Callable, tmp_path: Path, fold: int, augment: Augment
) -> None:
    member = at_places(network(places), augment)
    work = job(places, tmp_path, fold)
    images, targets = crops(lessons(member, work))
    assert images.shape == (40, 2, 32, 32)
    assert images.dtype == np.uint8
    assert targets.shape == (40, 2, 8, 8)
    assert targets.dtype == np.float32
    row, column = (p.astype(int) for p in places_of(images))
    (allowed,) = allowed_in(places, fold, 6)[1]
    for k in range(len(images)):
        area = cells(allowed[row[k], column[k]], 4)
        hit = cells((allowed & mask_in(places))[row[k], column[k]], 4)
        np.testing.assert_allclose(targets[k, 1], area / 16, atol=1e-6)
        np.testing.assert_allclose(targets[k, 0], hit / 16, atol=1e-6)
    assert 0 < (targets[:, 1] == 0).mean() < 0.9
    assert len({r.tobytes() for r in row}) > 20


def test_no_crop_however_turned_counts_what_may_not_be_learned(
    places: Units, lessons: Callable, tmp_path: Path
) -> None:
    for fold in (0, 1):
        member = at_places(network(places), VIVID, 80)
        images, targets = crops(lessons(member, job(places, tmp_path, fold)))
        (allowed,) = allowed_in(places, fold, 6)[1]
        row, column = (np.round(p).astype(int) for p in places_of(images))
        near = cv2.dilate(allowed.astype(np.uint8), np.ones((5, 5)))[row, column]
        surely = cv2.erode(allowed.astype(np.uint8), np.ones((5, 5)))[row, column]
        for k in range(len(images)):
            counts = targets[k, 1]
            assert (counts[cells(near[k], 4) == 0] == 0).all()
            assert (counts[cells(surely[k], 4) == 16] > 0.99).all()
        assert targets.min() >= 0
        assert targets.max() <= 1 + 1e-6


def test_crops_are_around_pixels_that_may_be_learned_all_alike(
    places: Units, lessons: Callable, tmp_path: Path
) -> None:
    member = at_places(network(places), UPRIGHT, 200)
    of = lessons(member, job(places, tmp_path))
    images, _ = crops(of, epochs=4)
    row, column = (p[:, 16, 16].astype(int) for p in places_of(images))
    (allowed,) = allowed_in(places, 0, 6)[1]
    assert allowed[row, column].all()
    for found, wanted in zip((row, column), np.nonzero(allowed), strict=True):
        assert abs(found.mean() - wanted.mean()) < 4 * wanted.std() / np.sqrt(len(found))
        assert found.std() == pytest.approx(wanted.std(), rel=0.1)
    assert len(set(zip(row.tolist(), column.tolist(), strict=True))) > 500  # epochs differ


def test_where_all_weights_are_0_nothing_can_be_learned(whole: Units, tmp_path: Path) -> None:
    work = job(whole, tmp_path)
    with pytest.raises(UsageError, match="weight of 0"):
        network(whole).fit(replace(work, weight=0 * work.weight))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_crops_are_drawn_around_foreground_as_often_as_asked(
    places: Units, lessons: Callable, tmp_path: Path, share: float
) -> None:
    member = replace(at_places(network(places), UPRIGHT, 400), foreground=share)
    images, _ = crops(lessons(member, job(places, tmp_path)))
    row, column = (p[:, 16, 16].astype(int) for p in places_of(images))
    (allowed,) = allowed_in(places, 0, 6)[1]
    mask = mask_in(places)
    assert allowed[row, column].all()
    evenly = mask[allowed].mean()
    assert mask[row, column].mean() == pytest.approx(share + (1 - share) * evenly, abs=0.08)


def test_without_foreground_crops_are_drawn_evenly(
    places: Units, lessons: Callable, tmp_path: Path
) -> None:
    member = replace(at_places(network(places), UPRIGHT), foreground=1.0)
    blank = tmp_path / "blank.png"
    cv2.imwrite(str(blank), 0 * mask_in(places).astype(np.uint8))
    work = job(places, tmp_path)
    images, _ = crops(lessons(member, replace(work, target=np.full(len(work.cases), str(blank)))))
    assert len(images) == 40


def test_a_volume_of_no_weight_is_never_drawn(
    whole: Units, lessons: Callable, tmp_path: Path
) -> None:
    work = job(whole, tmp_path)
    weight = work.weight.copy()
    weight[work.train[0]] = 0.0
    member = replace(trained(network(whole), augment=UPRIGHT), crops=80)
    images, _ = crops(lessons(member, replace(work, weight=weight)))
    volume = StoredVolumes(4)(work.cases[work.train[1]], work.resources).values
    wide = np.pad(volume, ((32, 32), (32, 32), (0, 0)), mode="reflect")
    views = np.lib.stride_tricks.sliding_window_view(wide, (4, 4), axis=(0, 1))
    known = {v.tobytes() for v in views.reshape(-1, 4, 4, 4)}
    assert all(np.ascontiguousarray(i[:, :4, :4]).tobytes() in known for i in images)


def test_the_crops_of_a_step_do_not_depend_on_the_steps_before(
    whole: Units, lessons: Callable, tmp_path: Path
) -> None:
    of = lessons(network(whole), job(whole, tmp_path))
    assert of.steps == 2
    (_, second), (late,) = list(of(3, 0)), list(of(3, 1))
    assert all(torch.equal(a, b) for a, b in zip(second, late, strict=True))


def test_volumes_of_8_and_of_16_bit_are_learned_at_one_scale(
    lessons: Callable, tmp_path: Path
) -> None:
    of = draw_scans(tmp_path, sizes=[(64, 96)] * 3, depths=(4, 4, 4), region=None, seed=5)
    for file in sorted((tmp_path / "a").iterdir()):
        plane = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(tmp_path / "b" / file.name), plane.astype(np.uint16) * 257)
    study = opened_study(tmp_path / "study", of, folds=3)
    work = job(study, tmp_path, int(study[1].fold[2]))
    assert [work.cases[k].id for k in work.train] == ["a", "b"]
    member = network(study)
    shallow, deep, both = (
        crops(lessons(member, replace(work, weight=np.array(weight))))[0]
        for weight in ((1.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    )
    assert shallow.dtype == both.dtype == np.uint16
    np.testing.assert_array_equal(shallow, deep)
    assert both.std() == pytest.approx(deep.std(), rel=0.2)


@pytest.mark.parametrize("threads", [2, 5])
def test_crops_are_the_same_bits_whoever_makes_them_and_are_made_ahead(
    cut: Units, lessons: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    member = replace(trained(network(cut), augment=VIVID), crops=40, foreground=0.3)
    work = job(cut, tmp_path)
    wanted = crops(lessons(member, work), epochs=2)
    of = lessons(member, replace(work, resources=replace(work.resources, threads=threads)))
    for got, one in zip(crops(of, epochs=2), wanted, strict=True):
        np.testing.assert_array_equal(got, one)
    makers, plain = [], Crops._crop

    def watched(self: Crops, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        makers.append(threading.get_ident())
        return plain(self, rng)

    monkeypatch.setattr(Crops, "_crop", watched)
    running = of(0, 0)
    next(running)
    running.close()
    assert len(makers) == (1 + AHEAD) * member.training.batch
    assert threading.get_ident() not in makers


# --- depth ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Units:
    """Volumes of which every slice is of its own grey."""
    folder = tmp_path_factory.mktemp("steps")
    of = draw_scans(folder, sizes=[(64, 96), (64, 96)], depths=(13, 10), seed=4, region=None)
    for name, depth in (("a", 13), ("b", 10)):
        for z in range(depth):
            cv2.imwrite(str(folder / f"{name}/{z}.png"), np.full((64, 96), 10 * z, np.uint8))
    options = {"depth": 6, "group": 3, "folds": 2}
    return opened_study(folder / "study", of, **options)


def depths(member: Segmenter, work: Job, lessons: Callable) -> np.ndarray:
    """The slices that every crop shows."""
    images, _ = crops(lessons(replace(trained(member, augment=UPRIGHT), crops=80), work))
    assert (images == images[:, :, :1, :1]).all()
    return images[:, :, 0, 0] // 10


@pytest.mark.parametrize(("fold", "first"), [(0, (3, 2)), (1, (3, 2))])
def test_slices_are_those_around_the_middle(
    steps: Units, lessons: Callable, tmp_path: Path, fold: int, first: tuple[int, ...]
) -> None:
    work = job(steps, tmp_path, fold)
    found = depths(network(steps), work, lessons)
    learned = int(work.train[0])
    assert {tuple(row) for row in found.tolist()} == {
        tuple(range(first[learned], first[learned] + 6))
    }


def test_z_shift_moves_a_crop_by_at_most_so_many_slices_either_way(
    steps: Units, lessons: Callable, tmp_path: Path
) -> None:
    work = job(steps, tmp_path, int(steps[1].fold[1]))  # learns from a, of 13 slices
    found = depths(replace(network(steps), z_shift=2), work, lessons)
    assert set(found[:, 0].tolist()) == {1, 2, 3, 4, 5}
    assert (np.diff(found, axis=1) == 1).all()


def test_slices_are_shuffled_inside_their_groups_all_groups_alike(
    steps: Units, lessons: Callable, tmp_path: Path
) -> None:
    work = job(steps, tmp_path, int(steps[1].fold[1]))
    found = depths(replace(network(steps), shuffle=0.5), work, lessons) - 3
    np.testing.assert_array_equal(found[:, 3:], found[:, :3] + 3)
    assert set(found[:, :3].reshape(-1).tolist()) == {0, 1, 2}
    orders = {tuple(row) for row in found[:, :3].tolist()}
    assert len(orders) == 6
    stayed = (found[:, :3] == [0, 1, 2]).all(axis=1).mean()
    assert 0.4 < stayed < 0.8  # a half, and a sixth of the rest
    assert (depths(network(steps), work, lessons) - 3 == np.arange(6)).all()


def test_windows_are_scored_with_the_slices_that_crops_show(
    steps: Units, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []

    def plane(evaluate: Any, read: Any, plan: Any, shape: Any, **_: Any) -> np.ndarray:
        seen.append(read(0, 0, 1, 1)[:, 0, 0] // 10)
        return np.ones(shape, dtype=np.float32)

    monkeypatch.setattr("foveal.members.segmenter.score_plane", plane)
    work = job(steps, tmp_path)
    for z_shift in (0, 2):
        member = replace(network(steps), z_shift=z_shift)
        weights = member._model(pretrained=False).state_dict()
        state = State({k: v.numpy() for k, v in weights.items()}, {"dense_step": 0})
        member.score([state], work.cases, np.arange(2), work.resources)
    assert [s.tolist() for s in seen] == 2 * [list(range(3, 9)), list(range(2, 8))]


@pytest.mark.parametrize("slices", [1, 2, 3, 4, 7, 12])
def test_where_slices_are_missing_the_edge_is_repeated(
    whole: Units, tmp_path: Path, slices: int
) -> None:
    resources = Resources(cache=tmp_path)
    for case in whole[0].manifest.cases():
        files = sorted(Path(case.paths[0]).iterdir())
        have = np.stack([cv2.imread(str(f), cv2.IMREAD_UNCHANGED) for f in files], axis=2)
        first = (len(files) - slices) // 2
        wanted = have[:, :, np.clip(np.arange(first, first + slices), 0, len(files) - 1)]
        np.testing.assert_array_equal(StoredVolumes(slices)(case, resources).values, wanted)


# --- scores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["floor", "network"])
@pytest.mark.parametrize("units", ["whole", "cut"])
def test_scores_lie_on_the_lattice_and_are_0_outside_the_region_alone(
    request: pytest.FixtureRequest, tmp_path: Path, units: str, kind: str
) -> None:
    of = request.getfixturevalue(units)
    (member,) = [m for m in of[0].recipe.members if m.name == kind]
    outside = 0
    for fold in range(of[1].folds):
        work = job(of, tmp_path / str(fold), fold)
        found = planes(member, work)
        assert list(found) == [work.cases[k].id for k in work.held]
        for k in work.held:
            case = work.cases[k]
            size = cv2.imread(str(of[0].target[k]), cv2.IMREAD_UNCHANGED).shape
            inside = cells(part_of(region_of(case, *size), case.window), 4) > 0
            plane = found[case.id]
            assert plane.dtype == np.float32
            np.testing.assert_array_equal(plane > 0, inside)
            assert plane.max() <= 1
            outside += int((~inside).sum())
    assert outside > 0


def test_a_part_scores_as_its_place_of_the_whole_where_its_windows_are_the_same(
    cut: Units, tmp_path: Path
) -> None:
    member = replace(network(cut), windows=Windows(8, 8, alternate=False))
    work = job(cut, tmp_path)
    state = member.fit(work)
    whole_cases = [replace(c, window=None) for c in work.cases]
    parts = dict(member.score([state], work.cases, np.arange(3), work.resources)[0].arrays())
    (plane,) = (
        p for _, p in member.score([state], whole_cases, np.arange(1), work.resources)[0].arrays()
    )
    first = parts[work.cases[0].id]
    assert first.shape[1] >= 8
    np.testing.assert_allclose(first[:, :8], plane[:, :8], atol=1e-5)


@pytest.mark.parametrize("kind", ["floor", "network"])
def test_a_broken_volume_is_left_out(whole: Units, tmp_path: Path, kind: str) -> None:
    (member,) = [m for m in whole[0].recipe.members if m.name == kind]
    work = job(whole, tmp_path)
    state = member.fit(work)
    (tmp_path / "x").mkdir()
    (tmp_path / "x/0.png").write_bytes(b"no picture")
    cases = list(work.cases)
    cases[1] = replace(cases[1], paths=(str(tmp_path / "x"),))
    cases[2] = replace(cases[2], paths=(str(tmp_path / "nowhere"),))
    (plain,) = member.score([state], work.cases, np.arange(4), work.resources)
    for said in member.score([state, state], cases, np.arange(4), work.resources):
        assert said.ids == ("a", "d")
        assert same(dict(said.arrays()), dict(plain.take(["a", "d"]).arrays()))
        assert len(said.seconds) == 2


@pytest.mark.parametrize("kind", ["floor", "network"])
def test_a_full_disk_is_no_fault_of_a_volume(
    whole: Units, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (member,) = [m for m in whole[0].recipe.members if m.name == kind]
    work = job(whole, tmp_path)
    state = member.fit(work)

    def full(*_: object) -> NoReturn:
        raise DiskFullError("the disk is full")

    monkeypatch.setattr(StoredVolumes, "__call__", full)
    with pytest.raises(DiskFullError):
        member.score([state], work.cases, np.arange(2), work.resources)


@pytest.mark.parametrize("kind", ["floor", "network"])
def test_the_seconds_of_a_volume_are_those_of_its_reading_too(
    whole: Units, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (member,) = [m for m in whole[0].recipe.members if m.name == kind]
    work = job(whole, tmp_path)
    state, plain = member.fit(work), StoredVolumes.__call__

    def slow(self: StoredVolumes, case: Case, resources: Resources) -> Volume:
        time.sleep(0.5)
        return plain(self, case, resources)

    monkeypatch.setattr(StoredVolumes, "__call__", slow)
    for said in member.score([state, state], work.cases, np.arange(2), work.resources):
        assert (said.seconds >= 0.25).all()


@pytest.mark.parametrize("dense", [None, Dense(side=24, halo=2)], ids=["windows", "dense"])
def test_windows_are_scored_in_smaller_batches_where_memory_is_short(
    whole: Units, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dense: Dense | None
) -> None:
    member = replace(network(whole), dense=dense)
    work = job(whole, tmp_path)
    state = member.fit(work)
    member = trained(member, batch=20)  # two large crops fit in
    before = planes(member, work, state)
    seen: list[int] = []

    def hungry(most: int) -> Callable[[Tensor], Tensor]:
        def foreground(logits: Tensor) -> Tensor:
            seen.append(len(logits))
            if len(logits) > most:
                raise torch.OutOfMemoryError("no more")
            return plain_foreground(logits)

        return foreground

    monkeypatch.setattr("foveal.members.segmenter.foreground", hungry(1))
    after = planes(member, work, state)
    assert {1} < set(seen)
    assert before.keys() == after.keys()
    for name, plane in before.items():
        np.testing.assert_allclose(after[name], plane, atol=1e-5)
    monkeypatch.setattr("foveal.members.segmenter.foreground", hungry(0))
    with pytest.raises(MemoryBudgetError, match="block="):
        planes(member, work, state)


@pytest.mark.parametrize("kind", ["floor", "network"])
def test_the_same_job_gives_the_same_bits_for_any_number_of_threads(
    cut: Units, tmp_path: Path, kind: str
) -> None:
    (member,) = [m for m in cut[0].recipe.members if m.name == kind]
    one = planes(member, job(cut, tmp_path / "a"))
    resources = Resources(cache=tmp_path / "cache", threads=3)
    assert same(one, planes(member, job(cut, tmp_path / "b", resources=resources)))
    assert not same(one, planes(member, job(cut, tmp_path / "c", key=(1, 0))))


@pytest.mark.parametrize("kind", ["floor", "network"])
def test_what_a_fold_judges_changes_nothing_that_it_learns(
    cut: Units, tmp_path: Path, kind: str
) -> None:
    (member,) = [m for m in cut[0].recipe.members if m.name == kind]
    if kind == "network":
        member = trained(member, augment=VIVID, mix=Mixup(probability=0.5))
    for fold in range(3):
        work = job(cut, tmp_path / f"{fold}-a", fold)
        target = work.target.tolist()
        for k in work.held:
            mask = cv2.imread(target[k], cv2.IMREAD_UNCHANGED)
            part = part_of(mask, work.cases[k].window)
            part[...] = 255 - part
            changed = str(tmp_path / f"{fold}-{work.cases[k].id.replace('/', '-')}.png")
            cv2.imwrite(changed, mask)
            target = [changed if t == target[k] else t for t in target]
        assert set(target) & set(work.target.tolist()) == set()
        other = job(cut, tmp_path / f"{fold}-b", fold, target=np.array(target))
        assert same(member.fit(work).tensors, member.fit(other).tensors)


def test_the_curve_is_of_the_held_units(cut: Units, tmp_path: Path) -> None:
    heard: list[Predictions] = []

    def judge(said: Predictions) -> float:
        heard.append(said)
        return 0.5

    rows: list[dict] = []
    member = trained(network(cut), epochs=3)
    work = job(cut, tmp_path, judge=judge, report=lambda event: rows.append(dict(event)))
    found = planes(member, work)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [row["held"] for row in rows] == [0.5] * 3
    assert rows[-1]["done"] == 1
    assert len(heard) == 3
    last = dict(heard[-1].arrays())  # of the network as it learns; answers are those of it folded
    for name, plane in found.items():
        np.testing.assert_allclose(last[name], plane, atol=1e-5)
        assert not np.allclose(dict(heard[0].arrays())[name], plane, atol=1e-5)


# --- settings -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(cut: Units, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    return planes(network(cut), job(cut, tmp_path_factory.mktemp("plain")))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: replace(m, guard=0),
        lambda m: replace(m, z_shift=1),
        lambda m: replace(m, shuffle=1.0),
        lambda m: replace(m, foreground=1.0),
        lambda m: replace(m, crops=12),
        lambda m: replace(m, windows=replace(m.windows, alternate=False)),
        lambda m: replace(m, windows=replace(m.windows, stride=2)),
        lambda m: replace(m, windows=replace(m.windows, tile=16)),
        lambda m: replace(m, windows=replace(m.windows, weight=uniform)),
        lambda m: replace(m, windows=replace(m.windows, weight=Inner(1))),
        lambda m: trained(m, augment=UPRIGHT),
        lambda m: trained(m, augment=replace(m.training.augment, elastic=0.05)),
        lambda m: trained(m, mix=CellCutmix(1.0)),
        lambda m: trained(m, mix=Mixup()),
        lambda m: trained(m, size=(64, 64)),
        lambda m: trained(m, epochs=2),
        lambda m: trained(m, batch=2),
        lambda m: trained(m, ema=0.0),
        lambda m: trained(m, precision="bf16-mixed"),
        lambda m: trained(m, backbone=Backbone("resnet10t", drop_path=0.5)),
        lambda m: shaped(m, per_input=False),
        lambda m: shaped(m, dropout=0.6),
        lambda m: shaped(m, blocks=2),
        lambda m: shaped(m, groups=1, channels=4),
        lambda m: shaped(m, width=12),
        lambda m: shaped(m, decoder_width=12),
        lambda m: replace(m, loss=replace(m.loss, beta=2.0)),
        lambda m: replace(m, loss=replace(m.loss, smoothing=0.5)),
        lambda m: replace(m, loss=replace(m.loss, overlap=0.0)),
    ],
    ids=["guard", "z_shift", "shuffle", "foreground", "crops", "alternate", "stride", "tile",
         "uniform", "inner", "augment", "elastic", "cutmix", "mixup", "size", "epochs",
         "batch", "ema", "precision", "backbone", "per_input", "dropout", "blocks", "groups",
         "width", "decoder_width", "beta", "smoothing", "overlap"],
)  # fmt: skip
def test_settings_reach_the_scores(
    cut: Units, tmp_path: Path, plain: dict, change: Callable[[Segmenter], Segmenter]
) -> None:
    got = planes(change(network(cut)), job(cut, tmp_path))
    assert got.keys() == plain.keys()
    assert not same(got, plain)


def test_channels_last_follows_the_fixed_rule_beside_convolutions_over_depth(
    cut: Units, tmp_path: Path, plain: dict
) -> None:
    for name, layout, is_last in (
        ("test_resnet", "auto", False),
        ("test_resnet", "channels_last", True),
        ("mobilenetv3_small_050", "auto", True),
    ):
        member = trained(network(cut), backbone=Backbone(name), layout=layout)
        work = job(cut, tmp_path / f"{name}-{layout}")
        state = member.fit(work)
        assert state.notes["channels_last"] is is_last
        got = planes(member, work, state)
        assert got.keys() == plain.keys()
        if name == "test_resnet":
            assert all(np.allclose(got[k], plain[k], atol=0.02) for k in plain)


def test_large_crops_are_used_by_networks_that_pass_the_shift_test(
    cut: Units, tmp_path: Path, plain: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = replace(network(cut), dense=Dense(side=32, halo=8, phases=2))
    said: list[dict] = []
    for least, name in ((-2.0, "passes"), (2.0, "fails")):
        monkeypatch.setattr("foveal.members.segmenter.LEAST_AGREEMENT", least)
        work = job(cut, tmp_path / name, report=lambda event: said.append(dict(event)))
        state = member.fit(work)
        assert state.notes["dense_step"] == (8 if name == "passes" else 0)
        assert same(planes(member, work, state), plain) is (name == "fails")
        assert any("shift test" in event.get("note", "") for event in said) is (name == "fails")
        assert -1 <= state.notes["shift_agreement"] <= 1


def test_a_network_of_one_size_is_scored_by_windows(
    cut: Units, tmp_path: Path, plain: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = VolumetricModel.forward

    def forward(self: VolumetricModel, slices: Tensor) -> Tensor:
        assert slices.shape[-1] == 32, "Input width does not match model"
        return whole(self, slices)

    monkeypatch.setattr(VolumetricModel, "forward", forward)
    said: list[dict] = []
    member = replace(network(cut), dense=Dense(side=32, halo=8, phases=2))
    work = job(cut, tmp_path, report=lambda event: said.append(dict(event)))
    state = member.fit(work)
    assert any("Input width does not match" in event.get("note", "") for event in said)
    assert same(planes(member, work, state), plain)


@pytest.mark.parametrize(
    "change", [{"side": 24}, {"halo": 0}, {"phases": 1}, {"phases": 4}], ids=str
)
def test_settings_of_large_crops_reach_the_scores(
    cut: Units, tmp_path: Path, change: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foveal.members.segmenter.LEAST_AGREEMENT", -2.0)
    member = replace(network(cut), dense=Dense(side=32, halo=8, phases=2))
    work = job(cut, tmp_path)
    state = member.fit(work)
    other = replace(member, dense=replace(member.dense, **change))
    assert not same(planes(member, work, state), planes(other, work, state))


@pytest.mark.parametrize("change", [{"mean": (0.9,)}, {"std": (0.9,)}])
def test_brightness_matters_unless_every_input_is_its_own_measure(
    cut: Units, tmp_path: Path, change: dict
) -> None:
    gap = {}
    for per_input in (True, False):
        member = shaped(network(cut), per_input=per_input)
        one = planes(member, job(cut, tmp_path / "a"))
        other = planes(trained(member, **change), job(cut, tmp_path / "b"))
        gap[per_input] = max(np.abs(one[k] - other[k]).max() for k in one)
    assert gap[True] < gap[False] / 5


def test_weights_of_cases_count(whole: Units, tmp_path: Path) -> None:
    work = job(whole, tmp_path / "a")
    weight = work.weight.copy()
    weight[work.train[0]] = 0.01
    before = planes(network(whole), work)
    assert not same(before, planes(network(whole), replace(work, weight=weight, folder=tmp_path)))


@pytest.mark.parametrize(("size", "lattice"), [(33, 1), (50, 4), (64, 8), (96, 2)])
def test_a_crop_of_any_size_is_refused_at_once_or_can_be_trained(
    whole: Units, tmp_path: Path, size: int, lattice: int
) -> None:
    member = trained(shaped(network(whole), lattice=lattice), size=(size, size))
    member = replace(member, windows=Windows(size // lattice, size // lattice))
    try:
        member.check()
    except UsageError:
        return
    for plane in planes(member, job(whole, tmp_path)).values():
        assert np.isfinite(plane).all()


# --- what goes wrong ------------------------------------------------------------------------------


class Stopper:
    """Stops before the nth question."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("after", [0, 1, 3, 4, 5, 7, 9])
def test_stopped_at_any_step_and_gone_on_with_is_bit_for_bit_the_same(
    cut: Units, tmp_path: Path, after: int, layout: str
) -> None:
    member = replace(trained(network(cut), epochs=2, mix=Mixup()), crops=16, z_shift=1)
    member = trained(shaped(member, dropout=0.3), layout=layout)
    work = job(cut, tmp_path / "a")
    wanted = member.fit(work).tensors
    stopping = replace(work.resources, should_stop=Stopper(after))
    with pytest.raises(Stopped):
        member.fit(replace(work, folder=tmp_path / "b", resources=stopping))
    torch.manual_seed(99)
    assert same(member.fit(replace(work, folder=tmp_path / "b")).tensors, wanted)


def test_how_far_scoring_is_is_told(cut: Units, tmp_path: Path) -> None:
    member, work = network(cut), job(cut, tmp_path / "a")
    state, shares = member.fit(work), list[float]()
    resources = replace(work.resources, scored=shares.append)
    member.score([state, state], work.cases, work.held, resources)
    planes = 2 * len(work.held)
    assert shares == sorted(shares)
    assert {k / planes for k in range(planes)} <= {*shares}
    assert max(shares) < 1


def test_scoring_and_storing_stop_too(cut: Units, tmp_path: Path) -> None:
    member, work = network(cut), job(cut, tmp_path / "a")
    state = member.fit(work)
    for cache in (work.resources.cache, tmp_path / "new"):
        resources = Resources(cache=cache, should_stop=lambda: True)
        with pytest.raises(Stopped):
            member.score([state], work.cases, work.held, resources)


def hungry(most: int) -> Callable:
    plain = CrossEntropyAndFBeta()

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        if len(logits) > most:
            raise torch.OutOfMemoryError("no more")
        return plain(logits, target)

    return loss


@pytest.mark.parametrize(("most", "parts"), [(2, 2), (1, 4)])
def test_out_of_memory_cuts_the_batch_and_writes_it_down(
    whole: Units, tmp_path: Path, most: int, parts: int
) -> None:
    notes: list = []
    state = replace(network(whole), loss=hungry(most)).fit(
        job(whole, tmp_path, report=notes.append)
    )
    assert state.notes["accumulate"] == parts
    assert read_json(tmp_path / "overrides.json") == {"m": {"accumulate": parts}}
    assert f"cut into {parts} parts" in [n["note"] for n in notes if "note" in n][-1]


def test_where_no_batch_is_small_enough_the_cure_is_named(whole: Units, tmp_path: Path) -> None:
    with pytest.raises(MemoryBudgetError, match="size="):
        replace(network(whole), loss=hungry(0)).fit(job(whole, tmp_path))


@pytest.mark.parametrize(("crops", "points"), [(1, 1), (2, 3), (40, 6)])
def test_a_curve_looks_at_no_more_than_is_learned(
    cut: Units, tmp_path: Path, crops: int, points: int
) -> None:
    """A third of 64 x 96 and of 60 x 90 pixels is judged."""
    member = trained(replace(network(cut), crops=crops), epochs=6)
    height, width = member.training.size
    judged = (64 * 96 + 60 * 90) / 3
    assert max(1, min(6, int(6 * crops * height * width / judged))) == points
    rows: list[dict] = []
    member.fit(job(cut, tmp_path, report=lambda event: rows.append(dict(event))))
    held = [row["epoch"] for row in rows if "held" in row]
    assert len(held) == points
    assert held[-1] == 6


def test_what_is_judged_takes_time_too(cut: Units, tmp_path: Path) -> None:
    work = job(cut, tmp_path)
    floor, member = cut[0].recipe.members
    pixels = 64 * 96 + 60 * 90
    assert (floor.pixels, member.judged_pixels) == (pixels, pixels // 3)
    for one, more in (
        (floor, replace(floor, pixels=10**9)),
        (member, replace(member, judged_pixels=10**9)),
    ):
        assert more.estimate(8, work.resources) > 2 * one.estimate(8, work.resources)
        assert digest(one) == digest(more)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("once", [False, True])
def test_a_picture_that_is_stored_is_not_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int, *, once: bool
) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (40, 50, channels), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    stored, case = StoredVolumes(channels), Case(id="a", paths=(str(tmp_path / "a.png"),))
    resources = Resources(cache=tmp_path / "cache", once=once)
    first = stored(case, resources)
    monkeypatch.setattr(slices, "decode", None)
    again = stored(case, resources)
    whole = Window(top=0, left=0, height=40, width=50)
    np.testing.assert_array_equal(again(whole), first(whole))
    stored.forget(case, resources)
    assert any((tmp_path / "cache").glob("*.npy")) != once
