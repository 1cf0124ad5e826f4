"""JPEG file -> varied picture of 224 px: ours, uncached and cached, against the usual ways.

Every way flips, turns by up to 20 degrees, zooms by up to a tenth and varies brightness and
contrast, on one thread, and ends in a uint8 tensor (kornia's in a float one). The limit is the
decoding alone. The pictures are real photographs, cropped, enlarged and written again as JPEG.

Goals: uncached at most 1.8 x the decoding at 512 px, and faster than every rival; from the cache
10 x as fast as the fastest uncached rival at 1400 x 2100 and 1.5 x at 512; batches made by two
threads 1.5 x as fast as by a DataLoader of two workers::

    .venv-rivals/bin/python bench/pixels.py [--data ../shared/data] [--rounds 7]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from foveal.read.image import decode
from foveal.train.batches import Batches, quiet_libraries
from foveal.train.cache import Direct, cached
from foveal.transforms.augment import Augment, resize

SIDE = 224
BATCH = 64
BIG, SMALL = (1400, 2100), (512, 512)
AUGMENT = Augment(
    flip_horizontal=0.5,
    flip_vertical=0.5,
    rotate_degrees=20,
    scale=(0.9, 1.1),
    brightness=0.1,
    contrast=0.2,
)
Way = Callable[[Sequence[str]], object]


def photographs(data: Path, folder: Path, size: tuple[int, int], count: int) -> list[str]:
    """Real photographs, cropped to the shape of `size`, enlarged to it and saved as JPEG."""
    paths = []
    for source in sorted((data / "idrid_grade" / "images").glob("*.jpg"))[:count]:
        image = cv2.imread(str(source))
        rows, columns = image.shape[:2]
        width = min(columns, rows * size[1] // size[0])
        left = (columns - width) // 2
        crop = image[:, left : left + width]
        path = str(folder / f"{size[0]}-{source.name}")
        enlarged = cv2.resize(crop, size[::-1], interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(path, enlarged, [cv2.IMWRITE_JPEG_QUALITY, 90])
        paths.append(path)
    return paths


def tensor(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1)


def prepared(path: str) -> np.ndarray:
    return resize(decode(path), SIDE, SIDE)


def ours(paths: Sequence[str]) -> list[Tensor]:
    rngs = (np.random.default_rng((0, 0, 0, place)) for place in range(len(paths)))
    return [tensor(AUGMENT(prepared(path), rng)) for path, rng in zip(paths, rngs, strict=True)]


def decoding(paths: Sequence[str]) -> list[np.ndarray]:
    return [cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR) for path in paths]


def from_cache(paths: Sequence[str], folder: Path) -> Way:
    """Ours from a cache that is filled here, outside the measured time."""
    pictures = cached(
        folder / f"{len(paths)}.npy",
        lambda row: prepared(paths[row]),
        len(paths),
        threads=1,
        limit_bytes=1e9,
    )

    def way(paths: Sequence[str]) -> list[Tensor]:
        rngs = (np.random.default_rng((0, 0, 0, row)) for row in range(len(paths)))
        return [tensor(AUGMENT(pictures(row), rng)) for row, rng in enumerate(rngs)]

    return way


def torchvision_way() -> Way:
    from torchvision.transforms import v2

    vary = v2.Compose(
        [
            v2.ToImage(),
            v2.Resize((SIDE, SIDE), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(),
            v2.RandomAffine(20, scale=(0.9, 1.1), interpolation=v2.InterpolationMode.BILINEAR),
            v2.ColorJitter(brightness=0.1, contrast=0.2),
        ]
    )
    return lambda paths: [vary(Image.open(path).convert("RGB")) for path in paths]


def albumentations_one(interpolation: int) -> Callable[[str], Tensor]:
    """From a path to a tensor; how it shrinks decides between speed and aliasing."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # else its import asks the network for news
    import albumentations

    vary = albumentations.Compose(
        [
            albumentations.Resize(SIDE, SIDE, interpolation=interpolation),
            albumentations.HorizontalFlip(),
            albumentations.VerticalFlip(),
            albumentations.Affine(
                rotate=(-20, 20), scale=(0.9, 1.1), border_mode=cv2.BORDER_REFLECT_101, p=1
            ),
            albumentations.RandomBrightnessContrast(0.1, 0.2, p=1),
        ]
    )

    def one(path: str) -> Tensor:
        image = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
        return tensor(vary(image=image)["image"])

    return one


def albumentations_way(interpolation: int) -> Way:
    one = albumentations_one(interpolation)
    return lambda paths: [one(path) for path in paths]


def kornia_way() -> Way:
    from kornia import augmentation

    vary = torch.nn.Sequential(
        augmentation.RandomHorizontalFlip(),
        augmentation.RandomVerticalFlip(),
        augmentation.RandomAffine(20, scale=(0.9, 1.1), p=1),
        augmentation.ColorJiggle(brightness=0.1, contrast=0.2, p=1),
    )

    def way(paths: Sequence[str]) -> Tensor:
        images = (cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB) for path in paths)
        small = [tensor(cv2.resize(image, (SIDE, SIDE))) for image in images]
        return vary(torch.stack(small).float() / 255)

    return way


