"""Scoring a plane: a few large crops, and small windows, against MONAI's sliding window.

A 2.5-D network is trained on two simulated fragments of a scroll and scores a third one that it has
not seen, in every way in turn, on one thread; the plane is as wide as a piece of a real one. So are
several, each with fragments of its own: which way is better by some thousandths differs. MONAI's
windows of 256 pixels lie 32 apart, with Gaussian weights, one at a time (eight at once take 1.7
times as long on a CPU); the lattice's scores are what it adds up, as ours does. Large crops are
those of the recipe, seen once, twice, three and four times, in its layout (channels last), MONAI's
windows as they come. F0.5 is that of the best threshold for each way. Our own windows are looked at
in a corner of the plane, beside bare forwards, which cut the same and add up nothing.

Goals, on average over networks: large crops at least 20 x as fast as MONAI at an F0.5 that is not
lower; small windows within 5 % of the bare forwards. Half an hour a network, with the rivals
installed::

    .venv-rivals/bin/python bench/dense.py [--networks 3] [--side 2048] [--option name=value]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from foveal import stages
from foveal.cli.words import options_of
from foveal.decide.sweep import best_threshold
from foveal.lattice import planes_of
from foveal.losses.overlap import foreground
from foveal.manifest import Case, Window
from foveal.members.segmenter import Segmenter
from foveal.members.volumes import StoredVolumes
from foveal.models.folded import folded
from foveal.simulate.scroll import simulate_scroll
from foveal.stages.split import open_split
from foveal.task import Context, Job, Resources, State
from foveal.train.batches import quiet_libraries
from foveal.transforms.tiles import Windows, hann

WINDOW, STRIDE = 256, 32
OPTIONS = {"size": WINDOW, "lattice": 16, "epochs": 10, "crops": 160, "folds": 2}
SPEED, OVERHEAD = 20, 1.05
MONAI = "MONAI"
CROPS = {f"crops, seen {n} x": n for n in (1, 2, 3, 4)}

CORNER = Window(top=0, left=0, height=768, width=768)
"""Where our own windows are looked at."""

Way = Callable[[], np.ndarray]
"""Gives the plane of scores."""


def trained(folder: Path, options: dict) -> tuple[Segmenter, Job, State]:
    """A network that learned from all fragments of a table but the last, which it is to score."""
    study = stages.init(
        folder / "study",
        recipe="segment:small",
        table=folder / "volumes.csv",
        target="mask",
        options=options,
        context=Context(device="cpu"),
    )
    stages.split(study, Context(slots=()))
    opened, made = open_split(study)
    (member,) = [m for m in opened.recipe.members if m.name == "network"]
    last = len(opened.manifest) - 1
    job = Job(
        key=(0, 0),
        cases=opened.manifest.cases(),
        train=np.arange(last),
        held=np.array([last]),
        target=opened.recipe.target.train(opened.target),
        weight=opened.manifest.weight,
        group=made.group,
        judge=lambda predictions: float("nan"),
        folder=folder / "job",
        mark="bench",
        resources=Resources(cache=folder / "cache"),
        report=lambda event: print(f"  {event['note']}") if "note" in event else None,
    )
    return member, job, member.fit(job)


def ways(member: Segmenter, job: Job, state: State) -> dict[str, Way]:
    """Every way to score the last fragment."""
    lattice, case = member.network.lattice, job.cases[job.held[0]]
    volume = StoredVolumes(member.network.slices, bits=member.training.bits)(case, job.resources)
    step = int(state.notes["dense_step"])
    model = folded(member._restored(state)).eval()  # the very network that ours asks, for all
    shape = (CORNER.height // lattice, CORNER.width // lattice)

    def ours(how: Segmenter, step: int, case: Case = case) -> np.ndarray:
        (said,) = how.score(
            [replace(state, notes={**state.notes, "dense_step": step})],
            [case],
            np.array([0]),
            job.resources,
        )
        return np.asarray(next(iter(said.arrays()))[1])

    windows = replace(member, windows=Windows(WINDOW // lattice, STRIDE // lattice, hann))
    plan = member.dense
    assert plan is not None  # the recipe's own
    crops = {name: replace(plan, phases=n) for name, n in CROPS.items()}
    found: dict[str, Way] = {
        "windows": lambda: ours(windows, 0, replace(case, window=CORNER)),
        "bare forwards": lambda: bare(windows, job, model, volume.values, shape),
        **{
            name: (lambda plan=plan: ours(replace(member, dense=plan), step))
            for name, plan in crops.items()
        },
    }
    if find_spec("monai") is None:
        print("MONAI skipped: it is not installed")
        return found
    found[MONAI] = lambda: monai(model, volume.values)
    return found


@torch.inference_mode()
def bare(
    member: Segmenter,
    job: Job,
    model: torch.nn.Module,
    values: np.ndarray,
    shape: tuple[int, int],
) -> np.ndarray:
    """The forwards of the same windows, in the same layout; what they give is thrown away."""
    lattice, batch = member.network.lattice, member.training.batch
    evaluate = member._evaluate(model, job.resources)
    (cover,) = member.windows(*shape)
    starts = cover.starts.astype(int) * lattice
    for k in range(0, len(starts), batch):
        cut = [values[r : r + WINDOW, c : c + WINDOW] for r, c in starts[k : k + batch]]
        windows = np.stack([np.moveaxis(w, 2, 0).astype(np.float32) for w in cut])
        evaluate(torch.from_numpy(windows))
    return np.zeros(shape)


@torch.inference_mode()
def monai(model: torch.nn.Module, values: np.ndarray) -> np.ndarray:
    """The sliding window as its users call it."""
    from monai.inferers import sliding_window_inference

    plane = torch.from_numpy(np.moveaxis(values, 2, 0).astype(np.float32))[None]
    return sliding_window_inference(
        plane,
        (WINDOW, WINDOW),
        1,
        lambda windows: foreground(model(windows))[:, None],
        overlap=1 - STRIDE / WINDOW,
        mode="gaussian",
    )[0, 0].numpy()


@dataclass(slots=True)
class Seen:
    """What each way took, and how good it was, on one network.

    Attributes:
        seconds: Of the quickest round.
        score: F0.5 of the best threshold.
    """

    seconds: dict[str, float]
    score: dict[str, float]

    def times(self, name: str) -> float:
        """How many times as fast as MONAI."""
        return self.seconds[MONAI] / self.seconds[name]


def compared(folder: Path, side: int, seed: int, rounds: int, options: dict) -> Seen:
    """Train a network on two fragments, and score the third in every way in turn."""
    simulate_scroll(folder, height=side, width=side, seed=seed)
    member, job, state = trained(folder, {**OPTIONS, **options, "seed": seed})
    lattice, case = member.network.lattice, job.cases[job.held[0]]
    truth = planes_of([case], [str(job.target[job.held[0]])], lattice)
    inside = truth.area[0] > 0

    def f_half(plane: np.ndarray) -> float:
        cells = (plane[inside], truth.positive[0][inside], truth.area[0][inside])
        return best_threshold([cells], beta=0.5).value

    contenders = ways(member, job, state)
    seen = Seen(dict.fromkeys(contenders, np.inf), {})
    for _ in range(rounds):
        for name, way in contenders.items():
            started = time.process_time()
            plane = way()
            seen.seconds[name] = min(seen.seconds[name], time.process_time() - started)
            seen.score[name] = f_half(plane) if plane.shape == inside.shape else float("nan")
    print(f"network {seed}: {side} x {side} pixels, {member.network.slices} slices, 1/{lattice}")
    return seen


def main() -> int:
    """Train, score in turn, and print the verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=2048, help="of a fragment, in pixels")
    parser.add_argument("--networks", type=int, default=3, help="each with fragments of its own")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--option", action="append", default=[], help="name=value of the recipe")
    parser.add_argument("--out", type=Path, help="kept; a temporary folder if left out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    quiet_libraries()
    folder = arguments.out or Path(tempfile.mkdtemp())
    seen = []
    for seed in range(arguments.networks):
        of = (folder / f"{seed}", arguments.side, seed, arguments.rounds)
        seen.append(compared(*of, options_of(arguments.option)))
        if MONAI not in seen[-1].seconds:
            return 0
        for name in (*CROPS, MONAI):
            gain, score = seen[-1].times(name), seen[-1].score[name]
            print(f"  {name:18} {gain:6.1f} x as fast as MONAI   F0.5 {score:.4f}", flush=True)
    fast = []
    for name in CROPS:
        gain = float(np.mean([one.times(name) for one in seen]))
        above = [one.score[name] - one.score[MONAI] for one in seen]
        each = ", ".join(f"{x:+.4f}" for x in above)
        print(f"  {name:18} {gain:6.1f} x on average       F0.5 {np.mean(above):+.4f} ({each})")
        fast += [name] if gain >= SPEED and np.mean(above) >= 0 else []
    overhead = max(one.seconds["windows"] / one.seconds["bare forwards"] for one in seen)
    print(f"{'MET' if fast else 'NOT MET':8} {SPEED} x as fast, F0.5 no lower: {', '.join(fast)}")
    is_lean = overhead <= OVERHEAD
    print(f"{'MET' if is_lean else 'NOT MET':8} windows are at most {overhead:.3f} bare forwards")
    return 0 if fast and is_lean else 1


if __name__ == "__main__":
    raise SystemExit(main())
