"""Masks in electron microscopy: `segment:small` against a forest of filters and MONAI's U-Net.

Four tasks from vnc_em: mitochondria, membrane and synapses on each of 20 sections, and mitochondria
projected from ten sections to one mask. The lower part of every section is only for judging, a gap
above it is for nobody, and each contender learns from pictures and masks of the upper part alone.
The forest fits its threshold on two halves of it, out of fold. The U-Net learns for the wall time
and on the threads of foveal's `init` and `run` (only its training counts), and fits its threshold
on a strip that it does not learn from.

Printed: F0.5 over all pixels of all lower parts, with bootstrap intervals over blocks (the same
place of four neighbouring sections is one), and the paired interval of each difference. Goal:
foveal above every rival in every task. Resumable by task and contender: answers that are under
`--out` are used again while the hold-out, the options and the wall time stay the same; after a
change of foveal, use another `--out`. Hours on two cores; `--task mito --option epochs=1
--option crops=16 --option folds=2 --minutes 0.2` looks whether it works::

    .venv-rivals/bin/python bench/em.py [--data ../shared/data] [--task NAME] [--out DIR]
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import shutil
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from foveal import launch, stages
from foveal.cli.words import options_of
from foveal.decide.sweep import best_threshold
from foveal.metrics.interval import bootstrap, resampled_sums
from foveal.metrics.overlap import CellFBeta
from foveal.task import Context

SECTIONS, TOGETHER = 20, 4
"""Of the stack; and neighbours that show nearly the same, so that they stay together."""
SEEN, ASKED = slice(0, 640), slice(672, 1024)
"""Rows to learn from and rows to judge; those between are a gap that nobody uses."""
BETA = 0.5
METRIC = CellFBeta(BETA)

WIDTHS, WIDEST = (1.0, 2.0, 4.0), 8.0
"""Of the forest's filters at half size, and of one more blur."""
FOREST = {"trees": 100, "leaf": 5, "samples": 200_000, "foreground": 0.25, "guard": 16}
"""At most that share of the sample is foreground; the guard counts rows at half size."""

STRIP = 64
"""Rows at the end of those to learn from, on which the U-Net's threshold is fitted."""
UNET = {"channels": [16, 32, 64, 128, 256], "units": 2, "side": 192, "batch": 8, "lr": 1e-3}


