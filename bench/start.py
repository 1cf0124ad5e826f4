"""Starting up: `import foveal` against `import numpy`, `foveal --help`, and the rivals' imports.

Every run is a fresh interpreter; rows run round-robin and the shortest run of each counts. The
rivals are imported by the interpreter that `--rivals` names, and compared with the training path of
ours, which needs torch.

Goals: `import foveal` at most 1.15 times `import numpy` and without torch, as are folds and cuts;
`foveal --help` in less than half a second. Under two minutes::

    python bench/start.py [--rivals .venv-rivals/bin/python]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

ROUNDS, HEAVY_ROUNDS = 15, 2
IMPORT_RATIO, HELP_SECONDS = 1.15, 0.5
DECISIONS = "import foveal.decide, foveal.split"
"""What a grade needs once there are scores."""
OURS = {
    "import numpy": ["-c", "import numpy"],
    "import foveal": ["-c", "import foveal"],
    DECISIONS: ["-c", DECISIONS],
    "foveal --help": ["-m", "foveal.cli", "--help"],
}
TRAINING = "import foveal.train"
RIVALS = ("fastai.vision.all", "monai", "lightning")


def run(command: list[str]) -> tuple[float, str]:
    """Seconds, and the last line of the errors if it failed."""
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    error = done.stderr.strip().splitlines() or ["failed"]
    return seconds, error[-1] if done.returncode else ""


def shortest(commands: dict[str, list[str]], rounds: int) -> dict[str, float]:
    """The shortest run of every command that works; the first round only warms the disk cache."""
    best = {}
    for name, command in commands.items():
        _, error = run(command)
        if error:
            print(f"{name:<36} skipped: {error}")
        else:
            best[name] = float("inf")
    for _ in range(rounds):
        for name in best:
            best[name] = min(best[name], run(commands[name])[0])
    return best


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rivals", type=Path, default=Path(".venv-rivals/bin/python"))
    rivals = parser.parse_args().rivals
    best = shortest({name: [sys.executable, *rest] for name, rest in OURS.items()}, ROUNDS)
    numpy = best["import numpy"]
    for name, seconds in best.items():
        print(f"{name:<36} {seconds / numpy:>6.2f} x import numpy")
    heavy = {TRAINING: [sys.executable, "-c", TRAINING]}
    if rivals.exists():
        heavy |= {f"import {name}": [str(rivals), "-c", f"import {name}"] for name in RIVALS}
    else:
        print(f"{'rivals':<36} skipped: {rivals} is not there (see --rivals)")
    for name, seconds in (slow := shortest(heavy, HEAVY_ROUNDS)).items():
        ratio = seconds / slow[TRAINING]
        print(f"{name:<36} {seconds / numpy:>6.1f} x import numpy, {ratio:.2f} x ours")
    brings_torch = {
        name: run([sys.executable, "-c", f"{name}, sys; sys.exit('torch' in sys.modules)"])[1]
        for name in ("import foveal", DECISIONS)
    }
    goals = {
        f"import foveal at most {IMPORT_RATIO} x": best["import foveal"] <= IMPORT_RATIO * numpy,
        **{f"{name} without torch": not torch for name, torch in brings_torch.items()},
        f"foveal --help under {HELP_SECONDS} s": best.get("foveal --help", 9) < HELP_SECONDS,
    }
    print()
    for goal, met in goals.items():
        print(f"{'met' if met else 'NOT MET':<8} {goal}")
    return 0 if all(goals.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
