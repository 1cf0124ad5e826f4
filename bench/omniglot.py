"""Unseen drawings of characters: `identify:small` against plain retrieval and a plain ArcFace.

One hold-out of omniglot_reid is drawn once and used for no choice: further drawings of named ids,
and as new whole alphabets, whole further ids and part of the drawings without a name, 48 % new in
all. Each contender gives five names for every held-back drawing. Each rival places "new" by a cut
that it fits on inner hold-outs of the same kind. The ArcFace is a timm resnet18 under the loss of
pytorch-metric-learning, from scratch, for the wall time and on the threads of foveal's `init` and
`run`; only its training counts.

Printed: MAP@5 of all queries, and of known ones with "new" taken out of the answers, with bootstrap
intervals over queries, and the paired interval of each difference. Goal: foveal above every rival
in both. Resumable by contender: answers that are under `--out` are used again while the hold-out,
the options and the wall time stay the same; after a change of foveal, use another `--out`. Up to an
hour and a half on two cores; `--option epochs=1 --minutes 0.5` looks whether it works::

    .venv-rivals/bin/python bench/omniglot.py [--data ../shared/data] [--out DIR]
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import shutil
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from foveal import launch, stages
from foveal.cli.words import options_of
from foveal.manifest import Truth
from foveal.metrics.interval import bootstrap, resampled_sums
from foveal.metrics.ranking import MapAtK
from foveal.task import Context

NEW, NEW_SHARE, PLACES = "new_id", 0.48, 5
MOST_OF_HIDDEN = 3
"""Drawings of a hidden id that become queries; the others are not used at all."""
OUTER = {"seed": 20151210, "alphabets": 3, "ids": 40, "unknown": 0.3}
INNER = [{"seed": seed, "alphabets": 3, "ids": 40, "unknown": 0.3} for seed in range(3)]
INNER_OF_TRAINED = {"seed": 0, "alphabets": 1, "ids": 25, "unknown": 0.2}
"""Smaller, because the network does not learn from it."""

SIDE, EMBEDDING, BATCH, LR = 64, 512, 64, 1e-3
MARGIN, SCALE = 17.2, 10.0
"""Degrees, and of the cosines: those of foveal. pytorch-metric-learning takes 28.6 and 64 if
nothing is said."""
COMPONENTS = 96

FiveNames = list[list[str]]


# --- the hold-out --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Held:
    """Rows to learn from, rows to be named, and what they should be named."""

    seen: np.ndarray
    asked: np.ndarray
    truth: np.ndarray


@dataclass(frozen=True)
class Data:
    """The whole table, its pictures (ink is 1, paper 0) and the hold-out."""

    images: np.ndarray
    names: np.ndarray
    alphabets: np.ndarray
    ink: np.ndarray
    where: str
    held: Held

    def inner(self, chosen: dict) -> Held:
        """A hold-out of the training table."""
        return hold_out(self.names, self.alphabets, self.held.seen, **chosen)


def hold_out(
    names: np.ndarray,
    groups: np.ndarray,
    among: np.ndarray,
    *,
    seed: int,
    alphabets: int,
    ids: int,
    unknown: float,
) -> Held:
    """Hide whole alphabets, further ids, a share of the unknown, and drawings of those who stay."""
    rng = np.random.default_rng(seed)
    drawings: dict[str, list[int]] = defaultdict(list)
    for row in rng.permutation(among).tolist():
        drawings[str(names[row])].append(row)
    nobody = drawings.pop(NEW, [])
    closed = set(rng.choice(np.unique(groups[among]), alphabets, replace=False).tolist())
    hidden = {name for name, rows in drawings.items() if groups[rows[0]] in closed}
    hidden |= set(rng.choice(sorted(drawings.keys() - hidden), ids, replace=False).tolist())
    strangers = [row for row in nobody if groups[row] in closed]
    others = [row for row in nobody if groups[row] not in closed]
    new = strangers + others[: round(unknown * len(others))]
    new += [row for name in sorted(hidden) for row in drawings[name][:MOST_OF_HIDDEN]]
    known = [
        row
        for name in sorted(drawings.keys() - hidden)
        for row in drawings[name][: min(int(rng.integers(1, 3)), len(drawings[name]) - 1)]
    ]
    total = min(len(new) / NEW_SHARE, len(known) / (1 - NEW_SHARE))
    known = rng.permutation(known)[: round(total * (1 - NEW_SHARE))].tolist()
    gone = {*new, *known, *(row for name in hidden for row in drawings[name])}
    asked = rng.permutation([*rng.permutation(new)[: round(total * NEW_SHARE)], *known])
    return Held(
        seen=np.array([row for row in among.tolist() if row not in gone]),
        asked=asked,
        truth=np.where(np.isin(asked, known), names[asked], NEW),
    )


def read(folder: Path) -> Data:
    """The table and its pictures."""
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    images, names, alphabets = (
        np.array([row[column] for row in rows]) for column in ("image", "id", "alphabet")
    )
    pictures = [np.asarray(Image.open(folder / "images" / name).convert("L")) for name in images]
    return Data(
        images=images,
        names=names,
        alphabets=alphabets,
        ink=1 - np.stack(pictures).astype(np.float32) / 255,
        where=str(folder.absolute() / "images" / "{image}"),
        held=hold_out(names, alphabets, np.arange(len(rows)), **OUTER),
    )


# --- retrieval by hand ---------------------------------------------------------------------------


def nearest(asked: np.ndarray, seen: np.ndarray, names: np.ndarray) -> tuple[np.ndarray, ...]:
    """The five ids with the nearest drawing to each query, and their cosines."""
    asked, seen = (v / np.linalg.norm(v, axis=1, keepdims=True).clip(1e-12) for v in (asked, seen))
    order = np.argsort(names, kind="stable")
    order = order[names[order] != NEW]
    ids, starts = np.unique(names[order], return_index=True)
    best = np.maximum.reduceat((asked @ seen.T)[:, order], starts, axis=1)
    top = np.argsort(-best, axis=1, kind="stable")[:, :PLACES]
    return ids[top], np.take_along_axis(best, top, axis=1)


def best_cut(found: Sequence[tuple[np.ndarray, np.ndarray]], truth: Sequence[np.ndarray]) -> float:
    """The cut on the cosine with the highest MAP@5; names below it come after "new"."""
    names, scores = (np.concatenate(part) for part in zip(*found, strict=True))
    wanted = np.concatenate(truth)
    hits = names == wanted[:, None]
    rank = np.where(hits.any(axis=1), hits.argmax(axis=1), PLACES)

    def value(cut: float) -> float:
        before = (scores >= cut).sum(axis=1)
        place = np.where(wanted == NEW, before, rank + (rank >= before))
        return float(np.where(place < PLACES, 1 / (place + 1), 0).mean())

    return max([math.inf, *np.quantile(scores, np.linspace(0, 1, 2001)).tolist()], key=value)


def with_new(names: np.ndarray, scores: np.ndarray, cut: float) -> FiveNames:
    """Five names with "new" among them."""
    before = (scores >= cut).sum(axis=1).tolist()
    rows = zip(names.tolist(), before, strict=True)
    return [[*row[:b], NEW, *row[b:]][:PLACES] for row, b in rows]


Describe = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From pictures seen and asked for to their vectors."""