RIVALS: dict[str, Callable[[], Way]] = {
    "cv2 + albumentations (shrinks by INTER_LINEAR, its default)": partial(
        albumentations_way, cv2.INTER_LINEAR
    ),
    "cv2 + albumentations (shrinks by INTER_AREA)": partial(albumentations_way, cv2.INTER_AREA),
    "PIL + torchvision v2": torchvision_way,
    "cv2 + kornia on the batch": kornia_way,
}


def importable() -> dict[str, Way]:
    """The rivals that are installed."""
    found = {}
    for name, make in RIVALS.items():
        try:
            found[name] = make()
        except ImportError as error:
            print(f"skipped: {name} ({error})")
    return found


def cheapest(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Least seconds of each way, run in turn."""
    least = {}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if turn:  # the first turn warms up
                least[name] = min(least.get(name, np.inf), time.perf_counter() - started)
    return least


def verdict(goal: str, *, met: bool, measured: str) -> None:
    print(f"{'MET' if met else 'NOT MET':8s}{goal}: {measured}")


def single_pictures(paths: dict[tuple[int, int], list[str]], folder: Path, rounds: int) -> None:
    """The cost of a picture, on one thread."""
    rivals = importable()
    for size, some in paths.items():
        cache = folder / str(size[0])
        ways = {"the decoding alone (limit)": decoding, "ours, uncached": ours} | rivals
        ways |= {"ours, from the cache": from_cache(some, cache)}
        seconds = cheapest({name: partial(way, some) for name, way in ways.items()}, rounds)
        limit, mine, kept = (seconds[name] for name in (*list(ways)[:2], "ours, from the cache"))
        kilobytes = sum(Path(path).stat().st_size for path in some) / len(some) / 1024
        print(f"\n{size[0]} x {size[1]}, {kilobytes:.0f} KB a picture: cost in decodings")
        for name, value in seconds.items():
            print(f"  {name:62s}{value / limit:7.2f}")
        if size == SMALL:
            times = mine / limit
            verdict("uncached <= 1.8 decodings", met=times <= 1.8, measured=f"{times:.2f}")
        if rivals:
            best = min(seconds[name] for name in rivals)
            verdict(
                "uncached faster than every rival", met=mine < best, measured=f"{best / mine:.2f} x"
            )
            least = 10 if size == BIG else 1.5
            goal = f"from the cache >= {least} x the fastest rival"
            verdict(goal, met=best / kept >= least, measured=f"{best / kept:.1f} x")


class Rows:
    """A DataLoader's data set: a path in, a tensor out."""

    def __init__(self, paths: Sequence[str], one: Callable[[str], Tensor]) -> None:
        self.paths, self.one = paths, one

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Tensor:
        return self.one(self.paths[row])


def ours_one(path: str) -> Tensor:
    return tensor(AUGMENT(prepared(path), np.random.default_rng(0)))


def loaders(paths: list[str], rounds: int) -> None:
    """Batches by two threads against a DataLoader's two lasting workers, nothing cached."""
    direct = Direct(lambda row: prepared(paths[row]), (SIDE, SIDE, 3), np.dtype(np.uint8))
    batches = Batches(direct, threads=2, augment=AUGMENT)
    parts = np.array_split(np.arange(len(paths)), max(1, len(paths) // BATCH))
    ones = {"DataLoader, 2 workers, our function": ours_one}
    try:
        ones["DataLoader, 2 workers, albumentations"] = albumentations_one(cv2.INTER_LINEAR)
    except ImportError as error:
        print(f"skipped: DataLoader with albumentations ({error})")
    workers = {"num_workers": 2, "persistent_workers": True}
    theirs = {
        name: partial(list, DataLoader(Rows(paths, one), BATCH, **workers))
        for name, one in ones.items()
    }
    seconds = cheapest(
        {"Batches, 2 threads": lambda: list(batches(parts, key=(0, 0, 0)))} | theirs, rounds
    )
    mine = seconds.pop("Batches, 2 threads")
    print(f"\nLoaders, 512 px, batch {BATCH}, two threads or workers: time in ours")
    for name, value in seconds.items():
        print(f"  {name:62s}{value / mine:7.2f}")
    best = min(seconds.values()) / mine
    verdict("batches >= 1.5 x a DataLoader", met=best >= 1.5, measured=f"{best:.2f} x")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments.add_argument("--rounds", type=int, default=7)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    quiet_libraries()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        counts = {BIG: 8, SMALL: 256}
        paths = {s: photographs(given.data, folder, s, n) for s, n in counts.items()}
        single_pictures({BIG: paths[BIG], SMALL: paths[SMALL][:32]}, folder, given.rounds)
        loaders(paths[SMALL], given.rounds)


if __name__ == "__main__":
    main()
