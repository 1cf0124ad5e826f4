"""Zarr to slices: every form of it, each chunk decoded once, every harm an error that says so."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import zarr
import zarr.codecs
from numcodecs import Blosc

from conftest import write_zarr
from foveal.errors import Stopped, UnreadableImage
from foveal.manifest import Case
from foveal.read import stack as stacks
from foveal.read.slices import find_slices
from foveal.read.volume import load, store
from foveal.scan import scan

SHAPE = (12, 23, 31)
CHUNKS = 3 * 6 * 2  # of 5 x 4 x 16


def voxels(dtype: type = np.uint16, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Slices that are all different."""
    return np.random.default_rng(0).integers(1, np.iinfo(dtype).max, shape).astype(dtype)


def pictures(folder: Path, planes: np.ndarray) -> str:
    """The same as PNG."""
    folder.mkdir()
    for k, plane in enumerate(planes):
        cv2.imwrite(str(folder / f"{k}.png"), plane)
    return str(folder)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_zarr(tmp_path / "image", voxels())


FORMS: dict[str, dict] = {
    "3": {},
    "2": {"version": 2},
    "3, bare": {"is_bare": True},
    "2, bare": {"version": 2, "is_bare": True},
    "3, sharded": {"shards": (10, 12, 32)},
    "3, blosc": {"compressors": zarr.codecs.BloscCodec(cname="zstd")},
    "3, not compressed": {"compressors": None},
    "2, blosc": {"version": 2, "compressors": Blosc(cname="lz4")},
    "2, other bytes first": {"version": 2, "is_bare": True, "order": "F"},
    "a chunk a slice": {"chunks": (1, 23, 31)},
    "tiles": {"chunks": (1, 8, 8)},
    "one chunk": {"chunks": (12, 23, 31)},
}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("slices", [None, (3, 9), (-2, 15), (40, 43)])
def test_a_stored_zarr_is_byte_for_byte_that_of_pictures(
    tmp_path: Path, form: str, dtype: type, slices: tuple[int, int] | None
) -> None:
    planes = voxels(dtype)
    place = str(write_zarr(tmp_path / "z", planes, **FORMS[form]))
    stack = find_slices(place)
    assert len(stack) == 12
    assert stack.form() == ((23, 31), dtype)
    np.testing.assert_array_equal([stack.read(k) for k in range(12)], planes)
    store(stack, tmp_path / "ours.npy", slices=slices)
    store(find_slices(pictures(tmp_path / "p", planes)), tmp_path / "wanted.npy", slices=slices)
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "wanted.npy").read_bytes()
    assert {p.name for p in tmp_path.glob("ours*")} == {"ours.npy", "ours.json"}


def test_big_endian_pixels_are_those_of_little_endian(tmp_path: Path) -> None:
    planes = voxels()
    place = write_zarr(tmp_path / "z", planes.astype(">u2"), version=2, is_bare=True)
    got = store(find_slices(str(place)), tmp_path / "v.npy")
    assert got.values.dtype == np.uint16
    np.testing.assert_array_equal(np.moveaxis(got.values, 2, 0), planes)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("axes", ["zyx", "tczyx", "czyx", "xyz", "yzx", "xctyz", "ZYX"])
def test_axes_are_those_that_the_metadata_name(tmp_path: Path, axes: str, version: int) -> None:
    place = write_zarr(tmp_path / "z", voxels(), axes=axes.lower(), version=version)
    if axes.isupper():
        (text,) = [p for p in (place / "zarr.json", place / ".zattrs") if p.is_file()]
        text.write_text(text.read_text().replace('"z"', '"Z"').replace('"y"', '"Y"'))
    got = store(find_slices(str(place)), tmp_path / "v.npy")
    np.testing.assert_array_equal(np.moveaxis(got.values, 2, 0), voxels())


@pytest.mark.parametrize("axes", ["yx", "xy", "tcyx"])
def test_two_dimensions_are_one_slice(tmp_path: Path, axes: str) -> None:
    stack = find_slices(str(write_zarr(tmp_path / "z", voxels()[:1], axes=axes)))
    assert len(stack) == 1
    np.testing.assert_array_equal(stack.read(0), voxels()[0])


@pytest.mark.parametrize("axes", ["zyx", "czyx", "tczyx"])
def test_a_bare_array_has_the_usual_axes_or_those_that_it_names(tmp_path: Path, axes: str) -> None:
    usual = write_zarr(tmp_path / "usual", voxels(), axes=axes, is_bare=True)
    turned = axes[::-1]
    named = write_zarr(
        tmp_path / "named", voxels(), axes=turned, is_bare=True, dimension_names=list(turned)
    )
    for place in (usual, named):
        np.testing.assert_array_equal(find_slices(str(place)).read(7), voxels()[7])


