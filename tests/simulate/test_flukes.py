import csv
from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path

import cv2
import numpy as np

from foveal.simulate.flukes import (
    NEW,
    Faults,
    draw_fluke,
    draw_light,
    photograph,
    simulate_flukes,
)

SMALL = {"known": 6, "most": 4, "strangers": 2, "unknown": 3, "height": 32}


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "flukes.csv").open() as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (folder / "images").iterdir()}


def alike(one: np.ndarray, other: np.ndarray) -> int:
    """Local features that agree, wherever and however turned they are."""
    matched = cv2.BFMatcher().knnMatch(one, other, k=2)
    return sum(best.distance < 0.75 * second.distance for best, second in matched)


def test_a_data_set_is_repeatable(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate_flukes(tmp_path / name, **SMALL, seed=seed)
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    others = contents(tmp_path / "c")
    assert not set(contents(tmp_path / "a")) & set(others)
    assert not set(contents(tmp_path / "a").values()) & set(others.values())


def test_the_table_lists_every_file_and_has_a_long_tail(tmp_path: Path) -> None:
    told = simulate_flukes(tmp_path, known=9, most=5, strangers=4, unknown=6, height=32)
    assert set(told) == {"table", "images", "target", "columns"}
    table = rows(tmp_path)
    assert list(table[0]) == ["image", "identity", "encounter"]
    paths = [told["images"].format(**row) for row in table]
    assert len(set(paths)) == len(table) == len(contents(tmp_path))
    assert cv2.imread(paths[0]).shape == (32, 64, 3)
    photographs = Counter(row["identity"] for row in table)
    assert photographs.pop(NEW) == 6
    assert len(photographs) == 9
    assert max(photographs.values()) <= 5
    assert sum(n == 1 for n in photographs.values()) == 3
    meetings = Counter((row["encounter"], row["identity"]) for row in table)
    assert len(meetings) == len({row["encounter"] for row in table})
    assert 1 < max(meetings.values()) <= 3


def test_neither_order_nor_names_tell_the_identity(tmp_path: Path) -> None:
    simulate_flukes(tmp_path, known=12, most=8, strangers=4, unknown=6, height=16)
    table = rows(tmp_path)
    for order in (lambda _: 0, lambda r: r["image"], lambda r: r["encounter"]):
        identities = [row["identity"] for row in sorted(table, key=order)]
        changes = sum(a != b for a, b in pairwise(identities))
        assert changes > 1.5 * len(set(identities))


def test_photographs_of_one_individual_share_marks() -> None:
    sift = cv2.SIFT_create(100)
    marks, camera = [], np.random.default_rng(0)
    for individual in range(5):
        fluke = draw_fluke(np.random.default_rng(individual), height=96)
        for _ in range(2):
            picture = photograph(camera, fluke, draw_light(camera))
            larger = cv2.resize(picture, None, fx=2, fy=2)
            found = sift.detectAndCompute(cv2.cvtColor(larger, cv2.COLOR_RGB2GRAY), None)[1]
            marks.append((individual, found))
    same, different = [], []
    for (i, one), (j, other) in combinations(marks, 2):
        (same if i == j else different).append(alike(one, other))
    assert np.mean(same) > 2 * np.mean(different)


def test_left_and_right_differ() -> None:
    skin = np.prod(draw_fluke(np.random.default_rng(1), height=48), axis=2)
    assert np.abs(skin - skin[:, ::-1]).max() > 0.3


def test_duplicates_are_equal_byte_for_byte(tmp_path: Path) -> None:
    simulate_flukes(tmp_path / "plain", **SMALL)
    simulate_flukes(tmp_path / "twice", **SMALL, faults=Faults(duplicates=4))
    plain, twice = contents(tmp_path / "plain"), contents(tmp_path / "twice")
    assert len(set(plain.values())) == len(plain)
    assert set(twice.values()) == set(plain.values())
    assert len(twice) == len(plain) + 4
    told = {(twice[r["image"]], r["identity"], r["encounter"]) for r in rows(tmp_path / "twice")}
    assert len(told) == len(plain)


def test_wrong_identities_are_names_of_other_known_individuals(tmp_path: Path) -> None:
    simulate_flukes(tmp_path / "plain", **SMALL)
    simulate_flukes(tmp_path / "wrong", **SMALL, faults=Faults(wrong_identities=0.5))
    assert contents(tmp_path / "plain") == contents(tmp_path / "wrong")
    before, after = ([r["identity"] for r in rows(tmp_path / n)] for n in ("plain", "wrong"))
    known = sum(name != NEW for name in before)
    moved = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert len(moved) == round(known / 2)
    assert all(a != NEW and b in set(before) - {NEW} for a, b in moved)