# --- the hold-out --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """What is to be found.

    Attributes:
        mask: Name of a mask, from its first and last section.
        depth: Sections to one mask.
        together: Masks that stay together.
        block: Side of the places that are drawn anew for an interval, in pixels.
    """

    mask: str
    depth: int = 1
    together: int = TOGETHER
    block: int = 96


TASKS = {
    "mito": Task("mito/{:02d}.png"),
    "membrane": Task("membrane/{:02d}.png"),
    "synapse": Task("synapse/{:02d}.png"),
    "projected": Task("projection_mito_z{:02d}-{:02d}.png", depth=10, together=1, block=48),
}


@dataclass(frozen=True)
class Seen:
    """What a contender learns from.

    Attributes:
        ids: One for each mask.
        stacks: "mask section row column", 8 bit.
        masks: "mask row column", bool.
        groups: Which masks stay together; empty where all stand alone.
    """

    ids: list[str]
    stacks: np.ndarray
    masks: np.ndarray
    groups: list[str]


@dataclass(frozen=True)
class Data:
    """One task: what is given, what is asked for, and the truth that no contender is handed."""

    task: Task
    seen: Seen
    asked: np.ndarray
    truth: np.ndarray

    def digest(self) -> int:
        """A number that changes with the hold-out."""
        parts = (self.seen.stacks, self.seen.masks, self.asked, self.truth)
        return zlib.crc32(b"".join(np.ascontiguousarray(part).tobytes() for part in parts))


def picture(path: Path) -> np.ndarray:
    """A grey picture."""
    found = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if found is None:
        raise SystemExit(f"{path} cannot be read")
    return found


def read(folder: Path, task: Task) -> Data:
    """The stacks and masks of a task, cut into what is seen and what is asked for."""
    sections = np.stack([picture(folder / f"raw/{z:02d}.png") for z in range(SECTIONS)])
    firsts = range(0, SECTIONS, task.depth)
    stacks = np.stack([sections[z : z + task.depth] for z in firsts])
    names = [task.mask.format(z, z + task.depth - 1) for z in firsts]
    masks = np.stack([picture(folder / name) > 0 for name in names])
    is_grouped = task.together > 1
    seen = Seen(
        ids=[f"z{z:02d}" for z in firsts],
        stacks=stacks[:, :, SEEN],
        masks=masks[:, SEEN],
        groups=[f"block{k // task.together}" for k in range(len(masks))] if is_grouped else [],
    )
    return Data(task=task, seen=seen, asked=stacks[:, :, ASKED], truth=masks[:, ASKED])


def threshold(scores: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> float:
    """The score from which on a pixel is foreground, for the highest F0.5 over all."""
    pairs = zip(scores, masks, strict=True)
    pixels = [(s.reshape(-1), m.reshape(-1), np.ones(m.size, dtype=bool)) for s, m in pairs]
    return best_threshold(pixels, beta=BETA).threshold


# --- foveal --------------------------------------------------------------------------------------


def foveal(seen: Seen, asked: np.ndarray, folder: Path, options: dict) -> tuple[np.ndarray, float]:
    """`segment:small` as a user would run it: its masks, and the seconds of `init` and `run`."""
    shutil.rmtree(folder, ignore_errors=True)
    write_stacks(folder / "seen", seen.ids, seen.stacks)
    write_stacks(folder / "asked", seen.ids, asked)
    header, rows = ["id", "slices", "mask"], [[i, f"seen/{i}", f"masks/{i}.png"] for i in seen.ids]
    if seen.groups:
        header = [*header, "block"]
        rows = [[*row, group] for row, group in zip(rows, seen.groups, strict=True)]
    for name, mask in zip(seen.ids, seen.masks, strict=True):
        write_picture(folder / f"masks/{name}.png", mask * np.uint8(255))
    write(folder / "seen.csv", [header, *rows])
    write(folder / "asked.csv", [["id", "slices"], *([i, f"asked/{i}"] for i in seen.ids)])
    started = time.monotonic()
    cpu = Context(device="cpu")
    study = stages.init(
        folder / "study",
        recipe="segment:small",
        table=folder / "seen.csv",
        target="mask",
        columns={"group": "block"} if seen.groups else {},
        options=options,
        context=cpu,
    )
    stages.run(study, cpu)
    seconds = time.monotonic() - started
    out = folder / "answers"
    said = stages.predict(study, table=folder / "asked.csv", out=out, context=cpu)
    print(f"  foveal: the row that answers is {said.row}", flush=True)
    return np.stack([picture(out / f"{name}.png") > 0 for name in seen.ids]), seconds


def write_stacks(folder: Path, ids: Sequence[str], stacks: np.ndarray) -> None:
    """A folder of sections for each stack."""
    for name, stack in zip(ids, stacks, strict=True):
        for z, section in enumerate(stack):
            write_picture(folder / name / f"{z:02d}.png", section)


def write_picture(path: Path, plane: np.ndarray) -> None:
    """Write a grey picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", np.ascontiguousarray(plane))[1].tobytes())


