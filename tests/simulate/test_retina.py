import csv
from pathlib import Path

import cv2
import numpy as np

from foveal.simulate.retina import Faults, draw_eye, simulate_retina


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_same_seed_draws_the_same_eye_and_lesions_follow_the_grade() -> None:
    one, same = (draw_eye(np.random.default_rng(5), grade=3, height=64) for _ in range(2))
    assert np.array_equal(one, same)

    def edges(grade: int) -> float:
        eyes = [draw_eye(np.random.default_rng(s), grade=grade, height=96) for s in range(12)]
        return float(np.mean([np.abs(cv2.Laplacian(eye, cv2.CV_32F)).mean() for eye in eyes]))

    assert edges(0) < edges(2) < edges(3)


def test_a_data_set_is_repeatable(tmp_path: Path) -> None:
    for name in ("a", "b"):
        simulate_retina(tmp_path / name, cases=6, size=48, seed=1)
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    files = [sorted((tmp_path / n / "images").iterdir()) for n in ("a", "b")]
    assert [f.read_bytes() for f in files[0]] == [f.read_bytes() for f in files[1]]


def test_every_fault_is_planted(tmp_path: Path) -> None:
    plain = simulate_retina(tmp_path / "plain", cases=40, size=48)
    assert set(plain) == {"table", "images", "target", "columns"}
    simulate_retina(tmp_path / "size", cases=40, size=48, faults=Faults(size_clinic=1.0))
    assert all((r["clinic"] == "B") == (int(r["grade"]) > 0) for r in rows(tmp_path / "size"))
    simulate_retina(tmp_path / "twice", cases=40, size=48, faults=Faults(duplicates=0.5))
    contents = [p.read_bytes() for p in (tmp_path / "twice" / "images").iterdir()]
    assert len(set(contents)) < 32
    simulate_retina(tmp_path / "noise", cases=40, size=48, faults=Faults(label_noise=1.0))
    moved = [
        a["grade"] != b["grade"]
        for a, b in zip(rows(tmp_path / "plain"), rows(tmp_path / "noise"), strict=True)
    ]
    assert sum(moved) > 10
