"""The best threshold of a mask: ours against Nelder-Mead over quantile and F-beta, 2e7 pixels.

The rival is what competition code does: a simplex over the share of foreground, each step one
`np.quantile` and one F-beta over all pixels. Scores are float32, a tenth of the pixels is ink.
Goal: exact (the best of all thresholds, by sorting), at least 80 x as fast. Three minutes::

    python bench/share.py [--pixels 20000000] [--rounds 2]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize

from foveal.decide.sweep import best_threshold

BETA = 0.5
GOAL = 80


def map_of_ink(pixels: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores and ink of that many pixels."""
    rng = np.random.default_rng(seed)
    ink = rng.random(pixels, dtype=np.float32) < 0.1
    logit = rng.normal(-2.5, 1.5, pixels).astype(np.float32) + 2.2 * ink
    return 1 / (1 + np.exp(-logit)), ink


def f_beta(given: np.ndarray, ink: np.ndarray) -> float:
    hit = np.count_nonzero(given & ink)
    return (1 + BETA**2) * hit / (BETA**2 * np.count_nonzero(ink) + np.count_nonzero(given))


def nelder_mead(scores: np.ndarray, ink: np.ndarray) -> float:
    def loss(share: np.ndarray) -> float:
        threshold = np.quantile(scores, float(np.clip(share[0], 0, 1)))
        return -f_beta(scores > threshold, ink)

    return -float(minimize(loss, [0.5], method="Nelder-Mead").fun)


def by_sorting(scores: np.ndarray, ink: np.ndarray) -> float:
    """The best of all thresholds, every pixel sorted."""
    order = np.argsort(-scores, kind="stable")
    hit, size = np.cumsum(ink[order]), np.arange(1, len(scores) + 1)
    values = (1 + BETA**2) * hit / (BETA**2 * hit[-1] + size)
    falls = scores[order]
    values[:-1][falls[:-1] == falls[1:]] = 0
    return float(values.max())


def timed(call: Callable[[], float]) -> tuple[float, float]:
    started = time.process_time()
    value = call()
    return time.process_time() - started, value


def main() -> int:
    """Run all in turn and print the verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pixels", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    scores, ink = map_of_ink(options.pixels)
    whole = [(scores, ink, np.ones(options.pixels, dtype=bool))]
    ways = {
        "ours": lambda: best_threshold(whole, beta=BETA).value,
        "Nelder-Mead": lambda: nelder_mead(scores, ink),
        "one argsort": lambda: by_sorting(scores, ink),
    }
    seconds, values = dict.fromkeys(ways, np.inf), {}
    for _ in range(options.rounds):
        for name, way in ways.items():
            took, values[name] = timed(way)
            seconds[name] = min(seconds[name], took)
    print(f"{options.pixels:,} pixels")
    for name in ways:
        print(f"  {name:14}{seconds[name] / seconds['ours']:8.1f} x ours   F0.5 {values[name]:.7f}")
    is_exact = abs(values["ours"] - values["one argsort"]) < 1e-12
    gain = seconds["Nelder-Mead"] / seconds["ours"]
    print(f"{'MET' if is_exact else 'NOT MET':8} equal to the best of all thresholds")
    print(f"{'MET' if gain >= GOAL else 'NOT MET':8} at least {GOAL} x Nelder-Mead: {gain:.0f}")
    return 0 if is_exact and gain >= GOAL else 1


if __name__ == "__main__":
    raise SystemExit(main())
