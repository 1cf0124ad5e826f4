"""The page: in one piece, loads nothing, opens in a browser without a complaint."""

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from conftest import FAST
from foveal import stages
from foveal.ship.panels.study import cost, curves, leaderboard, thumbnail
from foveal.study import Study
from foveal.task import Context


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, eyes: dict) -> Path:
    options = {**FAST, "epochs": 1, "folds": 2, "members": "floor,regression"}
    folder = tmp_path_factory.mktemp("report") / "study"
    study = stages.init(folder, recipe="grade:small", options=options, **eyes)
    return stages.run(study, Context(slots=()))


def test_the_page_names_no_address_of_a_network(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!#|data:)", text)
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text


def test_the_page_has_every_section_and_the_worst_pictures(page: Path) -> None:
    text = page.read_text()
    for title in ("What was run", "Leaderboard", "Folds", "Curves", "Confusion", "Cost"):
        assert f"<h2>{title}</h2>" in text
    assert text.count("data:image/jpeg;base64,") == 12


def test_the_page_opens_in_a_browser(page: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no chromium here; apt-get install chromium")
    shot = tmp_path / "shot.png"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    done = subprocess.run(
        [browser, *flags, f"--user-data-dir={tmp_path}/profile", f"--screenshot={shot}",
         "--window-size=1280,2400", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "CONSOLE" not in done.stderr
    assert shot.stat().st_size > 20_000
    dumped = subprocess.run(
        [browser, *flags, f"--user-data-dir={tmp_path}/profile", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    ).stdout  # fmt: skip
    assert dumped.count("<svg") >= 4


def test_a_held_fold_that_tells_nothing_leaves_the_chart_whole(page: Path, tmp_path: Path) -> None:
    shutil.copytree(page.parent, tmp_path / "s")
    (file,) = (tmp_path / "s/members/regression/0").glob("metrics.csv")
    header, row = file.read_text().splitlines()
    cells = dict(zip(header.split(","), row.split(","), strict=True))
    cells["held"] = "nan"
    file.write_text("\n".join([header, ",".join(cells.values())]))
    html = str(curves(Study(tmp_path / "s")).body)
    assert "polyline" in html
    assert "nan" not in html


def test_an_interval_that_nobody_can_tell_is_said_in_words(page: Path, tmp_path: Path) -> None:
    shutil.copytree(page.parent, tmp_path / "s")
    file = tmp_path / "s/combine/leaderboard.json"
    board = json.loads(file.read_text())
    for row in board["rows"]:
        row["interval"] = [None, None]
    board["rows"][0]["score"] = None
    file.write_text(json.dumps({**board, "nested": None, "nested_interval": [None, None]}))
    section = leaderboard(Study(tmp_path / "s"))
    html = str(section.body)
    assert html.count("too few groups") == len(board["rows"])
    assert html.count("<circle") == len(board["rows"]) - 1
    assert "nan" not in html.lower()
    assert "it scores - (too few groups)" in section.lead


def test_trainings_of_folds_that_are_no_more_are_not_shown(page: Path, tmp_path: Path) -> None:
    study = Study(page.parent)
    shutil.copytree(study.folder, tmp_path / "s")
    older = Study(tmp_path / "s")
    for fold in (2, 10):
        shutil.copytree(study.job_folder("regression", 0), older.job_folder("regression", fold))
    assert curves(older) == curves(study)
    assert cost(older) == cost(study)
    assert "<td>regression</td><td>2</td>" in cost(study).body


def test_a_thumbnail_of_12_bits_in_16_is_not_dark(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 4096, (40, 48, 3)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "dark.png"), picture)
    data = base64.b64decode(thumbnail(str(tmp_path / "dark.png")).partition(",")[2])
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert 120 < shown.mean() < 136
