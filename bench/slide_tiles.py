"""The tiles of a slide that show most tissue: ours, OpenSlide, whole levels, and the limit.

A slide of 20,000 x 16,000 pixels is simulated: five cores on bare glass, levels of 1, 1/4 and 1/16
in JPEG tiles of 256 pixels. Ours finds tissue on the smallest level and reads the best 36 tiles of
256 pixels at 1/4, and at the largest level. OpenSlide is told their places and reads the smallest
level for nothing. Notebooks of a well-known competition read the whole level, pad it, cut it into
squares and sort these by darkness. The limit decodes, each once, the file's tiles that ours touches
and those of the smallest level, and does nothing with them. Times are CPU time, one thread; the
file is in memory already. Cold is a fresh interpreter for every run; peaks are those of cold runs
above what the imports took.

Goals: at most 1.5 x the limit warm, and 2 x cold without imports; a peak under 60 MB, of a slide of
60,000 x 48,000 pixels too; 4 x as fast as OpenSlide, and 100 x as the whole of the largest level.
Four minutes, 3 GB of memory, with the rivals installed::

    .venv-rivals/bin/python bench/slide_tiles.py [--rounds 12] [--cold 5] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

TILE, COUNT, QUALITY = 256, 36, 80
STEPS = (1, 4, 16)
LEVELS = (1, 0)
"""Of which tiles are read; 2 is the one that shows where."""
BLOCK, CELL = TILE * STEPS[1], TILE * STEPS[1] // STEPS[2]
"""Pixels drawn at once: one tile at 1/4, and so many pixels at 1/16."""
SLIDE, LARGE = (20_000, 16_000), (60_000, 48_000)
CORES, LIGHT = 5, 245
WARM, COLD, PEAK, BY_OPENSLIDE, BY_WHOLE = 1.5, 2.0, 60, 4, 100
SLOW_ROUNDS = 2
LIMIT, OURS, WHOLE, OPENSLIDE = "the limit", "ours", "whole level", "OpenSlide"

Places = list[tuple[int, int]]
"""Top and left of tiles, in pixels of their level."""
Job = Callable[[], np.ndarray]
"""Opens the slide, and gives its tiles."""


# --- the slide ------------------------------------------------------------------------------------


def cores(rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    """How much tissue lies where, 0 to 255: a fifth of the slide, darker here and there."""
    import cv2

    drawn = np.zeros((rows, columns), np.uint8)
    for k in range(CORES):
        x, y = rng.uniform(0.45, 0.55) * columns, (k + 0.5) / CORES * rows
        axes = (round(0.36 * columns), round(0.032 * rows))
        middle, turn = (round(x), round(y)), rng.uniform(-8, 8)
        cv2.ellipse(drawn, middle, axes, turn, 0, 360, 255, -1)
    grid = rng.uniform(0.45, 1, (rows // 30, columns // 30)).astype(np.float32)
    clouds = cv2.resize(grid, (columns, rows), interpolation=cv2.INTER_CUBIC)
    return (drawn * np.clip(clouds, 0, 1)).astype(np.uint8)


def simulate(path: Path, size: tuple[int, int]) -> float:
    """Write a slide block by block, and say how much of it is tissue."""
    import cv2
    import tifffile

    height, width = size
    rng = np.random.default_rng(0)
    amount = cores(-(-height // BLOCK) * CELL, -(-width // BLOCK) * CELL, rng)
    grain = cv2.GaussianBlur(rng.integers(0, 256, (BLOCK, BLOCK, 3), np.uint8), (0, 0), 2.0)
    grain = cv2.normalize(grain, None, 0, 255, cv2.NORM_MINMAX).astype(np.float32) - 128
    stained = np.clip((185, 110, 170) + 0.9 * grain, 0, 255) - LIGHT
    glass = _encoded(np.full((TILE, TILE, 3), LIGHT, np.uint8))
    smaller: list[bytes] = []
    smallest = np.full((*amount.shape, 3), LIGHT, np.uint8)

    def largest() -> Iterator[bytes]:
        """The tiles of the largest level, row by row; the others are made on the way."""
        for top in range(0, amount.shape[0], CELL):
            band: list[list[bytes]] = [[] for _ in range(BLOCK // TILE)]
            for left in range(0, amount.shape[1], CELL):
                cells = amount[top : top + CELL, left : left + CELL]
                if not cells.any():
                    smaller.append(glass)
                    for row in band:
                        row += [glass] * (BLOCK // TILE)
                    continue
                here = cv2.resize(cells, (BLOCK, BLOCK))[:, :, None] / np.float32(255)
                block = (LIGHT + np.roll(stained, (top * 5, left * 7), (0, 1)) * here).astype("u1")
                quarter = cv2.resize(block, (TILE, TILE), interpolation=cv2.INTER_AREA)
                smaller.append(_encoded(quarter))
                smallest[top : top + CELL, left : left + CELL] = cv2.resize(
                    quarter, (CELL, CELL), interpolation=cv2.INTER_AREA
                )
                for row, tiles in zip(band, block.reshape(-1, TILE, BLOCK, 3), strict=True):
                    row += [_encoded(tile) for tile in np.split(tiles, BLOCK // TILE, axis=1)]
            for row in band:
                yield from row[: -(-width // TILE)]

    def small() -> Iterator[bytes]:
        padding = [(0, -n % TILE) for n in smallest.shape[:2]]
        whole = np.pad(smallest, (*padding, (0, 0)), constant_values=LIGHT)
        for top in range(0, height // STEPS[2], TILE):
            for left in range(0, width // STEPS[2], TILE):
                yield _encoded(whole[top : top + TILE, left : left + TILE])

    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for step, tiles in zip(STEPS, (largest(), iter(smaller), small()), strict=True):
            file.write(
                tiles,
                shape=(height // step, width // step, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="ycbcr",
                subsampling=(2, 2),
                compression="jpeg",
                subfiletype=int(step > 1),
                resolution=(20_000 / step, 20_000 / step),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
    return float((amount[: height // STEPS[2], : width // STEPS[2]] > 0).mean())


def _encoded(tile: np.ndarray) -> bytes:
    import imagecodecs

    return imagecodecs.jpeg8_encode(
        np.ascontiguousarray(tile), QUALITY, colorspace="RGB", outcolorspace="YCBCR"
    )


# --- the routes: their imports, then a job --------------------------------------------------------


def codecs() -> None:
    """What tifffile imports only when it meets the first tile of a JPEG."""
    import imagecodecs
    import tifffile

    assert tifffile.TIFF.DECOMPRESSORS[7]
    assert imagecodecs.jpeg8_decode


def ours(path: str, level: int, places: Places) -> Job:
    import cv2
    import numpy.ma  # which NumPy's quantile imports when it is first called

    from foveal.manifest import Case
    from foveal.members.slides import FindTissue, Tiles

    assert numpy.ma
    codecs()
    cv2.setNumThreads(1)
    case, tiles = (
        Case(id="slide", paths=(path,)),
        Tiles(side=TILE, count=COUNT, downsample=STEPS[level]),
    )
    return lambda: tiles(case, FindTissue()(case)).reshape(-1, TILE, TILE, 3)


def limit(path: str, level: int, places: Places) -> Job:
    import tifffile

    codecs()

    def job() -> np.ndarray:
        with tifffile.TiffFile(path) as file, Path(path).open("rb", buffering=0) as data:
            for k, page in ((2, file.pages[2].aspage()), (level, file.pages[level].aspage())):
                across = -(-page.imagewidth // TILE)
                every = range(len(page.dataoffsets))
                for index in every if k == 2 else touched(places, across):
                    start, count = page.dataoffsets[index], page.databytecounts[index]
                    found = os.pread(data.fileno(), count, start)
                    page.decode(found, index, jpegtables=page.jpegtables)
        return np.zeros(0)

    return job


def touched(places: Places, across: int) -> list[int]:
    """The tiles of a level that hold some places, each once."""
    return sorted(
        {
            row * across + column
            for top, left in places
            for row in range(top // TILE, (top + TILE - 1) // TILE + 1)
            for column in range(left // TILE, (left + TILE - 1) // TILE + 1)
        }
    )


def whole(path: str, level: int, places: Places) -> Job:
    codecs()

    def job() -> np.ndarray:
        squares, _ = squares_of(path, level)
        darkness = squares.reshape(len(squares), -1).sum(-1)
        return squares[np.argsort(darkness)[:COUNT]]

    return job


def squares_of(path: str, level: int) -> tuple[np.ndarray, Places]:
    """A whole level cut into squares, and where they lie."""
    import tifffile

    image = tifffile.imread(path, key=level, maxworkers=1)
    more = [-n % TILE for n in image.shape[:2]]
    padding = [[n // 2, n - n // 2] for n in more]
    image = np.pad(image, [*padding, [0, 0]], constant_values=255)
    rows, columns = image.shape[0] // TILE, image.shape[1] // TILE
    squares = image.reshape(rows, TILE, columns, TILE, 3).transpose(0, 2, 1, 3, 4)
    places = [
        (row * TILE - padding[0][0], column * TILE - padding[1][0])
        for row in range(rows)
        for column in range(columns)
    ]
    return squares.reshape(-1, TILE, TILE, 3), places


def openslide(path: str, level: int, places: Places) -> Job:
    from openslide import OpenSlide
    from PIL import ImageFile  # which Pillow imports when it first makes a picture

    assert ImageFile

    def job() -> np.ndarray:
        with OpenSlide(path) as slide:
            np.asarray(slide.read_region((0, 0), 2, slide.level_dimensions[2]).convert("RGB"))
            step = STEPS[level]
            found = [
                slide.read_region((left * step, top * step), level, (TILE, TILE)).convert("RGB")
                for top, left in places
            ]
        return np.stack([np.asarray(one) for one in found])

    return job


ROUTES: dict[str, Callable[[str, int, Places], Job]] = {
    LIMIT: limit,
    OURS: ours,
    OPENSLIDE: openslide,
    WHOLE: whole,
}


def importable(path: str, level: int, places: Places) -> dict[str, Job]:
    """The routes that are installed."""
    found = {}
    for name, make in ROUTES.items():
        try:
            found[name] = make(path, level, places)
        except ImportError as error:
            print(f"skipped: {name} ({error})")
    return found


def chosen(path: str, level: int) -> Places:
    """Where ours reads."""
    from foveal.manifest import Case
    from foveal.members.slides import FindTissue, Tiles
    from foveal.read.slide import open_slide

    with open_slide(path) as slide:
        (places,) = Tiles(side=TILE, count=COUNT, downsample=STEPS[level]).places(
            slide, FindTissue()(Case(id="slide", paths=(path,)))
        )
        corners = np.round(places / slide.levels[level].downsample).astype(int)
    return [(top, left) for top, left in corners.tolist()]


# --- measures -------------------------------------------------------------------------------------


def agreement(path: str, level: int, places: Places, jobs: dict[str, Job]) -> bool:
    """Whether all routes give the same pixels at the same places."""
    squares, where = squares_of(path, level)
    row = {place: k for k, place in enumerate(where)}
    wanted = squares[[row[place] for place in places]]
    darkest = np.argsort(squares.reshape(len(squares), -1).sum(-1))[:COUNT]
    shared = len(set(places) & {where[k] for k in darkest})
    del squares
    apart = [
        int(np.abs(jobs[name]().astype(int) - wanted).max())
        for name in (OURS, OPENSLIDE)
        if name in jobs
    ]
    print(f"  pixels differ by at most {max(apart)}; {shared} of {COUNT} are the darkest too")
    return max(apart) == 0


def warm(jobs: dict[str, Job], rounds: int) -> dict[str, list[float]]:
    """Seconds of every run but the first, all routes in turn; a slow one has fewer."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(rounds + 1):
        for name, job in jobs.items():
            if turn > SLOW_ROUNDS and seconds[name][-1] > 1:
                continue
            started = time.process_time()
            job()
            seconds[name].append(time.process_time() - started)
    return {name: values[1:] for name, values in seconds.items()}


