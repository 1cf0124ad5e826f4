"""Simulated cells: files that decode, labels of whole samples, faults that are planted."""

import csv
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from foveal.audit.duplicates import alike
from foveal.manifest import Manifest, load
from foveal.read.image import Photograph
from foveal.simulate.cells import CHANNELS, PLACES, draw_cells, simulate_cells
from foveal.survey import survey
from foveal.table import Source


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open() as file:
        return list(csv.DictReader(file))


def loaded(given: dict) -> Manifest:
    return load(
        Source(
            table=str(given["table"]),
            images=given["images"],
            channels=CHANNELS,
            target=(given["target"],),
            **given["columns"],
        )
    )


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 pictures so small that only their labels matter."""
    folder = tmp_path_factory.mktemp("many")
    simulate_cells(folder, cases=300, size=16)
    return folder


def test_the_arguments_of_init_lead_to_a_file_a_channel(tmp_path: Path) -> None:
    manifest = loaded(simulate_cells(tmp_path, cases=5, size=40, seed=1))
    assert len(manifest) == 5
    for case in manifest.cases():
        image = Photograph(channels=4)(case)
        assert (image.shape, image.dtype) == ((4, 40, 40), np.uint8)
        assert (image.reshape(4, -1).std(axis=1) > 1).all()
    files = {Path(path) for paths in manifest.paths for path in paths}
    assert files == set((tmp_path / "images").iterdir())


def test_a_data_set_is_repeatable_and_follows_from_its_seed(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate_cells(tmp_path / name, cases=8, size=24, seed=seed, duplicates=0.3)
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    files = [sorted((tmp_path / n / "images").iterdir()) for n in "abc"]
    contents = [[f.read_bytes() for f in some] for some in files]
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


def test_pictures_of_a_sample_have_the_same_labels_and_other_cells(many: Path) -> None:
    told: dict[str, set[str]] = {}
    for row in rows(many):
        told.setdefault(row["sample"], set()).add(row["places"])
    assert all(len(places) == 1 for places in told.values())
    assert 300 / 3 <= len(told) <= 300 / 1.5
    of = Counter(row["sample"] for row in rows(many))
    (sample, _), *_ = of.most_common()
    names = [row["id"] for row in rows(many) if row["sample"] == sample]
    pixels = {(many / f"images/{name}_red.png").read_bytes() for name in names}
    assert len(pixels) > 1


def test_labels_are_one_to_three_known_places_in_the_order_of_the_table(many: Path) -> None:
    known = list(PLACES)
    sizes = Counter()
    for row in rows(many):
        places = row["places"].split()
        assert [known.index(place) for place in places] == sorted(map(known.index, places))
        assert len(set(places)) == len(places)
        sizes[len(places)] += 1
    assert set(sizes) == {1, 2, 3}
    assert sizes[1] > sizes[2] > sizes[3]


def test_rare_labels_occur_and_common_ones_often(many: Path) -> None:
    of = Counter(place for row in rows(many) for place in row["places"].split())
    assert set(of) == set(PLACES)
    assert of["nucleus"] > 0.3 * 300
    assert of["centrosome"] < 0.06 * 300


def test_no_protein_is_in_more_places_than_asked_for(tmp_path: Path) -> None:
    simulate_cells(tmp_path, cases=30, size=16, most=1)
    assert all(len(row["places"].split()) == 1 for row in rows(tmp_path))


def test_some_pictures_occur_a_second_time_turned(tmp_path: Path) -> None:
    manifest = loaded(simulate_cells(tmp_path, cases=30, size=48, seed=2, duplicates=0.4))
    pictures = [Photograph(channels=4)(case) for case in manifest.cases()]
    twins = [
        (i, j)
        for j, other in enumerate(pictures)
        for i, one in enumerate(pictures[:j])
        if any(np.array_equal(np.rot90(one, k, (1, 2)), other) for k in range(1, 4))
    ]
    assert 6 <= len({j for _, j in twins}) <= 18
    for i, j in twins:
        assert manifest.target[i, 0] == manifest.target[j, 0]
        assert manifest.roles["group"][i] == manifest.roles["group"][j]
    lot = alike(np.stack([survey(case).thumbnail for case in manifest.cases()]))
    assert all(lot[i] == lot[j] for i, j in twins)


def test_without_duplicates_no_two_pictures_are_the_same(tmp_path: Path) -> None:
    manifest = loaded(simulate_cells(tmp_path, cases=30, size=24, duplicates=0.0))
    pictures = [Photograph(channels=4)(case) for case in manifest.cases()]
    turns = {np.rot90(one, k, (1, 2)).tobytes() for one in pictures for k in range(4)}
    assert len(turns) == 4 * 30


def green(label: str) -> np.ndarray:
    """The channel of a protein that is in one kind of place."""
    return draw_cells(np.random.default_rng(5), labels=(label,), size=96)[:, :, 1].astype(float)


def test_a_protein_is_seen_where_its_label_says() -> None:
    cells = draw_cells(np.random.default_rng(5), labels=("nucleus",), size=96)
    nuclei = cells[:, :, 2] > 60
    assert green("nucleus")[nuclei].mean() > 4 * green("nucleus")[~nuclei].mean()
    assert green("cytosol")[nuclei].mean() < 0.8 * green("cytosol")[~nuclei].mean()
    around = cv2.dilate(nuclei.astype(np.uint8), np.ones((5, 5))) > 0
    edge = around & ~(cv2.erode(nuclei.astype(np.uint8), np.ones((5, 5))) > 0)
    assert green("envelope")[edge].mean() > 3 * green("envelope")[~edge].mean()


def test_places_look_different() -> None:
    seen = [green(label) for label in PLACES]
    for k, one in enumerate(seen):
        assert one.std() > 3
        assert all(np.corrcoef(one.ravel(), other.ravel())[0, 1] < 0.99 for other in seen[:k])