def retrieved(data: Data, inner: Sequence[Held], describe: Describe) -> FiveNames:
    """Answers of a description, its cut from inner hold-outs."""

    def found(held: Held) -> tuple[np.ndarray, ...]:
        seen, asked = describe(data.ink[held.seen], data.ink[held.asked])
        return nearest(asked, seen, data.names[held.seen])

    cut = best_cut([found(held) for held in inner], [held.truth for held in inner])
    return with_new(*found(data.held), cut)


def flat(pictures: np.ndarray) -> np.ndarray:
    """Every picture as a row."""
    return pictures.reshape(len(pictures), -1)


def whitened(seen: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Main directions of the pictures seen, at equal strength."""
    from sklearn.decomposition import PCA

    turn = PCA(COMPONENTS, whiten=True, random_state=0).fit(flat(seen))
    return turn.transform(flat(seen)), turn.transform(flat(asked))


# --- contenders: five names for every query, and the seconds they took ---------------------------


def foveal(data: Data, folder: Path, options: dict) -> tuple[FiveNames, float]:
    """`identify:small` as a user would run it."""
    held = data.held
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pairs = zip(data.images[held.seen].tolist(), data.names[held.seen].tolist(), strict=True)
    write(folder / "seen.csv", [["image", "id"], *pairs])
    write(folder / "asked.csv", [["image"], *([name] for name in data.images[held.asked])])
    started = time.monotonic()
    cpu = Context(device="cpu")
    study = stages.init(
        folder / "study",
        recipe="identify:small",
        table=folder / "seen.csv",
        images=data.where,
        target="id",
        options={"new": NEW, "new_share": NEW_SHARE, **options},
        context=cpu,
    )
    stages.run(study, cpu)
    seconds = time.monotonic() - started
    out = folder / "answers.csv"
    asked = {"table": folder / "asked.csv", "images": data.where}
    stages.predict(study, **asked, out=out, context=cpu)
    with out.open(newline="") as file:
        given = {row["image"]: row["id"].split() for row in csv.DictReader(file)}
    return [given[name] for name in data.images[held.asked].tolist()], seconds


def write(path: Path, rows: Sequence[Sequence[str]]) -> None:
    """Write a table."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def always_new(data: Data) -> FiveNames:
    """Someone new, then the ids with most drawings."""
    seen = data.names[data.held.seen]
    ids, count = np.unique(seen[seen != NEW], return_counts=True)
    often = ids[np.argsort(-count, kind="stable")][: PLACES - 1].tolist()
    return [[NEW, *often] for _ in data.held.asked]


def arcface(data: Data, seconds: float) -> FiveNames:
    """A resnet18 under an ArcFace loss; the cut from an inner hold-out that it does not see."""
    import torch
    from torch.nn.functional import interpolate

    torch.set_num_threads(launch.cores())
    torch.manual_seed(0)
    ink = torch.from_numpy(data.ink)[:, None]
    ink = interpolate(ink, (SIDE, SIDE), mode="bilinear", antialias=True)
    inner = data.inner(INNER_OF_TRAINED)
    named = inner.seen[data.names[inner.seen] != NEW]
    label = np.unique(data.names[named], return_inverse=True)[1]
    model, epochs = trained(ink[named], torch.from_numpy(label), seconds)
    print(f"  arcface: {epochs:.1f} epochs of {len(named)} drawings in {seconds:.0f} s", flush=True)
    with torch.inference_mode():
        vectors = torch.cat([model(part) for part in ink.split(256)]).numpy()

    def found(held: Held) -> tuple[np.ndarray, ...]:
        return nearest(vectors[held.asked], vectors[held.seen], data.names[held.seen])

    return with_new(*found(data.held), best_cut([found(inner)], [inner.truth]))


def trained(pictures: object, label: object, seconds: float) -> tuple[Callable, float]:
    """A network after so many seconds, the rate along a cosine over them; and its epochs."""
    import timm
    import torch
    from pytorch_metric_learning.losses import ArcFaceLoss
    from torch.utils.data import DataLoader, TensorDataset

    model = timm.create_model("resnet18", in_chans=1, num_classes=EMBEDDING)
    loss = ArcFaceLoss(int(label.max()) + 1, EMBEDDING, margin=MARGIN, scale=SCALE)
    optim = torch.optim.Adam([*model.parameters(), *loss.parameters()], lr=LR)
    loader = DataLoader(
        TensorDataset(pictures, label), batch_size=BATCH, shuffle=True, drop_last=True
    )
    model.train()
    started, steps = time.monotonic(), 0
    while True:
        for batch, wanted in loader:
            spent = (time.monotonic() - started) / seconds
            if spent >= 1:
                return model.eval(), steps / len(loader)
            for group in optim.param_groups:
                group["lr"] = LR * (1 + math.cos(math.pi * spent)) / 2
            optim.zero_grad()
            loss(model(moved(batch)), wanted).backward()
            optim.step()
            steps += 1


def moved(pictures: object) -> object:
    """Each turned, scaled, sheared and shifted on its own, all in one warp; beyond is paper."""
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    n = len(pictures)
    turn, shear = ((2 * torch.rand(n) - 1) * math.radians(most) for most in (15, 10))
    scale = 0.85 + 0.3 * torch.rand(n)
    rows = torch.stack(
        [
            torch.stack([turn.cos(), shear - turn.sin(), 0.2 * torch.rand(n) - 0.1], 1),
            torch.stack([turn.sin(), turn.cos(), 0.2 * torch.rand(n) - 0.1], 1),
        ],
        1,
    )
    rows[:, :, :2] /= scale[:, None, None]
    grid = affine_grid(rows, list(pictures.shape), align_corners=False)
    return grid_sample(pictures, grid, align_corners=False)


# --- the comparison ------------------------------------------------------------------------------


def kept(path: Path, key: dict, make: Callable[[], tuple[FiveNames, float]]) -> dict:
    """Answers from an earlier run with the same key, or new ones."""
    if path.is_file():
        old = json.loads(path.read_text())
        if old["key"] == key:
            return old
    names, seconds = make()
    result = {"key": key, "seconds": seconds, "names": names}
    path.write_text(json.dumps(result))
    return result


def timed(make: Callable[[], FiveNames]) -> tuple[FiveNames, float]:
    """Answers and the seconds they took."""
    started = time.monotonic()
    return make(), time.monotonic() - started


def answers(data: Data, arguments: argparse.Namespace) -> dict[str, dict]:
    """The answers of every contender that can run."""
    held, out = data.held, arguments.out
    out.mkdir(parents=True, exist_ok=True)
    rows = [*data.images[held.seen], "", *data.images[held.asked], "", *held.truth]
    key = {"hold_out": zlib.crc32(" ".join(map(str, rows)).encode())}
    options = options_of(arguments.option)
    mine = kept(
        out / "foveal.json",
        {**key, "options": options},
        lambda: foveal(data, out / "foveal", options),
    )
    print(f"foveal took {mine['seconds']:.0f} s", flush=True)
    seconds = mine["seconds"] if arguments.minutes is None else 60 * arguments.minutes
    inner = [data.inner(chosen) for chosen in INNER]
    rivals: dict[str, tuple[Sequence[str], dict, Callable[[], FiveNames]]] = {
        "always new": ((), key, lambda: always_new(data)),
        "pixels": ((), key, lambda: retrieved(data, inner, lambda s, a: (flat(s), flat(a)))),
        "whitened": (("sklearn",), key, lambda: retrieved(data, inner, whitened)),
        "arcface": (
            ("pytorch_metric_learning", "timm"),
            {**key, "seconds": seconds, "margin": MARGIN, "scale": SCALE},
            lambda: arcface(data, seconds),
        ),
    }
    found = {"foveal": mine}
    for name, (needs, its_key, make) in rivals.items():
        missing = [module for module in needs if find_spec(module) is None]
        if missing:
            print(f"{name:10} skipped: {', '.join(missing)} is not installed")
            continue
        path = out / f"{name.replace(' ', '_')}.json"
        found[name] = kept(path, its_key, lambda make=make: timed(make))
    return found


METRIC = MapAtK(PLACES)


def tally(names: FiveNames, truth: np.ndarray, *, of_known: bool) -> np.ndarray:
    """The precision of every query, or of every known one without "new" in its answer."""
    rows = [[n for n in row if n != NEW] if of_known else row for row in names]
    table = np.array([[*row, *[""] * PLACES][:PLACES] for row in rows])
    n = len(truth)
    what = Truth(
        target=truth, weight=np.ones(n), group=np.arange(n), fold=np.zeros(n, dtype=np.int64)
    )
    tallies = METRIC.tally(table, what)
    return tallies[truth != NEW] if of_known else tallies


def show(found: dict[str, dict], truth: np.ndarray, *, of_known: bool) -> bool:
    """Print the scores of all; whether foveal is above every rival."""
    print(f"\nMAP@{PLACES} of {'known' if of_known else 'all'} queries")
    tallies = {name: tally(f["names"], truth, of_known=of_known) for name, f in found.items()}
    mine = tallies["foveal"]
    draws = METRIC.value(resampled_sums(mine))
    is_above = True
    for name, its in tallies.items():
        value = float(METRIC.value(its.sum(axis=0)))
        low, high = bootstrap(METRIC, its, np.arange(len(its)))
        words = f"  {name:10} {value:.3f} ({low:.3f} to {high:.3f})"
        if name != "foveal":
            gap = float(METRIC.value(mine.sum(axis=0))) - value
            low, high = np.quantile(draws - METRIC.value(resampled_sums(its)), [0.025, 0.975])
            words += f"   foveal {gap:+.3f} ({low:+.3f} to {high:+.3f})"
            words += ", contains 0" if low <= 0 <= high else ""
            is_above &= gap > 0
        print(words)
    return is_above


def main() -> int:
    """Run or read every contender and print the verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("out/omniglot"))
    parser.add_argument("--option", action="append", default=[], help="name=value of the recipe")
    parser.add_argument("--minutes", type=float, help="the ArcFace's training, else foveal's time")
    arguments = parser.parse_args()
    folder = arguments.data / "omniglot_reid"
    if not folder.is_dir():
        print(f"skipped: {folder} is not there (see --data)")
        return 0
    data = read(folder)
    truth = data.held.truth
    known = int((truth != NEW).sum())
    print(
        f"{len(data.held.seen)} of {len(data.names)} drawings to learn from; {len(truth)} queries, "
        f"{known} known and {len(truth) - known} new ({(len(truth) - known) / len(truth):.0%})",
        flush=True,
    )
    found = answers(data, arguments)
    print("\nseconds  " + ", ".join(f"{name} {f['seconds']:.0f}" for name, f in found.items()))
    are_met = True
    for of_known, what in ((False, "all queries"), (True, "known queries")):
        is_met = show(found, truth, of_known=of_known)
        are_met &= is_met
        verdict = "MET    " if is_met else "NOT MET"
        print(f"{verdict}  foveal above {len(found) - 1} rivals in MAP@{PLACES} of {what}")
    return 0 if are_met else 1


if __name__ == "__main__":
    raise SystemExit(main())