def write(path: Path, rows: Sequence[Sequence[str]]) -> None:
    """Write a table."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


# --- a forest on filter responses ----------------------------------------------------------------


def forest(seen: Seen, asked: np.ndarray) -> np.ndarray:
    """Random trees on 14 responses at half size; the threshold from two halves, out of fold."""
    features = np.stack([responses(stack) for stack in seen.stacks])
    masks = np.stack([halved(mask.astype(np.float32)) >= 0.5 for mask in seen.masks])
    rows = np.arange(masks.shape[1])
    middle, guard = len(rows) // 2, FOREST["guard"]
    upper, lower = (
        scores(fitted(features[:, learned], masks[:, learned]), features[:, judged])
        for learned, judged in (
            (rows >= middle + guard, rows < middle),
            (rows < middle - guard, rows >= middle),
        )
    )
    out_of_fold = np.concatenate([upper, lower], axis=1)
    cut = threshold(doubled(out_of_fold), seen.masks)
    asked_features = np.stack([responses(stack) for stack in asked])
    return doubled(scores(fitted(features, masks), asked_features)) >= cut


def responses(stack: np.ndarray) -> np.ndarray:
    """Responses "row column feature" at half size; several sections give their mean and maximum."""
    seen = np.stack([filtered(halved(section / np.float32(255))) for section in stack])
    return seen[0] if len(seen) == 1 else np.concatenate([seen.mean(0), seen.max(0)], axis=2)


def filtered(plane: np.ndarray) -> np.ndarray:
    """The plane, and by width its blur, its slope and both curvatures."""
    from scipy import ndimage

    found = [plane, ndimage.gaussian_filter(plane, WIDEST)]
    for width in WIDTHS:
        yy, xx, yx = (
            ndimage.gaussian_filter(plane, width, order=order) for order in ((2, 0), (0, 2), (1, 1))
        )
        middle, apart = (yy + xx) / 2, np.hypot((yy - xx) / 2, yx)
        found += [ndimage.gaussian_filter(plane, width), middle + apart, middle - apart]
        found.append(ndimage.gaussian_gradient_magnitude(plane, width))
    return np.stack(found, axis=2)


def halved(plane: np.ndarray) -> np.ndarray:
    """The mean of every two by two pixels."""
    return cv2.resize(plane, (plane.shape[1] // 2, plane.shape[0] // 2), None, 0, 0, cv2.INTER_AREA)


def doubled(planes: np.ndarray) -> np.ndarray:
    """Scores between half size and full size."""
    size = (2 * planes.shape[2], 2 * planes.shape[1])
    return np.stack([cv2.resize(plane, size) for plane in planes])


def fitted(features: np.ndarray, masks: np.ndarray) -> object:
    """Trees that learnt from a sample of the pixels, in which foreground is not too rare."""
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(0)
    inside, outside = np.flatnonzero(masks), np.flatnonzero(~masks)
    inside = rng.permutation(inside)[: round(FOREST["foreground"] * FOREST["samples"])]
    outside = rng.permutation(outside)[: FOREST["samples"] - len(inside)]
    drawn = np.concatenate([inside, outside])
    trees = RandomForestClassifier(
        FOREST["trees"], min_samples_leaf=FOREST["leaf"], n_jobs=launch.cores(), random_state=0
    )
    return trees.fit(features.reshape(-1, features.shape[-1])[drawn], masks.reshape(-1)[drawn])


def scores(trees: object, features: np.ndarray) -> np.ndarray:
    """The trees' probability of foreground at every pixel."""
    flat = (plane.reshape(-1, plane.shape[-1]) for plane in features)
    said = [trees.predict_proba(pixels)[:, 1].astype(np.float32) for pixels in flat]
    return np.stack(said).reshape(features.shape[:3])


# --- a U-Net -------------------------------------------------------------------------------------


def unet(seen: Seen, asked: np.ndarray, seconds: float) -> np.ndarray:
    """MONAI's U-Net with the sections as channels; the threshold from a strip it does not see."""
    import torch

    torch.set_num_threads(launch.cores())
    torch.manual_seed(0)
    learned = seen.stacks[:, :, :-STRIP]
    mean, std = np.float32(learned.mean()), np.float32(learned.std())
    pictures, wanted = ((s.astype(np.float32) - mean) / std for s in (seen.stacks, asked))
    model, steps = trained(pictures[:, :, :-STRIP], seen.masks[:, :-STRIP], seconds)
    print(f"  unet: {steps} steps of {UNET['batch']} crops in {seconds:.0f} s", flush=True)
    strip = answered(model, pictures[:, :, -UNET["side"] :])[:, -STRIP:]
    return answered(model, wanted) >= threshold(strip, seen.masks[:, -STRIP:])


