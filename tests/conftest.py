"""Small real inputs that several tests share, and what they ask of a study."""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from effects import digests
from foveal import stages
from foveal.manifest import Truth
from foveal.simulate.biopsy import simulate_biopsy
from foveal.simulate.cells import CHANNELS, simulate_cells
from foveal.simulate.flukes import simulate_flukes
from foveal.simulate.retina import Faults, simulate_retina
from foveal.stages.open import Opened, open_study
from foveal.stages.split import split_of
from foveal.study import Study
from foveal.task import Context, Job, Resources

INLINE = Context(slots=())
"""Jobs run in this process."""

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

NEW = "new_whale"

SWIM = {
    "new": NEW,
    "new_share": 0.4,
    "size": 32,
    "epochs": 2,
    "batch": 8,
    "folds": 3,
    "backbone": "test_resnet",
    "embedding": 16,
    "components": 8,
    "floor_size": "32x64",
}
"""Options that make `identify:small` take a second a training, with individuals to be hidden."""


INK = {
    "size": 32,
    "lattice": 4,
    "depth": 4,
    "group": 2,
    "crops": 8,
    "epochs": 1,
    "batch": 4,
    "folds": 2,
    "backbone": "test_resnet",
    "width": 8,
    "trees": 4,
}
"""Options that make `segment:small` take a second a training."""

CELLS = {
    "channels": ",".join(CHANNELS),
    "size": 32,
    "epochs": 2,
    "cycles": 2,
    "snapshots": 2,
    "batch": 8,
    "folds": 2,
    "backbone": "test_resnet",
    "views": "centre",
    "trees": 4,
    "words": 8,
}
"""Options that make `multilabel:small` take seconds a training, with snapshots."""

TISSUE = {
    "size": 32,
    "tiles": 9,
    "epochs": 1,
    "batch": 8,
    "folds": 2,
    "backbone": "test_resnet",
    "trees": 8,
}
"""Options that make `slide:small` take a second a training."""


APTOS_SIZES = (
    (0, 0, 1, 0, 1), (0, 0, 33, 5, 4), (279, 7, 1, 0, 0), (0, 2, 63, 9, 18), (901, 19, 39, 2, 13),
    (0, 0, 2, 0, 0), (10, 0, 0, 2, 2), (0, 13, 28, 1, 19), (0, 1, 22, 3, 2), (351, 0, 0, 0, 0),
    (31, 234, 233, 60, 80), (0, 0, 0, 1, 0), (0, 6, 3, 21, 4), (231, 44, 165, 47, 46),
    (2, 13, 307, 32, 56), (0, 13, 91, 6, 31), (0, 18, 11, 4, 19),
)  # fmt: skip
"""Photographs of grade 0 to 4 for each of the 17 picture sizes of APTOS 2019."""


def aptos() -> tuple[np.ndarray, np.ndarray]:
    cells = [(g, k, n) for g, row in enumerate(APTOS_SIZES) for k, n in enumerate(row)]
    group, grade, count = np.array(cells).T
    return np.repeat(group, count), np.repeat(grade, count)


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