def child(name: str, path: str, level: int) -> None:
    """One cold run, in an interpreter of its own; the places come in by its input."""
    places = [(top, left) for top, left in json.load(sys.stdin)]
    job = ROUTES[name](path, level, places)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
    ready, before = time.process_time(), _kilobytes("VmRSS")
    job()
    end, after = time.process_time(), _kilobytes("VmHWM")
    print(json.dumps({"bare": end - ready, "all": end, "peak": (after - before) * 1024 / 1e6}))


def _kilobytes(entry: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(entry))


def cold(path: str, level: int, places: Places, names: list[str], runs: int) -> dict[str, dict]:
    """The shortest run of every route without and with its imports, and its highest peak."""
    found: dict[str, dict] = {}
    for turn in range(runs):
        for name in names:
            if turn >= SLOW_ROUNDS and found[name]["bare"] > 1:
                continue
            command = [sys.executable, __file__, "--child", name, "--level", str(level), path]
            said = subprocess.run(
                command, input=json.dumps(places), capture_output=True, text=True, check=True
            ).stdout
            one = json.loads(said)
            old = found.setdefault(name, one)
            found[name] = {key: (max if key == "peak" else min)(old[key], one[key]) for key in one}
    return found


def main() -> int:
    """Simulate, run all in turn and print the verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--cold", type=int, default=5, help="runs of a route in fresh interpreters")
    parser.add_argument("--out", type=Path, help="kept; a temporary folder if left out")
    parser.add_argument("--child", choices=ROUTES, help=argparse.SUPPRESS)
    parser.add_argument("--level", type=int, help=argparse.SUPPRESS)
    parser.add_argument("path", nargs="?", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.path, arguments.level)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        return compare(arguments.out or Path(temporary), arguments.rounds, arguments.cold)


def compare(folder: Path, rounds: int, runs: int) -> int:
    """Both slides, both levels, and the goals."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {size: folder / f"slide-{size[0]}.tiff" for size in (SLIDE, LARGE)}
    for (height, width), path in paths.items():
        if not path.exists():
            share = simulate(path, (height, width))
            print(f"{height:,} x {width:,}: {share:.1%} tissue, {path.stat().st_size / 1e6:.0f} MB")
    told = [on_level(str(paths[SLIDE]), level, rounds, runs) for level in LEVELS]
    print("\nours on the large slide")
    for level in LEVELS:
        path = str(paths[LARGE])
        found = cold(path, level, chosen(path, level), [LIMIT, OURS], runs)
        ratio, peak = found[OURS]["bare"] / found[LIMIT]["bare"], found[OURS]["peak"]
        print(f"  at 1/{STEPS[level]:<2} {ratio:6.2f} limits cold, peak {peak:.1f} MB")
        told.append({"cold": ratio, "peak": peak})
    most = {key: max(one[key] for one in told if key in one) for key in ("warm", "cold", "peak")}
    slide = min(one.get("slide", float("nan")) for one in told[: len(LEVELS)])
    whole = told[LEVELS.index(0)]["whole"]
    goals = {
        f"warm, in limits, at most {WARM}: {most['warm']:.2f}": most["warm"] <= WARM,
        f"cold, in limits, at most {COLD}: {most['cold']:.2f}": most["cold"] <= COLD,
        f"peak under {PEAK} MB: {most['peak']:.1f}": most["peak"] < PEAK,
        f"at least {BY_OPENSLIDE} x OpenSlide: {slide:.1f}": slide >= BY_OPENSLIDE,
        f"at least {BY_WHOLE} x the whole of the largest level: {whole:.0f}": whole >= BY_WHOLE,
        "the same pixels at the same places": all(one["same"] for one in told[: len(LEVELS)]),
    }
    print()
    for goal, met in goals.items():
        print(f"{'MET' if met else 'NOT MET':8} {goal}")
    return 0 if all(goals.values()) else 1


