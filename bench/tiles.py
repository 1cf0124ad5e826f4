"""A tile of a volume: ours against 64 little .npy blocks, and against zarr read naively.

A tile is 256 x 256 pixels and 35 of 65 slices, 16 bit. Ours is one mapped file in y-x-z order with
the wanted slices, and a tile is handed on in that order, as augmentation wants it. The first rival
is how a well-known competition system stored its fragments: every 32 x 32 block a float32 `.npy` of
all 65 slices, 64 of which make a tile; the second has one chunk a slice, as volumes are mostly
found. Files are warm. Goal: at least 20 x as fast as the blocks.
A minute, zarr with the rivals installed::

    .venv-rivals/bin/python bench/tiles.py
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from foveal.manifest import Window
from foveal.read.slices import find_slices
from foveal.read.volume import store

SIDE, DEPTH, FIRST, LAST = 1024, 65, 15, 50
TILE, BLOCK = 256, 32
GOAL = 20
ROUNDS, TILES = 12, 16

Reader = Callable[[int, int], np.ndarray]


def slices(folder: Path) -> np.ndarray:
    """A stack of TIFF slices with structure in it."""
    rng = np.random.default_rng(0)
    base = cv2.GaussianBlur(rng.normal(0, 1, (SIDE, SIDE)).astype(np.float32), (0, 0), 6)
    stack = []
    for z in range(DEPTH):
        plane = 30000 + 2e5 * np.roll(base, 3 * z, axis=0) + rng.normal(0, 800, base.shape)
        stack.append(np.clip(plane, 0, 65535).astype(np.uint16))
        cv2.imwrite(str(folder / f"{z:02d}.tif"), stack[-1])
    return np.stack(stack)


def blocks(volume: np.ndarray, folder: Path) -> Reader:
    """Every block a file; a tile is put together from 64 of them."""
    folder.mkdir()
    for i in range(0, SIDE, BLOCK):
        for j in range(0, SIDE, BLOCK):
            part = volume[:, i : i + BLOCK, j : j + BLOCK].astype(np.float32) / 65535
            np.save(folder / f"volume_{i // BLOCK}_{j // BLOCK}.npy", part)

    def read(top: int, left: int) -> np.ndarray:
        tile = np.zeros((DEPTH, TILE, TILE), dtype=np.float32)
        for i in range(0, TILE, BLOCK):
            for j in range(0, TILE, BLOCK):
                name = f"volume_{(top + i) // BLOCK}_{(left + j) // BLOCK}.npy"
                path = folder / name
                if os.path.exists(path):  # noqa: PTH110  (as the original looks for each)
                    tile[:, i : i + BLOCK, j : j + BLOCK] = np.load(path)
        return tile[FIRST:LAST]

    return read


def zarr_by_slice(volume: np.ndarray, folder: Path) -> Reader | None:
    """An array chunked by slice."""
    try:
        import zarr
    except ImportError as error:
        print(f"skipped: zarr ({error})")
        return None
    made = zarr.create_array(
        str(folder), shape=volume.shape, chunks=(1, SIDE, SIDE), dtype=volume.dtype
    )
    made[:] = volume
    opened = zarr.open_array(str(folder), mode="r")
    return lambda top, left: np.asarray(opened[FIRST:LAST, top : top + TILE, left : left + TILE])


def main() -> int:
    rng = np.random.default_rng(1)
    places = rng.integers(0, (SIDE - TILE) // BLOCK + 1, (TILES, 2)) * BLOCK
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "slices").mkdir()
        volume = slices(folder / "slices")
        stack = find_slices(str(folder / "slices"))
        stored = store(stack, folder / "ours.npy", slices=(FIRST, LAST))
        readers: dict[str, Reader] = {
            "ours, y-x-z": lambda top, left: stored(
                Window(top=top, left=left, height=TILE, width=TILE)
            ),
            "64 blocks of .npy": blocks(volume, folder / "blocks"),
        }
        by_slice = zarr_by_slice(volume, folder / "zarr")
        if by_slice is not None:
            readers["zarr, a chunk a slice"] = by_slice
        wanted = volume[FIRST:LAST, 32:288, 64:320].astype(np.float32)
        for name, read in readers.items():
            got = read(32, 64)
            got = np.moveaxis(got, 2, 0) if got.shape[2] == LAST - FIRST else got
            got = got * 65535 if got.dtype == np.float32 else got
            assert np.abs(got - wanted).max() < 1, name
        least = dict.fromkeys(readers, np.inf)
        for _ in range(ROUNDS):
            for name, read in readers.items():
                started = time.process_time()
                for top, left in places.tolist():
                    read(top, left)
                least[name] = min(least[name], time.process_time() - started)
    ours = least["ours, y-x-z"]
    print(f"{TILE} x {TILE} pixels, {LAST - FIRST} of {DEPTH} slices: time in ours")
    for name, seconds in least.items():
        print(f"  {name:24s}{seconds / ours:8.1f}")
    gain = least["64 blocks of .npy"] / ours
    print(f"{'MET' if gain >= GOAL else 'NOT MET':8s} at least {GOAL} x the blocks: {gain:.1f}")
    return 0 if gain >= GOAL else 1


if __name__ == "__main__":
    raise SystemExit(main())
