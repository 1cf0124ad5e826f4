"""Slices to one file: every way to give them, every place to be interrupted, every fault."""

import contextlib
import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from foveal.errors import DiskFullError, Stopped, UnreadableImage
from foveal.manifest import Window
from foveal.read import stack as stacks
from foveal.read import volume as volumes
from foveal.read.slices import find_slices
from foveal.read.volume import load, mirrored, store

SHAPE = (12, 23, 31)


def voxels(dtype: type = np.uint8, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Slices that are all different."""
    rng = np.random.default_rng(0)
    return rng.integers(0, np.iinfo(dtype).max, shape).astype(dtype)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path / "slices", voxels())


def written(folder: Path, planes: np.ndarray, suffix: str = ".png") -> Path:
    folder.mkdir()
    for k, plane in enumerate(planes):
        cv2.imwrite(str(folder / f"z{k}{suffix}"), plane)
    return folder


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", ["folder", "pattern", "tif", "pages"])
def test_slices_come_in_any_form_and_in_natural_order(
    tmp_path: Path, kind: str, dtype: type
) -> None:
    planes = voxels(dtype)
    place = tmp_path / "pages.tif"
    if kind == "pages":
        tifffile.imwrite(place, planes, photometric="minisblack")
    else:
        place = written(tmp_path / "v", planes, ".tif" if kind == "tif" else ".png")
    stack = find_slices(f"{place}/z*.png" if kind == "pattern" else str(place))
    assert len(stack) == 12
    got = store(stack, tmp_path / "store" / "v.npy")
    assert (got.plane, got.depth, got.values.dtype) == ((23, 31), 12, dtype)
    np.testing.assert_array_equal(np.moveaxis(got.values, 2, 0), planes)


def test_a_single_picture_is_a_volume_of_one_slice(folder: Path, tmp_path: Path) -> None:
    got = store(find_slices(str(folder / "z3.png")), tmp_path / "v.npy")
    np.testing.assert_array_equal(got.values[:, :, 0], voxels()[3])


def test_a_stored_volume_holds_no_file_open(folder: Path, tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    got = store(find_slices(str(folder)), tmp_path / "v.npy")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    window = got(Window(top=0, left=0, height=9, width=9))
    np.testing.assert_array_equal(window, np.moveaxis(voxels(), 0, 2)[:9, :9])
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_only_the_wanted_slices_are_read_and_the_edge_is_repeated(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "z0.png").write_text("never looked at")
    stack = find_slices(str(folder))
    got = store(stack, tmp_path / "v.npy", slices=(9, 14))
    wanted = voxels()[[9, 10, 11, 11, 11]]
    np.testing.assert_array_equal(np.moveaxis(got.values, 2, 0), wanted)


@pytest.mark.parametrize("top", [-5, 0, 3, 20])
@pytest.mark.parametrize("left", [-30, 0, 11, 25])
def test_a_box_is_a_part_of_the_mirrored_volume(
    folder: Path, tmp_path: Path, top: int, left: int
) -> None:
    got = store(find_slices(str(folder)), tmp_path / "v.npy")
    wide = np.pad(voxels(), ((0, 0), (40, 40), (40, 40)), mode="reflect")
    box = Window(top=top, left=left, height=16, width=12)
    wanted = wide[:, 40 + top : 56 + top, 40 + left : 52 + left]
    np.testing.assert_array_equal(np.moveaxis(got(box), 2, 0), wanted)
    assert got(box).flags.c_contiguous


def test_mirrored_places_are_those_of_numpy() -> None:
    for size in (1, 2, 5):
        wanted = np.pad(np.arange(size), 9, mode="reflect" if size > 1 else "edge")
        np.testing.assert_array_equal(mirrored(-9, size + 18, size), wanted)


@pytest.mark.parametrize("after", [0, 1, 7, 11, 12, 14])
def test_an_interrupted_store_is_gone_on_with(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    monkeypatch.setattr(stacks, "BAND_BYTES", 4000)
    path, asked = tmp_path / "v.npy", iter(range(100))
    with pytest.raises(Stopped):
        store(find_slices(str(folder)), path, should_stop=lambda: next(asked) >= after)
    assert load(path) is None
    stack, seen = find_slices(str(folder)), []
    again = stacks.Stack(stack.names, stack.files, lambda k: seen.append(k) or stack.read(k))
    np.testing.assert_array_equal(np.moveaxis(store(again, path).values, 2, 0), voxels())
    assert len(set(seen)) <= max(12 - after, 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["slices", "v.json", "v.npy"]


class Killed(BaseException):
    """As if the process had ended here."""


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the process end before so many more things are done to files."""
    left = [0]

    def mortal(act: Callable) -> Callable:
        def done(*arguments: object, **options: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return act(*arguments, **options)

        return done

    for place, name in ((volumes, "write_json"), (volumes, "lay_out"), (Path, "replace"),
                        (Path, "unlink")):  # fmt: skip
        monkeypatch.setattr(place, name, mortal(getattr(place, name)))

    def allow(acts: int) -> None:
        left[0] = acts

    return allow


@pytest.mark.parametrize("first", range(0, 33, 2))
def test_killed_twice_at_any_moment_the_volume_is_whole(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dying: Callable[[int], None],
    first: int,
) -> None:
    monkeypatch.setattr(stacks, "BAND_BYTES", 4000)
    for second in range(24):
        path = tmp_path / str(second) / "v.npy"
        for acts in (first, second):
            dying(acts)
            with contextlib.suppress(Killed):
                store(find_slices(str(folder)), path, slices=(-2, 14))
        dying(10_000)
        got = store(find_slices(str(folder)), path, slices=(-2, 14))
        wanted = voxels()[np.clip(np.arange(-2, 14), 0, 11)]
        np.testing.assert_array_equal(np.moveaxis(got.values, 2, 0), wanted)
        assert sorted(p.name for p in path.parent.iterdir()) == ["v.json", "v.npy"]


@pytest.mark.parametrize(
    ("act", "after"), [("fsync", n) for n in (0, 5, 12, 13)] + [("posix_fallocate", 0)]
)
def test_a_disk_that_fills_up_on_the_way_is_given_back(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str, after: int
) -> None:
    """Full while slices are laid flat, when room is asked for, while turning, or at the end."""
    left, real = [after], getattr(os, act)

    def full(*arguments: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(*arguments)

    path = tmp_path / "v.npy"
    monkeypatch.setattr(os, act, full)
    with pytest.raises(DiskFullError, match="the disk is full"):
        store(find_slices(str(folder)), path)
    monkeypatch.setattr(os, act, real)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["slices"]
    got = store(find_slices(str(folder)), path)
    np.testing.assert_array_equal(np.moveaxis(got.values, 2, 0), voxels())


def test_a_half_written_store_of_other_slices_is_not_gone_on_with(
    folder: Path, tmp_path: Path
) -> None:
    path, asked = tmp_path / "v.npy", iter(range(100))
    with pytest.raises(Stopped):
        store(find_slices(str(folder)), path, should_stop=lambda: next(asked) >= 4)
    got = store(find_slices(str(folder)), path, slices=(2, 9))
    np.testing.assert_array_equal(np.moveaxis(got.values, 2, 0), voxels()[2:9])


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:90]), "z7.png"),
    "another shape": (lambda p: cv2.imwrite(str(p), voxels()[0][:9]), "z7.png: 9 x 31 pixels"),
    "another depth": (lambda p: cv2.imwrite(str(p), voxels(np.uint16)[0]), "z7.png: uint16"),
    "colour": (lambda p: cv2.imwrite(str(p), np.dstack([*voxels()[:3]])), "3 channels"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_slice_is_named(folder: Path, tmp_path: Path, fault: str) -> None:
    harm, words = FAULTS[fault]
    harm(folder / "z7.png")
    with pytest.raises(UnreadableImage, match=words):
        store(find_slices(str(folder)), tmp_path / "v.npy")
    assert load(tmp_path / "v.npy") is None


@pytest.mark.parametrize("place", ["nowhere", "nowhere/*.png", "empty"])
def test_nothing_there_is_an_error_that_says_so(tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnreadableImage, match=r"no such file|holds no slices"):
        find_slices(str(tmp_path / place))


def test_links_to_the_same_files_are_the_same_volume(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for file in folder.iterdir():
        (tmp_path / "other" / file.name).symlink_to(file)
    assert find_slices(str(tmp_path / "other")).files == find_slices(str(folder)).files


def test_a_camera_of_12_bits_fills_its_16_when_a_part_is_read(tmp_path: Path) -> None:
    planes = voxels(np.uint16) >> 4
    stored = store(find_slices(str(written(tmp_path / "s", planes))), tmp_path / "v.npy")
    window = Window(top=-3, left=2, height=12, width=9)
    np.testing.assert_array_equal(replace(stored, spare_bits=4)(window), stored(window) << 4)


def test_a_volume_of_8_bit_fills_the_16_of_others(tmp_path: Path) -> None:
    stored = store(find_slices(str(written(tmp_path / "s", voxels(np.uint8)))), tmp_path / "v.npy")
    window = Window(top=-3, left=2, height=12, width=9)
    deep = replace(stored, spare_bits=4, bits=16)(window)
    assert deep.dtype == np.uint16
    np.testing.assert_array_equal(deep, stored(window).astype(np.uint16) * 257)