def on_level(path: str, level: int, rounds: int, runs: int) -> dict[str, float]:
    """All routes at one level."""
    places = chosen(path, level)
    jobs = importable(path, level, places)
    across = -(-SLIDE[1] // STEPS[level] // TILE)
    print(f"\n{COUNT} tiles at 1/{STEPS[level]}, in {len(touched(places, across))} of the file's")
    same = agreement(path, level, places, jobs)
    seconds, fresh = warm(jobs, rounds), cold(path, level, places, list(jobs), runs)
    least = {name: min(values) for name, values in seconds.items()}
    usual = {name: float(np.median(values)) for name, values in seconds.items()}
    print(f"  in limits     {'warm':>8}{'median':>8}{'cold':>8}{'+ imports':>11}{'peak':>11}")
    for name in jobs:
        shares = [of[name] / of[LIMIT] for of in (least, usual)]
        shares += [fresh[name][key] / fresh[LIMIT][key] for key in ("bare", "all")]
        one, two, three, four = shares
        peak = fresh[name]["peak"]
        print(f"  {name:14}{one:8.2f}{two:8.2f}{three:8.2f}{four:11.2f}{peak:8.1f} MB")
    told = {
        "warm": least[OURS] / least[LIMIT],
        "cold": fresh[OURS]["bare"] / fresh[LIMIT]["bare"],
        "peak": fresh[OURS]["peak"],
        "whole": least[WHOLE] / least[OURS],
        "same": float(same),
    }
    return told | ({"slide": least[OPENSLIDE] / least[OURS]} if OPENSLIDE in jobs else {})


if __name__ == "__main__":
    raise SystemExit(main())
