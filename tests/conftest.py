"""Small real inputs that several tests share."""

from pathlib import Path

import numpy as np
import pytest
import torch

from foveal.manifest import Truth
from foveal.simulate.retina import Faults, simulate_retina
from foveal.stages.open import Opened
from foveal.stages.split import split_of
from foveal.task import Job, Resources

FAST = {
    "size": 32,
    "epochs": 2,
    "batch": 8,
    "folds": 3,
    "trees": 8,
    "backbone": "mobilenetv3_small_050",
    "views": "centre",
}
"""Options that make `grade:small` take a second a training."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--data", default="../shared/data", help="folder of real images")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Compute as jobs do, so that tests side by side do not wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data(request: pytest.FixtureRequest) -> Path:
    folder = Path(request.config.getoption("--data"))
    if not folder.is_dir():
        pytest.skip(f"no real images in {folder}; say where they are with --data DIR")
    return folder


@pytest.fixture(scope="session")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Arguments of `init` for 36 small simulated photographs, some of them twice."""
    folder = tmp_path_factory.mktemp("eyes")
    faults = Faults(duplicates=0.1)
    return simulate_retina(folder, cases=36, size=48, seed=3, faults=faults)


def truth_of(target: np.ndarray, weight: np.ndarray | None = None, folds: int = 5) -> Truth:
    """A truth whose cases are their own groups."""
    n = len(target)
    return Truth(
        target=target,
        weight=np.ones(n) if weight is None else weight,
        group=np.arange(n),
        fold=np.arange(n) % folds,
    )


def job_of(opened: Opened, folder: Path) -> Job:
    """The training of any member without the first fold."""
    made = split_of(opened)
    return Job(
        key=(0, 0),
        cases=opened.manifest.cases(),
        train=np.flatnonzero(made.learns(0)),
        held=np.flatnonzero(made.fold == 0),
        target=opened.recipe.target.train(opened.target),
        weight=opened.manifest.weight,
        group=made.group,
        judge=lambda predictions: float(predictions.values.mean()),
        folder=folder,
        mark="m",
        resources=Resources(cache=opened.study.cache_folder / "t"),
        report=lambda event: None,
    )
