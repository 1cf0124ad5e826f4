"""Unseen photographs: the chosen row against the floor alone and fastai of the same wall time.

A grouped quarter of each real set is held out and used for no choice. On the rest `grade:small`
runs as a user would run it; its chosen row and its floor member answer for the quarter. fastai then
trains the same backbone from scratch for the same wall time, with its usual augmentation, all flips
among it, and one random validation fifth, on which the closed-form cuts of its expected grade are
fitted. Printed: quadratic kappa on the held-out quarter and the paired group-bootstrap interval of
each difference. Goal: the chosen row above both on all three sets. Resumable: what a contender has
answered is read from `--out`; after a change of foveal, use another. An hour or two::

    .venv-rivals/bin/python bench/real_grades.py [--data ../shared/data] [--outer 1] [--set NAME]
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from foveal.decide.thresholds import ClosedFormCuts
from foveal.manifest import Truth
from foveal.metrics.interval import group_sums, resampled_sums
from foveal.metrics.kappa import quadratic_kappa
from foveal.predictions import Predictions
from foveal.split import balanced_folds
from foveal.stages.open import open_study
from foveal.study import Study

SETS = {
    "idrid_grade": ("grade", ""),
    "coffee_leaf": ("severity", "block"),
    "elpv_cells": ("grade", "block"),
}
QUARTERS = 4


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict[str, str]]) -> None:
    """Write rows as a table."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def quarters(rows: list[dict[str, str]], target: str, group: str) -> np.ndarray:
    """The outer quarter of every row; groups stay whole."""
    grade = np.array([int(row[target]) for row in rows])
    names = np.array([row[group] if group else row["image"] for row in rows])
    place = np.unique(names, return_inverse=True)[1]
    return balanced_folds(place, grade[:, None], folds=QUARTERS, seed=7)


def foveal(*tokens: object) -> None:
    """Run one command line of ours."""
    command = [sys.executable, "-m", "foveal.cli", *map(str, tokens), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def ours(folder: Path, images: str, target: str, group: str) -> dict:
    """Wall seconds of a whole run, and the grades of the chosen row and of the floor."""
    shutil.rmtree(folder / "study", ignore_errors=True)  # one that was stopped would end sooner
    more = ["--group", group] if group else []
    started = time.monotonic()
    study, table = folder / "study", folder / "seen.csv"
    where = ["--table", table, "--images", images]
    foveal("init", study, "--recipe", "grade:small", *where, "--target", target, *more)
    foveal("run", study)
    seconds = time.monotonic() - started
    answers = []
    for row in ("", "floor"):
        out = folder / f"answer-{row or 'chosen'}.csv"
        asked = ["--table", folder / "unseen.csv", "--images", images, "--out", out]
        foveal("predict", study, *asked, *(["--answer", row] if row else []))
        answers.append([int(line[target]) for line in read(out)])
    return {"seconds": seconds, "chosen": answers[0], "floor": answers[1]}


def backbone(folder: Path) -> str:
    """The name of the network that ours trained."""
    return open_study(Study(folder / "study")).recipe.members[-1].training.backbone.name


def fastai(folder: Path, images: Path, target: str, seconds: float) -> list[int]:
    """The grades of a fastai learner trained from scratch for as long as our run took."""
    import pandas
    from fastai.vision.all import (
        Callback,
        CancelFitException,
        CategoryBlock,
        ColReader,
        DataBlock,
        ImageBlock,
        RandomSplitter,
        Resize,
        accuracy,
        aug_transforms,
        vision_learner,
    )

    class Clock(Callback):
        """Stops when the time is over."""

        def after_batch(self) -> None:
            """Look at the clock."""
            if time.monotonic() - started > seconds:
                raise CancelFitException

    frame = pandas.read_csv(folder / "seen.csv")
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock),
        get_x=ColReader("image", pref=str(images) + "/"),
        get_y=ColReader(target),
        splitter=RandomSplitter(0.2, seed=0),
        item_tfms=Resize(160),
        batch_tfms=aug_transforms(size=112, flip_vert=True),
    )
    loaders = block.dataloaders(frame, bs=32, num_workers=0)
    learner = vision_learner(loaders, backbone(folder), pretrained=False, metrics=accuracy)
    learner.unfreeze()
    started = time.monotonic()
    steps_a_second = one_epoch(learner)
    epochs = max(1, int((seconds - (time.monotonic() - started)) * steps_a_second))
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(epochs, 3e-3, cbs=[Clock()])
    names = np.array([int(name) for name in loaders.vocab])
    shares, places = learner.get_preds()
    true = truth_of(names[places.numpy()], np.arange(len(places)))
    cuts = ClosedFormCuts(int(names.max()) + 1).fit(expected(shares.numpy() @ names), true)
    unseen = pandas.read_csv(folder / "unseen.csv")
    shares, _ = learner.get_preds(dl=loaders.test_dl(unseen))
    return cuts(expected(shares.numpy() @ names)).tolist()