@pytest.fixture(scope="session")
def flukes(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Arguments of `init` for some 40 small simulated photographs of whales, three of nobody."""
    folder = tmp_path_factory.mktemp("flukes")
    return simulate_flukes(folder, known=15, most=4, strangers=2, unknown=3, height=32, seed=3)


@pytest.fixture(scope="session")
def cells(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Arguments of `init` for 24 small simulated pictures of cells, some of them twice."""
    return simulate_cells(
        tmp_path_factory.mktemp("cells"), cases=24, size=40, seed=3, duplicates=0.2
    )


@pytest.fixture(scope="session")
def slides(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Arguments of `init` for 18 small simulated slides of two sites, b0011 blank; some masks."""
    folder = tmp_path_factory.mktemp("slides")
    size = {"height": 256, "width": 384}
    return simulate_biopsy(folder, cases=18, seed=5, grades=3, blanks=0.06, **size)


@pytest.fixture(scope="session")
def swum(tmp_path_factory: pytest.TempPathFactory, flukes: dict) -> Opened:
    """A study of whales with folds, nothing trained."""
    study = stages.init(
        tmp_path_factory.mktemp("swum") / "study", recipe="identify:small", options=SWIM, **flukes
    )
    stages.split(study, INLINE)
    return open_study(study)


def draw_scans(
    folder: Path,
    *,
    sizes: Sequence[tuple[int, int]],
    depths: Sequence[int],
    region: int | None = 0,
    seed: int = 0,
) -> dict:
    """Arguments of `init` for volumes of noise with bright blobs, called a, b, c, ...

    Args:
        folder: Where the table and the pictures are written.
        sizes: Height and width of the slices of each.
        depths: Slices of each.
        region: The one that counts in a part only; none does if None.
        seed: Of places and noise.
    """
    rng = np.random.default_rng(seed)
    lines = ["id,slices,mask" + ("" if region is None else ",region")]
    for k, ((height, width), depth) in enumerate(zip(sizes, depths, strict=True)):
        name = "abcdefgh"[k]
        mask = np.zeros((height, width), dtype=np.uint8)
        for x, y in rng.integers((8, 8), (width - 8, height - 8), (7, 2)).tolist():
            cv2.circle(mask, (x, y), int(rng.integers(5, 10)), 255, -1)
        bright = 80 + 0.4 * cv2.GaussianBlur(mask, (0, 0), 1.5)
        (folder / name).mkdir(parents=True)
        for z in range(depth):
            plane = np.clip(bright + rng.normal(0, 15, mask.shape), 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / name / f"{z}.png"), plane)
        cv2.imwrite(str(folder / f"{name}-mask.png"), mask)
        line = f"{name},{name},{name}-mask.png"
        if k == region:
            inside = np.zeros_like(mask)
            inside[3:-9, 6:-10] = 255
            cv2.imwrite(str(folder / f"{name}-region.png"), inside)
            line += f",{name}-region.png"
        elif region is not None:
            line += ","
        lines.append(line)
    (folder / "scans.csv").write_text("\n".join(lines) + "\n")
    return {"table": str(folder / "scans.csv"), "target": "mask"}


def write_zarr(
    folder: Path,
    planes: np.ndarray,
    *,
    axes: str = "zyx",
    version: int = 3,
    is_bare: bool = False,
    chunks: tuple[int, int, int] = (5, 4, 16),
    **more: object,
) -> Path:
    """Slices as an OME-Zarr image (0.4 in zarr 2, 0.5 in zarr 3) or as a bare array.

    Args:
        folder: Of the image or array.
        planes: "slice height width".
        axes: Of the array; those other than z, y and x get a length of 1.
        version: Of zarr.
        is_bare: Whether there is the array alone.
        chunks: Their length along z, y and x.
        more: Given to zarr with the array.
    """
    import zarr

    others = [name for name in axes if name not in "zyx"]
    whole = planes[(..., *[None] * len(others))]
    have = ["z", "y", "x", *others]
    if "z" not in axes:
        whole, have = whole[0], have[1:]
    pixels = whole.transpose([have.index(name) for name in axes])
    along = dict(zip("zyx", chunks, strict=True))
    more = {"chunks": tuple(along.get(name, 1) for name in axes), **more}
    if is_bare:
        zarr.create_array(folder, data=pixels, zarr_format=version, **more)
        return folder
    image = {
        "axes": [{"name": name} for name in axes],
        "datasets": [{"path": "full"}, {"path": "half"}],
    }
    told: dict = {"multiscales": [image if version == 3 else {**image, "version": "0.4"}]}
    attributes = {"ome": {"version": "0.5", **told}} if version == 3 else told
    group = zarr.create_group(folder, zarr_format=version, attributes=attributes)
    group.create_array("full", data=pixels, **more)
    half = pixels[tuple(slice(None, None, 2 if name in "yx" else 1) for name in axes)]
    group.create_array("half", data=half)
    return folder


SIZES, DEPTHS = ((64, 96), (64, 96), (60, 90), (64, 96)), (4, 3, 5, 1)
"""Of the volumes `scans`; cells of one are partial at its edge."""


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Arguments of `init` for four small volumes, one of which counts in a part only."""
    return draw_scans(tmp_path_factory.mktemp("scans"), sizes=SIZES, depths=DEPTHS)


@pytest.fixture(scope="session")
def inked(tmp_path_factory: pytest.TempPathFactory, scans: dict) -> Opened:
    """A study of volumes with folds over whole ones, nothing trained."""
    study = stages.init(
        tmp_path_factory.mktemp("inked") / "study", recipe="segment:small", options=INK, **scans
    )
    stages.split(study, INLINE)
    return open_study(study)


def small_study(
    family: str,
    recipes: Mapping[str, Mapping[str, object]],
    folder: Path,
    of: Mapping[str, object],
    context: Context = INLINE,
    recipe: str = "small",
    **options: object,
) -> Study:
    """A study that nothing is trained of.

    Args:
        family: Its name.
        recipes: Options that make each recipe quick.
        folder: Of the study.
        of: Arguments of `init`: the table, and what leads to the files.
        context: Who is told.
        recipe: One of them.
        options: Other ones than those.
    """
    options = {**recipes[recipe], **options}
    return stages.init(folder, recipe=f"{family}:{recipe}", options=options, context=context, **of)


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def answer(study: Study, of: Mapping, out: Path, **more: object) -> list[dict[str, str]]:
    """What is predicted of the pictures of a table, or of others if more is said."""
    asked = {"table": of["table"], "images": of["images"], "context": INLINE}
    stages.predict(study, out=out, **{**asked, **more})
    return table_of(out)


@pytest.fixture(scope="module")
def redone(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., set[str]]:
    """Makes a study with and without a change of options, and says what is then done again."""
    usual: dict[str, dict[str, str]] = {}

    def found(make: Callable[..., Study], of: dict, recipe: str, **change: object) -> set[str]:
        folder = tmp_path_factory.mktemp(recipe)
        if recipe not in usual:
            usual[recipe] = digests(make(folder / "usual", of, recipe=recipe))
        after = digests(make(folder / "other", of, recipe=recipe, **change))
        assert after.keys() == usual[recipe].keys()
        return {name for name, _ in after.items() ^ usual[recipe].items()}

    return found


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
