"""The floor of a segmentation: its responses by hand, whatever the bands, and what it learns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from conftest import job_of
from foveal.errors import DiskFullError, Stopped
from foveal.lattice import planes_of
from foveal.manifest import Case, Window
from foveal.members import filters
from foveal.members.filters import FEW_SLICES, WIDTHS, FilterTrees
from foveal.members.volumes import StoredVolumes, each_readable, learnable, window_of
from foveal.read.volume import Volume
from foveal.stages.open import Opened
from foveal.task import Job, Resources

HEIGHT, WIDTH = 150, 170


def volume(
    depth: int = 3, dtype: type = np.uint8, size: tuple[int, int] = (HEIGHT, WIDTH)
) -> Volume:
    """Noise of all widths, smooth enough to have slopes."""
    rng = np.random.default_rng(depth)
    noise = [
        ndimage.gaussian_filter(rng.normal(0, 1, (*size, depth)), (s, s, 0)) * s for s in (1, 6)
    ]
    unit = np.clip(0.5 + 0.6 * sum(noise), 0, 1)
    return Volume((unit * np.iinfo(dtype).max).astype(dtype))


def member(lattice: int = 4, depth: int = 3) -> FilterTrees:
    return FilterTrees(lattice=lattice, slices=depth, trees=4)


def responses(of: Volume, window: Window | None = None, lattice: int = 4) -> np.ndarray:
    window = window or window_of(Case(id="", paths=()), of)
    bands = member(lattice, of.depth)._bands(of, window, Resources(cache=Path()))
    return np.concatenate([table for _, table in bands])


def by_hand(of: Volume) -> np.ndarray:
    """The responses of every pixel, without bands or windows."""
    stack = np.moveaxis(of.values.astype(np.float64), 2, 0) / np.iinfo(of.values.dtype).max
    planes = [stack.mean(0)]
    if 1 < len(stack) <= FEW_SLICES:
        planes += [*stack, stack.max(0)]
    elif len(stack) > FEW_SLICES:
        planes += [stack.max(0), stack.std(0)]
    found = []
    for plane in planes:
        found.append(plane)
        for width in WIDTHS:
            seen = ndimage.gaussian_filter(plane, width, mode="mirror", truncate=4)
            dy, dx = np.gradient(seen)
            hessian = np.empty((*plane.shape, 2, 2))
            hessian[..., 0, 0], hessian[..., 0, 1] = np.gradient(dy)
            hessian[..., 1, 1] = np.gradient(dx, axis=1)
            hessian[..., 1, 0] = hessian[..., 0, 1]
            low, high = np.moveaxis(np.linalg.eigvalsh(hessian), -1, 0)
            found += [seen, np.hypot(dx, dy), high, low]
    return np.stack(found, axis=2)


def cell_means(pixels: np.ndarray, lattice: int) -> np.ndarray:
    rows, columns = (-(-side // lattice) for side in pixels.shape[:2])
    out = np.empty((rows, columns, pixels.shape[2]))
    for y in range(rows):
        for x in range(columns):
            cell = pixels[y * lattice : (y + 1) * lattice, x * lattice : (x + 1) * lattice]
            out[y, x] = cell.mean(axis=(0, 1))
    return out


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("depth", "lattice"), [(1, 4), (3, 4), (5, 8), (2, 1)])
def test_responses_are_those_worked_out_by_hand(depth: int, lattice: int, dtype: type) -> None:
    of = volume(depth, dtype)
    got, wanted = responses(of, lattice=lattice), cell_means(by_hand(of), lattice)
    assert got.shape == wanted.shape
    planes = {1: 1, 2: 4, 3: 5, 5: 3}[depth]
    assert got.shape[2] == planes * (1 + 4 * len(WIDTHS))
    inside = (slice(40 // lattice, -(40 // lattice)),) * 2
    spread = wanted[inside].std(axis=(0, 1))
    assert (spread > 0).all()
    np.testing.assert_allclose(got[inside] / spread, wanted[inside] / spread, atol=0.02)


@pytest.mark.parametrize("band", [1, 5000, 30_000])
@pytest.mark.parametrize("lattice", [1, 4, 32])
def test_bands_change_nothing(monkeypatch: pytest.MonkeyPatch, band: int, lattice: int) -> None:
    of = volume()
    whole = responses(of, lattice=lattice)
    monkeypatch.setattr(filters, "BAND", band)
    np.testing.assert_array_equal(responses(of, lattice=lattice), whole)


@pytest.mark.parametrize("window", [(0, 0, 64, 88), (40, 60, 64, 64), (80, 88, 70, 82)])
def test_a_part_has_the_responses_of_its_place(window: tuple[int, int, int, int]) -> None:
    of = volume()
    top, left, height, width = window
    part = responses(of, Window(top=top, left=left, height=height, width=width))
    whole = responses(of)[top // 4 : -(-(top + height) // 4), left // 4 : -(-(left + width) // 4)]
    np.testing.assert_array_equal(part, whole)


@pytest.mark.parametrize("band", [3000, 1 << 20])
def test_where_a_cell_lies_is_told_in_shares_of_the_plane(
    monkeypatch: pytest.MonkeyPatch, band: int
) -> None:
    monkeypatch.setattr(filters, "BAND", band)
    of, part = volume(), Window(top=40, left=60, height=64, width=62)
    bands = replace(member(), position=True)._bands(of, part, Resources(cache=Path()))
    table = np.concatenate([table for _, table in bands])
    np.testing.assert_array_equal(table[:, :, :-2], responses(of, part))
    down = np.broadcast_to(((42 + 4 * np.arange(16)) / HEIGHT)[:, None], (16, 16))
    np.testing.assert_allclose(table[:, :, -2], down, rtol=1e-6)
    across = np.broadcast_to((62 + 4 * np.arange(16)) / WIDTH, (16, 16))
    np.testing.assert_allclose(table[:, :, -1], across, rtol=1e-6)


def test_slices_are_seen_whatever_their_order_and_brightness_by_its_share_of_full_scale() -> None:
    of = volume(5)
    turned = Volume(np.ascontiguousarray(of.values[:, :, ::-1]))
    np.testing.assert_allclose(responses(turned), responses(of), atol=1e-5)
    deep = Volume(of.values.astype(np.uint16) * 257)
    np.testing.assert_allclose(responses(deep), responses(of), atol=1e-5)


def test_colours_are_told_apart() -> None:
    of = volume(3)
    other = Volume(np.ascontiguousarray(of.values[:, :, [1, 0, 2]]))
    assert np.abs(responses(other) - responses(of)).max() > 0.1


def test_volumes_smaller_than_the_filters_pass() -> None:
    for size in ((1, 1), (3, 70), (20, 5)):
        got = responses(volume(2, size=size))
        assert got.shape[:2] == tuple(-(-side // 4) for side in size)
        assert np.isfinite(got).all()


# --- learning -------------------------------------------------------------------------------------


def floor(opened: Opened, **changes: object) -> FilterTrees:
    (found,) = [m for m in opened.recipe.members if m.name == "floor"]
    return replace(found, **changes)


def said(of: FilterTrees, work: Job) -> list[np.ndarray]:
    (got,) = of.score([of.fit(work)], work.cases, work.held, work.resources)
    return [plane for _, plane in got.arrays()]


def test_it_learns_blobs(inked: Opened, tmp_path: Path) -> None:
    work = job_of(inked, tmp_path)
    scores = said(floor(inked, trees=20), work)
    held = [work.cases[k] for k in work.held]
    planes = planes_of(held, [str(work.target[k]) for k in work.held], 4)
    counts = [area > 0 for area in planes.area]
    shares = [p / np.maximum(a, 1) for p, a in zip(planes.positive, planes.area, strict=True)]
    true = np.concatenate([s[c] > 0.5 for s, c in zip(shares, counts, strict=True)])
    found = np.concatenate([s[c] for s, c in zip(scores, counts, strict=True)])
    assert roc_auc_score(true, found) > 0.95


@pytest.mark.parametrize(
    "change",
    [{"trees": 5}, {"samples": 100}, {"slices": 1}, {"position": True}],
    ids=lambda c: next(iter(c)),
)
def test_settings_reach_the_scores(inked: Opened, tmp_path: Path, change: dict) -> None:
    work = job_of(inked, tmp_path)
    before, after = said(floor(inked), work), said(floor(inked, **change), work)
    assert any((a != b).any() for a, b in zip(before, after, strict=True))


def test_the_forest_sees_at_most_about_so_many_cells_drawn_from_where_may_be_learned(
    inked: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[tuple[np.ndarray, ...]] = []
    plain = filters.forest

    def forest(x: np.ndarray, y: np.ndarray, w: np.ndarray, **more: int) -> dict:
        heard.append((x, y, w))
        return plain(x, y, w, **more)

    monkeypatch.setattr(filters, "forest", forest)
    work = job_of(inked, tmp_path)
    for samples in (100, 10**6):
        floor(inked, samples=samples).fit(work)
    (few, many) = heard
    assert 60 < len(few[0]) < 140
    planes = planes_of([work.cases[k] for k in work.train],
                       [str(work.target[k]) for k in work.train], 4)  # fmt: skip
    area = np.concatenate([a[a > 0] for a in planes.area])
    share = np.concatenate(
        [(p / np.maximum(a, 1))[a > 0] for p, a in zip(planes.positive, planes.area, strict=True)]
    )
    np.testing.assert_array_equal(many[2], area)
    np.testing.assert_allclose(many[1][:, 0], share)
    known = {row.tobytes() for row in many[0]}
    assert all(row.tobytes() in known for row in few[0])


def test_volumes_of_no_weight_take_no_samples_from_the_others(
    inked: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[np.ndarray] = []
    plain = filters.forest

    def forest(x: np.ndarray, y: np.ndarray, w: np.ndarray, **more: int) -> dict:
        heard.append(w)
        return plain(x, y, w, **more)

    monkeypatch.setattr(filters, "forest", forest)
    work = job_of(inked, tmp_path)
    weight = work.weight.copy()
    weight[work.train[1:]] = 0
    for own in (work.weight, weight):
        floor(inked, samples=100).fit(replace(work, weight=own))
    assert all(60 < len(w) < 140 for w in heard)
    assert all((w > 0).all() for w in heard)


def test_weights_of_cases_count(inked: Opened, tmp_path: Path) -> None:
    work = job_of(inked, tmp_path)
    weight = work.weight.copy()
    weight[work.train[0]] = 0.01
    before, after = said(floor(inked), work), said(floor(inked), replace(work, weight=weight))
    assert any((a != b).any() for a, b in zip(before, after, strict=True))


def test_responses_are_given_up_when_somebody_says_so(inked: Opened, tmp_path: Path) -> None:
    work = job_of(inked, tmp_path)
    floor(inked, samples=100).fit(work)  # and volumes are stored
    stopped = replace(work, resources=replace(work.resources, should_stop=lambda: True))
    with pytest.raises(Stopped):
        floor(inked, samples=100).fit(stopped)


@pytest.mark.parametrize("once", [False, True])
def test_volumes_that_are_asked_for_once_are_stored_one_at_a_time(
    inked: Opened, tmp_path: Path, *, once: bool
) -> None:
    work = job_of(inked, tmp_path)
    of = next(m for m in inked.recipe.members if m.name == "floor")
    state = of.fit(work)
    stored: list[int] = []
    folder = tmp_path / "new"

    def look() -> bool:
        stored.append(len([*folder.glob("volume-*.npy")]))
        return False

    shares: list[float] = []
    resources = Resources(cache=folder, once=once, should_stop=look, scored=shares.append)
    whole = [replace(case, window=None) for case in work.cases]
    cases = list({case.paths: case for case in whole}.values())
    (said,) = of.score([state], cases, np.arange(len(cases)), resources)
    assert len(said) == len(cases) > 1
    assert shares == sorted(shares)
    assert {k / len(cases) for k in range(len(cases))} <= {*shares}
    assert max(shares) < 1
    assert max(stored) == (1 if once else len(cases))
    assert len([*folder.glob("*.npy")]) == (0 if once else len(cases))
    again = [replace(cases[0], id=f"{k}") for k in range(3)]  # one scan in several rows
    folders = [
        len([*folder.glob("*.npy")])
        for _ in each_readable(of._volumes, again, np.arange(3), resources)
    ]
    marks = [
        next(folder.glob("*.npy")).stat().st_mtime_ns
        for _ in each_readable(of._volumes, again, np.arange(3), resources)
    ]
    assert len({*marks}) == 1
    assert folders == [1 if once else len(cases)] * 3
    kept = Resources(cache=tmp_path / "kept")
    (wanted,) = of.score([state], cases, np.arange(len(cases)), kept)
    np.testing.assert_array_equal(said.values, wanted.values)


def test_a_volume_that_cannot_be_read_is_left_out_and_a_full_disk_is_no_fault_of_it(
    inked: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = job_of(inked, tmp_path)
    of, told = StoredVolumes(2), []
    cases = [work.cases[0], replace(work.cases[1], paths=(str(tmp_path / "gone"),))]
    resources = replace(work.resources, left_out=lambda case, why: told.append((case.id, why)))
    found = [case.id for case, _, _ in each_readable(of, cases, np.arange(2), resources)]
    assert found == [cases[0].id]
    assert [name for name, _ in told] == [cases[1].id]

    def full(*_: object, **__: object) -> None:
        raise DiskFullError("no space left")

    monkeypatch.setattr("foveal.members.volumes.store", full)
    with pytest.raises(DiskFullError):
        list(each_readable(of, cases, np.arange(2), resources))
    assert len(told) == 1


def test_where_all_of_a_volume_counts_no_plane_is_held() -> None:
    volume_ = volume(size=(40, 50))
    case = Case(id="a", paths=("a",))
    (allowed,) = learnable([case], [0], [], [volume_], guard=8)
    assert allowed.all()
    assert allowed.strides == (0, 0)