def expected(values: np.ndarray) -> Predictions:
    ids = [str(k) for k in range(len(values))]
    return Predictions.of(ids, values[:, None].astype(np.float32), columns=("expected",))


def truth_of(target: np.ndarray, group: np.ndarray) -> Truth:
    n = len(target)
    return Truth(target=target, weight=np.ones(n), group=group, fold=np.zeros(n, dtype=np.int64))


def kept(file: Path, make: Callable[[], object]) -> Any:
    """What was made before, else what is made now."""
    if not file.is_file():
        file.write_text(json.dumps(make()))
    return json.loads(file.read_text())


def one_epoch(learner: object) -> float:
    """Epochs a second, from one."""
    started = time.monotonic()
    with learner.no_bar(), learner.no_logging():
        learner.fit(1, 1e-3)
    return 1 / (time.monotonic() - started)


def compare(target: list[int], group: list[str], mine: list[int], other: list[int]) -> str:
    """Kappa of both and the interval of the difference."""
    place = np.unique(np.array(group), return_inverse=True)[1]
    truth = truth_of(np.array(target), place)
    tallies = [quadratic_kappa.tally(np.array(x), truth) for x in (mine, other)]
    values = [float(quadratic_kappa.value(t.sum(axis=0))) for t in tallies]
    draws = [quadratic_kappa.value(resampled_sums(group_sums(t, place))) for t in tallies]
    low, high = np.nanquantile(draws[0] - draws[1], [0.025, 0.975])
    gap = values[0] - values[1]
    return f"{values[0]:.3f} - {values[1]:.3f} = {gap:+.3f} ({low:+.3f} to {high:+.3f})"


def run(name: str, quarter: int, data: Path, out: Path) -> bool:
    """One set with one quarter held out; whether the chosen row is above both."""
    target, group = SETS[name]
    rows = read(data / name / "labels.csv")
    outer = quarters(rows, target, group)
    folder = out / f"{name}-{quarter}"
    folder.mkdir(parents=True, exist_ok=True)
    seen = [row for row, q in zip(rows, outer, strict=True) if q != quarter]
    unseen = [row for row, q in zip(rows, outer, strict=True) if q == quarter]
    write(folder / "seen.csv", seen)
    write(folder / "unseen.csv", unseen)
    images = data.absolute() / name / "images"
    mine = partial(ours, folder, str(images / "{image}"), target, group)
    got = kept(folder / "ours.json", mine)
    rival = partial(fastai, folder, images, target, got["seconds"])
    got["fastai"] = kept(folder / "fastai.json", rival)
    truth = [int(row[target]) for row in unseen]
    groups = [row[group] if group else row["image"] for row in unseen]
    is_above = True
    for other in ("floor", "fastai"):
        words = compare(truth, groups, got["chosen"], got[other])
        is_above &= "= +" in words and "+0.000 (" not in words
        print(f"{name:12} quarter {quarter}  chosen - {other:6} {words}", flush=True)
    return is_above


def main() -> int:
    """Run or read every set and print the verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("out/real_grades"))
    parser.add_argument("--outer", type=int, default=1, help="quarters held out in turn, 1 to 4")
    parser.add_argument("--set", choices=[*SETS, ""], default="")
    arguments = parser.parse_args()
    names = [arguments.set] if arguments.set else list(SETS)
    verdicts = []
    for name in names:
        if not (arguments.data / name).is_dir():
            print(f"{name:12} skipped: {arguments.data / name} is not there (see --data)")
            continue
        for quarter in range(arguments.outer):
            verdicts.append(run(name, quarter, arguments.data, arguments.out))
    if verdicts:
        print(
            f"\n{'met    ' if all(verdicts) else 'NOT MET'}  the chosen row above both, everywhere"
        )
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    raise SystemExit(main())