def trained(pictures: np.ndarray, masks: np.ndarray, seconds: float) -> tuple[Callable, int]:
    """A network after so many seconds, the rate along a cosine over them; and its steps."""
    import torch
    from monai.losses import DiceCELoss
    from monai.networks.nets import UNet

    channels = UNET["channels"]
    model = UNet(
        spatial_dims=2,
        in_channels=pictures.shape[1],
        out_channels=1,
        channels=channels,
        strides=[2] * (len(channels) - 1),
        num_res_units=UNET["units"],
    )
    loss = DiceCELoss(sigmoid=True, batch=True)
    optim = torch.optim.Adam(model.parameters(), lr=UNET["lr"])
    rng, foreground = np.random.default_rng(0), np.argwhere(masks)
    model.train()
    started, steps = time.monotonic(), 0
    while (spent := (time.monotonic() - started) / seconds) < 1:
        for group in optim.param_groups:
            group["lr"] = UNET["lr"] * (1 + math.cos(math.pi * spent)) / 2
        pairs = [crop(rng, pictures, masks, foreground) for _ in range(UNET["batch"])]
        batch, wanted = (torch.from_numpy(np.stack(part)) for part in zip(*pairs, strict=True))
        optim.zero_grad()
        loss(model(batch), wanted).backward()
        optim.step()
        steps += 1
    return model.eval(), steps