def test_an_image_and_its_own_array_are_the_same_volume(image: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(image)
    (told,) = {find_slices(str(p)).files for p in (image, tmp_path / "link", image / "full")}
    assert told == (str((image / "full").resolve()),)
    assert find_slices(str(image / "half")).files != told


# --- each chunk once ------------------------------------------------------------------------------


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The chunks that are fetched from disk, as often as they are."""
    seen, real = [], zarr.storage.LocalStore.get

    async def get(self: object, key: str, *args: object, **more: object) -> object:
        part = str(more.get("byte_range", args[1:]))
        if "json" not in key and ".z" not in key and "Suffix" not in part:  # the index of a shard
            seen.append(f"{key} {part}")
        return await real(self, key, *args, **more)

    monkeypatch.setattr(zarr.storage.LocalStore, "get", get)
    return seen


@pytest.mark.parametrize("band", [1, 5000, 1e9])
@pytest.mark.parametrize("form", ["3", "2", "a chunk a slice", "tiles", "3, sharded"])
def test_store_and_scan_fetch_every_chunk_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fetched: list[str], form: str, band: float
) -> None:
    monkeypatch.setattr(stacks, "BAND_BYTES", band)
    place = str(write_zarr(tmp_path / "z", voxels(), **FORMS[form]))
    count = {"a chunk a slice": 12, "tiles": 12 * 3 * 4}.get(form, CHUNKS)
    works = (
        lambda: store(find_slices(place), tmp_path / "v.npy"),
        lambda: scan(Case(id="a", paths=(place,))),
    )
    for work in works:
        fetched.clear()
        work()
        assert fetched
        assert len(fetched) == len(set(fetched))
        assert len(fetched) == count or form == "3, sharded"  # whole shards, where bands are large


def test_of_a_few_slices_only_their_chunks_are_fetched(
    image: Path, tmp_path: Path, fetched: list[str]
) -> None:
    store(find_slices(str(image)), tmp_path / "v.npy", slices=(6, 9))
    assert len(fetched) == len(set(fetched)) == CHUNKS / 3


def test_no_more_is_in_memory_than_a_band(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stacks, "BAND_BYTES", 8 * 31 * 12 * 2)
    stack, sizes = find_slices(str(image)), []

    def read(slices: slice, rows: slice) -> np.ndarray:
        box = stack.boxes.read(slices, rows)
        sizes.append(box.nbytes)
        return box

    counted = replace(stack, boxes=replace(stack.boxes, read=read))
    store(counted, tmp_path / "v.npy")
    assert sizes == [8 * 31 * 12 * 2] * 2 + [7 * 31 * 12 * 2]
    sizes.clear()
    assert sum(p.values.nbytes for p in counted.pieces()) == voxels().nbytes
    assert max(sizes) <= 8 * 31 * 12 * 2


@pytest.mark.parametrize("signal", [Stopped, KeyboardInterrupt])
@pytest.mark.parametrize("after", [0, 1, 4, 5])
def test_an_interrupted_store_is_gone_on_with(
    image: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fetched: list[str],
    after: int,
    signal: type[BaseException],
) -> None:
    monkeypatch.setattr(stacks, "BAND_BYTES", 1)
    path, asked = tmp_path / "v.npy", iter(range(100))

    def should_stop() -> bool:
        if next(asked) < after:
            return False
        if signal is Stopped:
            return True
        raise signal

    with pytest.raises(signal):
        store(find_slices(str(image)), path, should_stop=should_stop)
    assert load(path) is None
    fetched.clear()
    store(find_slices(str(image)), path)
    assert {key.split("/")[3] for key in fetched} == {str(k) for k in range(after + 1, 6)}
    store(find_slices(str(image)), tmp_path / "whole.npy")
    assert path.read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert {p.name for p in tmp_path.glob("v*")} == {"v.npy", "v.json"}


def test_a_half_written_store_of_other_slices_is_not_gone_on_with(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stacks, "BAND_BYTES", 1)
    path, asked = tmp_path / "v.npy", iter(range(100))
    with pytest.raises(Stopped):
        store(find_slices(str(image)), path, should_stop=lambda: next(asked) >= 2)
    got = store(find_slices(str(image)), path, slices=(2, 9))
    np.testing.assert_array_equal(np.moveaxis(got.values, 2, 0), voxels()[2:9])


# --- what `init` measures -------------------------------------------------------------------------


def test_what_is_measured_is_the_same_for_every_form(tmp_path: Path) -> None:
    planes = voxels(shape=(6, 150, 131))
    wanted = scan(Case(id="a", paths=(pictures(tmp_path / "p", planes),)))
    other = scan(Case(id="a", paths=(pictures(tmp_path / "q", planes[::-1]),)))
    assert other.sha256 != wanted.sha256
    for k, form in enumerate(("3", "2", "3, sharded", "a chunk a slice", "tiles")):
        chosen = {**FORMS[form], "shards": (10, 152, 144)} if "sharded" in form else FORMS[form]
        place = write_zarr(tmp_path / f"{k}", planes, **chosen)
        got = scan(Case(id="a", paths=(str(place),)))
        same = replace(got, files=wanted.files, mean=wanted.mean, square=wanted.square)
        assert same == wanted
        assert (got.mean, got.square) == pytest.approx((wanted.mean, wanted.square), abs=1e-12)


# --- harm -----------------------------------------------------------------------------------------


def told(folder: Path, change: Callable[[dict], object]) -> None:
    """Change what an image tells of itself."""
    text = json.loads((folder / "zarr.json").read_text())
    change(text["attributes"]["ome"])
    (folder / "zarr.json").write_text(json.dumps(text))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:9])


def unlike(**more: object) -> Callable[[Path], object]:
    """Another image in the place of a good one."""

    def harm(folder: Path) -> None:
        shutil.rmtree(folder)
        dtype = more.get("dtype", np.uint16)
        pixels = np.ones(more.get("shape", (12, 23, 31)), dtype)
        zarr.create_array(folder, data=pixels, dimension_names=more.get("names"))

    return harm


HARMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "the group's metadata are cut off": (lambda f: cut(f / "zarr.json"), "metadata cannot be used"),
    "the array's metadata are cut off": (lambda f: cut(f / "full/zarr.json"), "lead to no array"),
    "the array's metadata are missing": (
        lambda f: (f / "full/zarr.json").unlink(),
        "lead to no array",
    ),
    "the array is missing": (lambda f: shutil.rmtree(f / "full"), "lead to no array"),
    "a chunk is cut off": (lambda f: cut(f / "full/c/1/2/0"), "slices .* a chunk does not decode"),
    "a chunk is empty": (
        lambda f: (f / "full/c/0/0/0").write_bytes(b""),
        "a chunk does not decode",
    ),
    "no image": (lambda f: told(f, lambda ome: ome.clear()), "no image .multiscales.; cure"),
    "no levels": (lambda f: told(f, lambda ome: ome["multiscales"][0].pop("datasets")), "no array"),
    "no list of images": (lambda f: told(f, lambda ome: ome.update(multiscales=3)), "metadata"),
    "an outside path": (
        lambda f: told(
            f, lambda ome: ome["multiscales"][0].update(datasets=[{"path": "../image/full"}])
        ),
        "no array",
    ),
    "other axes": (
        lambda f: told(f, lambda ome: ome["multiscales"][0].update(axes=["y", "x"])),
        "axes y, x of shape .12, 23, 31.",
    ),
    "no y": (unlike(names=("z", "a", "x")), "y and x are needed"),
    "one dimension": (unlike(shape=(9,)), "y and x are needed"),
    "six dimensions": (unlike(shape=(1, 1, 1, 1, 4, 4)), "y and x are needed"),
    "two channels": (unlike(shape=(2, 3, 4, 4)), "axis c has length 2, where a volume has 1"),
    "three moments": (unlike(shape=(3, 1, 3, 4, 4)), "axis t has length 3"),
    "fractions": (unlike(dtype=np.float32), "float32 pixels; 8 or 16 bit unsigned"),
    "with sign": (unlike(dtype=np.int16), "int16 pixels"),
    "no pixels": (unlike(shape=(0, 4, 4)), "holds no pixels"),
    "nothing else there": (
        lambda f: [shutil.rmtree(f / name) for name in ("full", "half")],
        "lead to no array",
    ),
    "a group alone": (
        lambda f: (f / "zarr.json").write_text('{"zarr_format":3,"node_type":"group"}'),
        "no image",
    ),
}


@pytest.mark.parametrize("harm", HARMS)
def test_harm_is_an_error_that_names_the_folder(image: Path, tmp_path: Path, harm: str) -> None:
    act, words = HARMS[harm]
    act(image)
    with pytest.raises(UnreadableImage, match=words) as error:
        store(find_slices(str(image)), tmp_path / "v.npy")
    assert str(error.value).startswith(str(image))
    assert load(tmp_path / "v.npy") is None
    with pytest.raises(UnreadableImage, match=words):
        scan(Case(id="a", paths=(str(image),)))


def test_zarr_2_metadata_that_are_cut_off_or_missing_are_an_error(tmp_path: Path) -> None:
    for k, name in enumerate((".zgroup", "full/.zarray", ".zattrs")):
        for act in (cut, Path.unlink):
            place = write_zarr(tmp_path / f"{k}{act.__name__}", voxels(), version=2)
            act(place / name)
            with pytest.raises(UnreadableImage, match=f"{place}: .*(metadata|image)"):
                find_slices(str(place))


def test_without_the_library_the_cure_is_named(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(UnreadableImage, match=r'cure: pip install "zarr>=3.1"'):
        find_slices(str(image))


def test_the_library_is_not_loaded_for_others(tmp_path: Path) -> None:
    import subprocess

    place = pictures(tmp_path / "p", voxels())
    code = (
        "import sys; from foveal.read import find_slices; "
        f"find_slices({place!r}).read(0); sys.exit('zarr' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
