"""Simulated biopsies: pyramids that can be read, grades that glands tell, faults planted."""

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from scipy.stats import spearmanr

from foveal.manifest import load
from foveal.simulate.biopsy import PROVIDERS, simulate_biopsy
from foveal.simulate.glands import BENIGN, Growth, draw_glands
from foveal.table import Source

SMALL = {"height": 256, "width": 320}
CLEAN = {"noise": 0.0, "pens": 0.0, "blanks": 0.0}


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open() as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def level(folder: Path, name: str, k: int = 0) -> np.ndarray:
    with tifffile.TiffFile(folder / f"slides/{name}.tiff") as file:
        return file.pages[k].asarray()


def labels_of(folder: Path, name: str) -> np.ndarray:
    return cv2.imread(str(folder / f"masks/{name}.png"), cv2.IMREAD_UNCHANGED)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 slides without faults, large enough to see glands."""
    folder = tmp_path_factory.mktemp("clean")
    simulate_biopsy(folder, cases=40, height=768, width=1024, **CLEAN)
    return folder


def test_the_arguments_of_init_lead_to_every_slide(tmp_path: Path) -> None:
    given = simulate_biopsy(tmp_path, cases=4, **SMALL)
    assert set(given) == {"table", "images", "target", "columns"}
    manifest = load(
        Source(
            table=str(given["table"]),
            images=given["images"],
            target=(given["target"],),
            **given["columns"],
        )
    )
    assert {Path(path) for paths in manifest.paths for path in paths} == set(
        (tmp_path / "slides").iterdir()
    )
    assert set(manifest.roles["site"]) <= set(PROVIDERS)


def test_a_data_set_is_repeatable_and_follows_from_its_seed(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate_biopsy(tmp_path / name, cases=6, seed=seed, pens=0.5, **SMALL)
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert a["slides/b0000.tiff"] != c["slides/b0000.tiff"]


def test_more_slides_leave_the_first_ones_as_they_are(tmp_path: Path) -> None:
    for name, cases in (("few", 5), ("many", 9)):
        simulate_biopsy(tmp_path / name, cases=cases, pens=0.5, **SMALL)
    few, many = contents(tmp_path / "few"), contents(tmp_path / "many")
    del few["labels.csv"]
    assert few.items() <= many.items()
    assert rows(tmp_path / "few") == rows(tmp_path / "many")[:5]


@pytest.mark.parametrize("shape", [(768, 1024), (300, 420)])
def test_a_slide_is_a_pyramid_of_three_pages(tmp_path: Path, shape: tuple[int, int]) -> None:
    simulate_biopsy(tmp_path, cases=1, height=shape[0], width=shape[1])
    with tifffile.TiffFile(tmp_path / "slides/b0000.tiff") as file:
        assert len(file.pages) == 3
        for page, step in zip(file.pages, (1, 4, 16), strict=True):
            assert page.shape == (shape[0] // step, shape[1] // step, 3)
            assert (page.tilelength, page.tilewidth) == (256, 256)
            assert (page.compression.name, page.photometric.name) == ("JPEG", "YCBCR")
            dots, per = page.tags["XResolution"].value
            assert 1e4 / (dots / per) == pytest.approx(0.5 * step)
            assert page.tags["ResolutionUnit"].value == tifffile.RESUNIT.CENTIMETER
        fine, coarse = (file.pages[k].asarray().astype(float) for k in (0, 1))
    smaller = cv2.resize(fine, coarse.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(smaller - coarse).mean() < 4


def test_all_grades_occur_and_a_patients_slides_belong_together(clean: Path) -> None:
    assert {int(row["grade"]) for row in rows(clean)} == set(range(6))
    of: dict[str, list[dict[str, str]]] = {}
    for row in rows(clean):
        of.setdefault(row["patient"], []).append(row)
    assert {len(slides) for slides in of.values()} == {1, 2, 3}
    for slides in of.values():
        grades = [int(row["grade"]) for row in slides]
        assert max(grades) - min(grades) <= 2
        assert len({row["provider"] for row in slides}) == 1
    assert set(Counter(row["provider"] for row in rows(clean))) == set(PROVIDERS)


def test_grades_can_be_fewer_and_noise_moves_them_by_one(tmp_path: Path) -> None:
    for name, noise in (("clean", 0.0), ("noisy", 1.0)):
        simulate_biopsy(tmp_path / name, cases=20, grades=3, noise=noise, **SMALL)
    given, moved = (
        [int(row["grade"]) for row in rows(tmp_path / name)] for name in ("clean", "noisy")
    )
    assert set(given) == set(moved) == {0, 1, 2}
    assert all(abs(a - b) == 1 for a, b in zip(given, moved, strict=True))


def test_one_provider_reads_some_slides_as_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate_biopsy(tmp_path / "strict", cases=40, **SMALL, **CLEAN)
    monkeypatch.setitem(PROVIDERS, "B", replace(PROVIDERS["B"], is_strict=False))
    simulate_biopsy(tmp_path / "mild", cases=40, **SMALL, **CLEAN)
    steps: dict[str, set[int]] = {"A": set(), "B": set()}
    for mild, strict in zip(rows(tmp_path / "mild"), rows(tmp_path / "strict"), strict=True):
        steps[mild["provider"]].add(int(strict["grade"]) - int(mild["grade"]))
    assert steps == {"A": {0}, "B": {0, 1}}


def glass_of(picture: np.ndarray) -> float:
    """How bright glass is, of which most of a slide is."""
    return float(np.median(picture[::4, ::4]))


def tissue_of(picture: np.ndarray) -> np.ndarray:
    """Where light is absorbed, lumens included."""
    dark = (picture.min(axis=2) < glass_of(picture) - 25).astype(np.uint8)
    return cv2.morphologyEx(dark, cv2.MORPH_CLOSE, np.ones((25, 25), np.uint8)) > 0


def test_providers_differ_in_glass_and_stain(clean: Path) -> None:
    glass: dict[str, set[int]] = {"A": set(), "B": set()}
    ratio: dict[str, list[float]] = {"A": [], "B": []}
    for row in rows(clean):
        picture = level(clean, row["id"], 1)
        glass[row["provider"]].add(int(glass_of(picture)))
        density = -np.log(np.maximum(picture[tissue_of(picture)], 1) / glass_of(picture))
        ratio[row["provider"]].append(density[:, 2].mean() / density[:, 1].mean())
    assert glass == {"A": {255}, "B": {243}}
    assert max(ratio["A"]) < min(ratio["B"])


def test_the_glands_tell_the_grade(clean: Path) -> None:
    nuclei, lumens, grades = [], [], []
    for row in rows(clean):
        picture = level(clean, row["id"])
        seen = picture[tissue_of(picture)] / glass_of(picture)
        nuclei.append((seen[:, 0] < 0.6).mean())
        lumens.append((seen.min(axis=1) > 0.93).mean())
        grades.append(int(row["grade"]))
    assert spearmanr(nuclei, grades).statistic > 0.4
    assert spearmanr(lumens, grades).statistic < -0.5


def test_masks_fit_slides_and_grades(clean: Path) -> None:
    names = {path.stem for path in (clean / "masks").iterdir()}
    assert 0.6 * 40 <= len(names) < 40
    for row in rows(clean):
        if row["id"] not in names:
            continue
        mask, coarse = labels_of(clean, row["id"]), level(clean, row["id"], 2)
        assert (mask.shape, mask.dtype) == (coarse.shape[:2], np.uint8)
        assert {0, 1, BENIGN} <= set(np.unique(mask)) <= set(range(6))
        assert (mask.max() > BENIGN) == (row["grade"] != "0")
        assert 0.08 < (mask > 0).mean() < 0.27
        away = cv2.dilate((mask > 0).astype(np.uint8), np.ones((3, 3))) == 0
        assert np.abs(coarse[away] - glass_of(coarse)).mean() < 8
        assert glass_of(coarse) - coarse[mask > 0].mean() > 30


@pytest.mark.parametrize("pair", [(3, 4), (4, 3), (5, 4), (5, 5)])
def test_the_first_pattern_covers_most(pair: tuple[int, int]) -> None:
    growth = Growth(pair=pair, clear=1.0, extent=0.6, foci=3)
    _, mask = draw_glands(np.random.default_rng(3), growth=growth, shape=(768, 1024))
    cover = np.bincount(mask.ravel(), minlength=6)[3:]
    assert cover.argmax() + 3 == pair[0]
    assert set(np.flatnonzero(cover) + 3) == set(pair)


def test_a_pen_crosses_glass_and_tissue(tmp_path: Path) -> None:
    for name, pens in (("with", 1.0), ("without", 0.0)):
        simulate_biopsy(
            tmp_path / name, cases=8, height=512, width=640, pens=pens, noise=0.0, blanks=0.0
        )
    on_tissue = []
    for row in rows(tmp_path / "without"):
        marked, plain = (level(tmp_path / n, row["id"]).astype(int) for n in ("with", "without"))
        drawn, tissue = np.abs(marked - plain).max(axis=2) > 60, tissue_of(plain)
        assert 0.0005 < drawn[~tissue].mean() < 0.2
        on_tissue.append(drawn[tissue].mean())
    assert sum(share > 0.01 for share in on_tissue) > 4


def test_a_blank_slide_is_bare_glass_with_a_grade(tmp_path: Path) -> None:
    simulate_biopsy(tmp_path / "some", cases=20, **SMALL)
    simulate_biopsy(tmp_path / "all", cases=3, blanks=1.0, **SMALL)
    glass = {name: provider.glass for name, provider in PROVIDERS.items()}
    for folder, expected in ((tmp_path / "some", 1), (tmp_path / "all", 3)):
        bare = [
            row
            for row in rows(folder)
            if np.ptp(level(folder, row["id"])) == 0
            and level(folder, row["id"]).max() == glass[row["provider"]]
        ]
        assert len(bare) == expected
        for row in bare:
            assert int(row["grade"]) in range(6)
            if (folder / f"masks/{row['id']}.png").exists():
                assert not labels_of(folder, row["id"]).any()