def crop(
    rng: np.random.Generator, pictures: np.ndarray, masks: np.ndarray, foreground: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A crop and its mask, turned and mirrored; every other one lies around foreground."""
    side, size = UNET["side"], np.array(masks.shape[1:])
    unit, *corner = rng.integers(0, (len(masks), *(size - side + 1)))
    if rng.random() < 0.5:
        unit, *middle = rng.choice(foreground)
        corner = np.clip(np.array(middle) - rng.integers(0, side, 2), 0, size - side)
    place = (slice(corner[0], corner[0] + side), slice(corner[1], corner[1] + side))
    contrast, brightness = rng.uniform(0.8, 1.2), rng.uniform(-0.2, 0.2)
    seen = pictures[unit][:, *place] * np.float32(contrast) + np.float32(brightness)
    true = masks[unit][None, *place].astype(np.float32)
    quarters, is_mirrored = rng.integers(4), rng.random() < 0.5
    turned = (np.rot90(plane, quarters, axes=(1, 2)) for plane in (seen, true))
    return tuple((p[:, :, ::-1] if is_mirrored else p).copy() for p in turned)


def answered(model: Callable, pictures: np.ndarray) -> np.ndarray:
    """Probabilities of whole pictures, from windows that overlap."""
    import torch
    from monai.inferers import sliding_window_inference

    side = (UNET["side"], UNET["side"])
    with torch.inference_mode():
        said = [
            sliding_window_inference(part, side, 8, model, overlap=0.5, mode="gaussian").sigmoid()
            for part in torch.from_numpy(pictures).split(1)
        ]
    return torch.cat(said)[:, 0].numpy()


# --- the comparison ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """The masks of a contender, and the seconds that count for it."""

    masks: np.ndarray
    seconds: float


def kept(path: Path, key: dict, make: Callable[[], tuple[np.ndarray, float]]) -> Answer:
    """Answers from an earlier run with the same key, or new ones."""
    told = json.dumps(key, sort_keys=True)
    if path.is_file():
        with np.load(path) as old:
            if str(old["key"]) == told:
                shape = tuple(old["shape"].tolist())
                bits = np.unpackbits(old["bits"], count=math.prod(shape))
                return Answer(bits.reshape(shape).astype(bool), float(old["seconds"]))
    masks, seconds = make()
    part = path.with_suffix(".part.npz")
    np.savez(part, key=told, shape=masks.shape, bits=np.packbits(masks), seconds=seconds)
    part.replace(path)
    return Answer(masks, seconds)


def timed(make: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    """Answers and the seconds they took."""
    started = time.monotonic()
    return make(), time.monotonic() - started


def answers(data: Data, out: Path, options: dict, minutes: float | None) -> dict[str, Answer]:
    """The answers of every contender that can run."""
    out.mkdir(parents=True, exist_ok=True)
    seen, asked = data.seen, data.asked
    key = {"hold_out": data.digest()}
    mine = kept(
        out / "foveal.npz",
        {**key, "options": options},
        lambda: foveal(seen, asked, out / "foveal", options),
    )
    print(f"  foveal took {mine.seconds:.0f} s", flush=True)
    seconds = mine.seconds if minutes is None else 60 * minutes
    rivals: dict[str, tuple[Sequence[str], dict, Callable[[], np.ndarray]]] = {
        "forest": (("scipy", "sklearn"), {**key, **FOREST}, lambda: forest(seen, asked)),
        "unet": (
            ("monai",),
            {**key, **UNET, "strip": STRIP, "seconds": seconds},
            lambda: unet(seen, asked, seconds),
        ),
    }
    found = {"foveal": mine}
    for name, (needs, its_key, make) in rivals.items():
        missing = [module for module in needs if find_spec(module) is None]
        if missing:
            print(f"  {name:8} skipped: {', '.join(missing)} is not installed", flush=True)
            continue
        found[name] = kept(out / f"{name}.npz", its_key, lambda make=make: timed(make))
    return found


def blocks(data: Data) -> np.ndarray:
    """The block that every pixel belongs to: a place of neighbouring masks."""
    unit, row, column = np.ogrid[tuple(slice(side) for side in data.truth.shape)]
    row, column = row // data.task.block, column // data.task.block
    unit = unit // data.task.together * (row.max() + 1)
    return (unit + row) * (column.max() + 1) + column


def tally(masks: np.ndarray, truth: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Pixels found, wrongly given and missed, of every block."""
    parts = (masks & truth, masks & ~truth, ~masks & truth)
    counts = [np.bincount(block[part], minlength=int(block.max()) + 1) for part in parts]
    return np.stack(counts, axis=1).astype(np.float64)


def describe(name: str, data: Data) -> None:
    """Print what a task is, and what marking all comes to."""
    block = blocks(data)
    all_of_it = METRIC.value(tally(np.ones_like(data.truth), data.truth, block).sum(axis=0))
    units, depth, height, width = data.seen.stacks.shape
    sections = "section" if depth == 1 else "sections"
    print(
        f"\n{name}: {units} masks from {depth} {sections} each; {height} x {width} pixels to learn "
        f"from, {data.seen.masks.mean():.2%} of them foreground, {data.truth.shape[1]} x {width} "
        f"to judge, {data.truth.mean():.2%} ({block.max() + 1} blocks); marking all has "
        f"{float(all_of_it):.3f}",
        flush=True,
    )


def show(found: dict[str, Answer], data: Data) -> bool:
    """Print the scores of all; whether foveal is above every rival."""
    block = blocks(data)
    tallies = {name: tally(answer.masks, data.truth, block) for name, answer in found.items()}
    mine = tallies["foveal"]
    draws = METRIC.value(resampled_sums(mine))
    is_above = True
    for name, its in tallies.items():
        value = float(METRIC.value(its.sum(axis=0)))
        low, high = bootstrap(METRIC, its, np.arange(len(its)))
        words = f"  {name:8} {value:.3f} ({low:.3f} to {high:.3f})"
        if name != "foveal":
            gap = float(METRIC.value(mine.sum(axis=0))) - value
            low, high = np.quantile(draws - METRIC.value(resampled_sums(its)), [0.025, 0.975])
            words += f"   foveal {gap:+.3f} ({low:+.3f} to {high:+.3f})"
            words += ", contains 0" if low <= 0 <= high else ""
            is_above &= gap > 0
        print(words)
    print("  seconds: " + ", ".join(f"{name} {a.seconds:.0f}" for name, a in found.items()))
    return is_above


def main() -> int:
    """Run or read every contender of every task and print the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("out/em"))
    parser.add_argument("--task", action="append", choices=TASKS, help="all if left out")
    parser.add_argument("--option", action="append", default=[], help="name=value of the recipe")
    parser.add_argument("--minutes", type=float, help="the U-Net's training, else foveal's time")
    arguments = parser.parse_args()
    folder = arguments.data / "vnc_em"
    if not folder.is_dir():
        print(f"skipped: {folder} is not there (see --data)")
        return 0
    options = options_of(arguments.option)
    goals = {}
    for name in dict.fromkeys(arguments.task or TASKS):
        data = read(folder, TASKS[name])
        describe(name, data)
        found = answers(data, arguments.out / name, options, arguments.minutes)
        goals[f"{name}: foveal above {len(found) - 1} rivals in F0.5"] = (
            show(found, data) and len(found) > 1
        )
    print()
    for goal, met in goals.items():
        print(f"{'MET' if met else 'NOT MET':8} {goal}")
    return 0 if all(goals.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
