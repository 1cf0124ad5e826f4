"""Labels of unseen pictures: the chosen row against picture features and trees, and fastai.

A grouped quarter of each real set is held out and used for no choice: red blood cells (11 labels)
and coffee leaves (4). On the rest `multilabel:small` runs as a user would run it. The rivals: extra
trees on the same hand-made features, given where a tree says more than a half; and a fastai learner
of the same backbone from scratch for the same wall time, with its usual augmentation, one random
validation fifth, and the best one of 19 common thresholds on it. Printed: macro F1 on the held-out
quarter and the paired group-bootstrap interval of each difference. Goal: the chosen row above both
on both sets. Resumable: a finished set is read from `--out`. An hour::

    .venv-rivals/bin/python bench/cells.py [--data ../shared/data] [--outer 1] [--set NAME]
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from foveal.manifest import Case, Truth
from foveal.metrics.interval import group_sums, resampled_sums
from foveal.metrics.overlap import MacroF1
from foveal.models.features import PictureFeatures
from foveal.read.image import Photograph
from foveal.split import balanced_folds
from foveal.split.record import NONE
from foveal.stages.open import open_study
from foveal.study import Study
from foveal.transforms.augment import Prepare

SETS = {
    "chula_rbc": (
        *("normal", "macrocyte", "microcyte", "spherocyte", "target", "stomatocyte", "ovalocyte"),
        *("teardrop", "burr", "schistocyte", "hypochromia"),
    ),
    "coffee_leaf": ("miner", "rust", "phoma", "cercospora"),
}
GROUP = "block"
QUARTERS = 4
THRESHOLDS = np.arange(1, 20) / 20

Rows = list[dict[str, str]]


def read(path: Path) -> Rows:
    """The rows of a table."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: Rows) -> None:
    """Write rows as a table."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def labels_of(rows: Rows, names: tuple[str, ...]) -> np.ndarray:
    return np.array([[row[name] == "1" for name in names] for row in rows])


def groups_of(rows: Rows) -> np.ndarray:
    return np.unique([row[GROUP] for row in rows], return_inverse=True)[1].reshape(-1)


def quarters(rows: Rows, names: tuple[str, ...]) -> np.ndarray:
    """The outer quarter of every row; groups stay whole."""
    strata = np.where(labels_of(rows, names), 0, NONE)
    return balanced_folds(groups_of(rows), strata, folds=QUARTERS, seed=7)


def foveal(*tokens: object) -> None:
    """Run one command line of ours."""
    command = [sys.executable, "-m", "foveal.cli", *map(str, tokens), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def ours(folder: Path, images: str, names: tuple[str, ...]) -> tuple[float, np.ndarray]:
    """Wall seconds of a whole run, and the labels of the chosen row."""
    shutil.rmtree(folder / "study", ignore_errors=True)  # one that was stopped would end sooner
    started = time.monotonic()
    study, target = folder / "study", ",".join(names)
    where = ["--table", folder / "seen.csv", "--images", images, "--target", target]
    foveal("init", study, "--recipe", "multilabel:small", *where, "--group", GROUP)
    foveal("run", study)
    seconds = time.monotonic() - started
    out = folder / "answer.csv"
    foveal("predict", study, "--table", folder / "unseen.csv", "--images", images, "--out", out)
    return seconds, labels_of(read(out), names)


def trees(folder: Path, images: Path, names: tuple[str, ...]) -> np.ndarray:
    """Extra trees on hand-made features of pictures of 256 x 256."""
    from sklearn.ensemble import ExtraTreesClassifier

    look, size, describe = Photograph(), Prepare(height=256, width=256), PictureFeatures()

    def table(rows: Rows) -> np.ndarray:
        cases = (Case(id=row["image"], paths=(str(images / row["image"]),)) for row in rows)
        return np.stack([describe(size(look(case))) for case in cases])

    seen, unseen = (read(folder / name) for name in ("seen.csv", "unseen.csv"))
    forest = ExtraTreesClassifier(500, min_samples_leaf=2, n_jobs=2, random_state=0)
    return forest.fit(table(seen), labels_of(seen, names)).predict(table(unseen)) > 0


def fastai(folder: Path, images: Path, names: tuple[str, ...], seconds: float) -> np.ndarray:
    """A fastai learner trained from scratch for as long as our run took."""
    import pandas
    from fastai.vision.all import (
        Callback,
        CancelFitException,
        ColReader,
        DataBlock,
        ImageBlock,
        MultiCategoryBlock,
        RandomSplitter,
        Resize,
        accuracy_multi,
        aug_transforms,
        vision_learner,
    )

    class Clock(Callback):
        """Stops when the time is over."""

        def after_batch(self) -> None:
            """Look at the clock."""
            if time.monotonic() - started > seconds:
                raise CancelFitException

    block = DataBlock(
        blocks=(ImageBlock, MultiCategoryBlock(encoded=True, vocab=list(names))),
        get_x=ColReader("image", pref=str(images) + "/"),
        get_y=ColReader(list(names)),
        splitter=RandomSplitter(0.2, seed=0),
        item_tfms=Resize(160),
        batch_tfms=aug_transforms(size=112, flip_vert=True),
    )
    loaders = block.dataloaders(pandas.read_csv(folder / "seen.csv"), bs=32, num_workers=0)
    network = open_study(Study(folder / "study")).recipe.members[-1].training.backbone.name
    learner = vision_learner(loaders, network, pretrained=False, metrics=accuracy_multi)
    learner.unfreeze()
    started = time.monotonic()
    with learner.no_bar(), learner.no_logging():
        learner.fit(1, 1e-3)
        epoch = time.monotonic() - started
        left = max(1, int((seconds - epoch) / epoch))
        learner.fit_one_cycle(left, 3e-3, cbs=[Clock()])
    shares, truth = learner.get_preds()
    cut = max(THRESHOLDS, key=lambda t: macro_f1(shares.numpy() >= t, truth.numpy() > 0))
    shares, _ = learner.get_preds(dl=loaders.test_dl(pandas.read_csv(folder / "unseen.csv")))
    return shares.numpy() >= cut


def macro_f1(given: np.ndarray, true: np.ndarray) -> float:
    tally = MacroF1().tally(given, truth_of(true, np.arange(len(true))))
    return float(MacroF1().value(tally.sum(axis=0)))


def truth_of(true: np.ndarray, group: np.ndarray) -> Truth:
    n = len(true)
    return Truth(target=true, weight=np.ones(n), group=group, fold=np.zeros(n, dtype=np.int64))


def compare(truth: Truth, mine: np.ndarray, other: np.ndarray) -> tuple[float, str]:
    """The gap in macro F1, and words with its interval."""
    metric = MacroF1()
    tallies = [metric.tally(given, truth) for given in (mine, other)]
    values = [float(metric.value(t.sum(axis=0))) for t in tallies]
    draws = [metric.value(resampled_sums(group_sums(t, truth.group))) for t in tallies]
    low, high = np.nanquantile(draws[0] - draws[1], [0.025, 0.975])
    gap = values[0] - values[1]
    return gap, f"{values[0]:.3f} - {values[1]:.3f} = {gap:+.3f} ({low:+.3f} to {high:+.3f})"


def run(name: str, quarter: int, data: Path, out: Path) -> bool:
    """One set with one quarter held out; whether the chosen row is above both."""
    names, rows = SETS[name], read(data / name / "labels.csv")
    outer = quarters(rows, names)
    folder = out / f"{name}-{quarter}"
    folder.mkdir(parents=True, exist_ok=True)
    unseen = [row for row, q in zip(rows, outer, strict=True) if q == quarter]
    write(folder / "seen.csv", [row for row, q in zip(rows, outer, strict=True) if q != quarter])
    write(folder / "unseen.csv", unseen)
    result = folder / "result.json"
    if not result.is_file():
        images = data.absolute() / name / "images"
        seconds, chosen = ours(folder, str(images / "{image}"), names)
        told = {
            "chosen": chosen,
            "trees": trees(folder, images, names),
            "fastai": fastai(folder, images, names, seconds),
        }
        said = {who: given.astype(int).tolist() for who, given in told.items()}
        result.write_text(json.dumps({"seconds": seconds, **said}))
    got = json.loads(result.read_text())
    truth = truth_of(labels_of(unseen, names), groups_of(unseen))
    chosen, *others = (np.array(got[who]) > 0 for who in ("chosen", "trees", "fastai"))
    print(f"{name} quarter {quarter}: {len(unseen)} pictures, run {got['seconds']:.0f} s")
    is_above = True
    for who, given in zip(("trees", "fastai"), others, strict=True):
        gap, words = compare(truth, chosen, given)
        is_above &= gap > 0
        print(f"  chosen - {who:7} {words}", flush=True)
    return is_above


def main() -> int:
    """Run or read every set and print the verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("out/cells"))
    parser.add_argument("--outer", type=int, default=1, help="quarters held out in turn, 1 to 4")
    parser.add_argument("--set", choices=[*SETS, ""], default="")
    arguments = parser.parse_args()
    verdicts = []
    for name in [arguments.set] if arguments.set else list(SETS):
        if not (arguments.data / name).is_dir():
            print(f"{name} skipped: {arguments.data / name} is not there (see --data)")
            continue
        verdicts += [
            run(name, quarter, arguments.data, arguments.out) for quarter in range(arguments.outer)
        ]
    if verdicts:
        print(f"{'MET' if all(verdicts) else 'NOT MET':8} the chosen row above both, everywhere")
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    raise SystemExit(main())
