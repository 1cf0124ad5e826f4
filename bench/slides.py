"""Grades of unseen slides: the chosen row against features without a choice of tiles.

Every slide is graded by models that never saw it or its group: the set is cut into four quarters of
whole groups, and on the rest of each `slide:small` runs as a user would run it. The rivals get the
same slides: extra trees on hand-made features of the whole slide, small (`whole`), and on the mean
features of all tiles of the slide, glass and all, at full resolution (`all tiles`); their cuts are
closed-form ones on grouped cross-validated scores, as ours are. Sets: real tissue with a made
grade, and simulated biopsies. Printed: quadratic kappa of all quarters together, and the paired
group-bootstrap interval of each difference. Goal: the chosen row above both. Resumable: a finished
quarter is read from `--out`. An hour::

    .venv/bin/python bench/slides.py [--data ../shared/data] [--set NAME]
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

from foveal.decide.thresholds import ClosedFormCuts
from foveal.manifest import Truth
from foveal.metrics.interval import group_sums, resampled_sums
from foveal.metrics.kappa import quadratic_kappa
from foveal.models.features import PictureFeatures
from foveal.predictions import Predictions
from foveal.read.slide import open_slide, overview
from foveal.simulate.biopsy import simulate_biopsy
from foveal.split import balanced_folds
from foveal.transforms.augment import resize

QUARTERS = 4
TILE = 128
RIVALS = ("whole", "all tiles")

Rows = list[dict[str, str]]


def monuseg(data: Path, out: Path) -> tuple[Rows, dict[str, str]]:
    """Real tissue: its rows, and what its columns mean."""
    folder = data.absolute() / "monuseg_slides"
    words = {"id": "image", "group": "primary_source", "images": f"{folder}/images/{{image}}"}
    return read(folder / "labels.csv"), words


def biopsies(data: Path, out: Path) -> tuple[Rows, dict[str, str]]:
    """Simulated biopsies, made once."""
    folder = out.absolute() / "biopsies"
    if not (folder / "labels.csv").is_file():
        simulate_biopsy(folder, cases=80, seed=5)
    words = {"id": "id", "group": "patient", "images": f"{folder}/slides/{{id}}.tiff"}
    return read(folder / "labels.csv"), words


SETS = {"monuseg_slides": monuseg, "biopsies": biopsies}


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


def grades(rows: Rows) -> np.ndarray:
    return np.array([int(row["grade"]) for row in rows])


def groups(rows: Rows, words: dict[str, str]) -> np.ndarray:
    return np.unique([row[words["group"]] for row in rows], return_inverse=True)[1].reshape(-1)


def truth_of(rows: Rows, words: dict[str, str], fold: np.ndarray | None = None) -> Truth:
    group = groups(rows, words)
    fold = np.zeros(len(rows), dtype=np.int64) if fold is None else fold
    return Truth(target=grades(rows), weight=np.ones(len(rows)), group=group, fold=fold)


def foveal(*tokens: object) -> None:
    """Run one command line of ours."""
    command = [sys.executable, "-m", "foveal.cli", *map(str, tokens), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def ours(folder: Path, words: dict[str, str], seen: Rows, unseen: Rows) -> tuple[float, list[int]]:
    """Wall seconds of a whole run, and the grades of the chosen row."""
    shutil.rmtree(folder / "study", ignore_errors=True)  # one that was stopped would end sooner
    started = time.monotonic()
    write(folder / "seen.csv", seen)
    write(folder / "unseen.csv", unseen)
    where = ["--table", folder / "seen.csv", "--images", words["images"], "--target", "grade"]
    roles = ["--id", words["id"], "--group", words["group"], "--site", "provider"]
    foveal("init", folder / "study", "--recipe", "slide:small", *where, *roles)
    foveal("run", folder / "study")
    seconds, out = time.monotonic() - started, folder / "answer.csv"
    where = ["--table", folder / "unseen.csv", "--images", words["images"], "--out", out]
    foveal("predict", folder / "study", *where)
    return seconds, grades(read(out)).tolist()


def whole(path: str) -> np.ndarray:
    """Features of all of a slide, made small."""
    with open_slide(path) as slide:
        return PictureFeatures()(resize(overview(slide, 512), 256, 256))


def all_tiles(path: str) -> np.ndarray:
    """The mean features of all tiles of the largest level."""
    describe, found = PictureFeatures(thumbnail=0, grid=1), []
    with open_slide(path) as slide:
        largest = slide.levels[0]
        for top in range(0, largest.height, TILE):
            for left in range(0, largest.width, TILE):
                found.append(describe(slide.read(0, top=top, left=left, height=TILE, width=TILE)))
    return np.mean(found, axis=0)


def described(rows: Rows, words: dict[str, str], out: Path) -> dict[str, np.ndarray]:
    """What the rivals see of every slide, made once."""
    tables = {}
    for name, describe in zip(RIVALS, (whole, all_tiles), strict=True):
        file = out / f"{name.replace(' ', '-')}.npy"
        if not file.is_file():
            np.save(file, np.stack([describe(words["images"].format(**row)) for row in rows]))
        tables[name] = np.load(file)
    return tables


def trees(x: np.ndarray, truth: Truth, out: np.ndarray) -> list[int]:
    """Extra trees and closed-form cuts."""
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.model_selection import GroupKFold, cross_val_predict

    forest = ExtraTreesRegressor(500, min_samples_leaf=2, n_jobs=2, random_state=0)
    y = truth.target.astype(float)
    inside = cross_val_predict(forest, x, y, groups=truth.group, cv=GroupKFold(5))
    cuts = ClosedFormCuts(int(truth.target.max()) + 1).fit(scored(inside), truth)
    return cuts(scored(forest.fit(x, y).predict(out))).tolist()


def scored(values: np.ndarray) -> Predictions:
    ids = [str(k) for k in range(len(values))]
    return Predictions.of(ids, values[:, None].astype(np.float32), columns=("expected",))


def compare(truth: Truth, mine: np.ndarray, other: np.ndarray) -> tuple[float, str]:
    """The gap in kappa, and words with its interval."""
    tallies = [quadratic_kappa.tally(given, truth) for given in (mine, other)]
    values = [float(quadratic_kappa.value(t.sum(axis=0))) for t in tallies]
    draws = [quadratic_kappa.value(resampled_sums(group_sums(t, truth.group))) for t in tallies]
    low, high = np.nanquantile(draws[0] - draws[1], [0.025, 0.975])
    gap = values[0] - values[1]
    return gap, f"{values[0]:.3f} - {values[1]:.3f} = {gap:+.3f} ({low:+.3f} to {high:+.3f})"


def run(name: str, data: Path, out: Path) -> bool:
    """One set; whether the chosen rows are above both rivals."""
    rows, words = SETS[name](data, out)
    quarter = balanced_folds(groups(rows, words), grades(rows)[:, None], folds=QUARTERS, seed=7)
    (out / name).mkdir(parents=True, exist_ok=True)
    tables = described(rows, words, out / name)
    given = {who: np.zeros(len(rows), dtype=np.int64) for who in ("chosen", *RIVALS)}
    minutes = []
    for q in range(QUARTERS):
        folder, held = out / name / str(q), np.flatnonzero(quarter == q)
        rest = np.flatnonzero(quarter != q)
        seen, unseen = ([rows[k] for k in part] for part in (rest, held))
        folder.mkdir(exist_ok=True)
        result = folder / "result.json"
        if not result.is_file():
            seconds, labels = ours(folder, words, seen, unseen)
            result.write_text(json.dumps({"seconds": seconds, "chosen": labels}))
        got = json.loads(result.read_text())
        minutes.append(got["seconds"] / 60)
        given["chosen"][held] = got["chosen"]
        for who in RIVALS:
            given[who][held] = trees(tables[who][rest], truth_of(seen, words), tables[who][held])
    truth = truth_of(rows, words)
    print(
        f"{name}: {len(rows)} slides, {len(set(truth.group.tolist()))} groups, runs of "
        f"{', '.join(f'{m:.0f}' for m in minutes)} min"
    )
    is_above = True
    for who in RIVALS:
        gap, said = compare(truth, given["chosen"], given[who])
        is_above &= gap > 0
        print(f"  chosen - {who:9} {said}", flush=True)
    return is_above


def main() -> int:
    """Run or read every set and print the verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("out/slides"))
    parser.add_argument("--set", choices=[*SETS, ""], default="")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    verdicts = []
    for name in [arguments.set] if arguments.set else list(SETS):
        if name == "monuseg_slides" and not (arguments.data / name).is_dir():
            print(f"{name} skipped: {arguments.data / name} is not there (see --data)")
            continue
        verdicts.append(run(name, arguments.data, arguments.out))
    if verdicts:
        print(f"{'MET' if all(verdicts) else 'NOT MET':8} the chosen row above both, everywhere")
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    raise SystemExit(main())
