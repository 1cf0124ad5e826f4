"""What verbs say: the next command is one that works, recipes without options are told of too."""

import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import CELLS, FAST, INK, INLINE
from foveal import cli, stages
from foveal.cli.verbs import _lost, _to_predict
from foveal.files import write_text
from foveal.manifest import load
from foveal.settings import format_settings
from foveal.study import Study
from foveal.table import Source


def flags_of(study: Study) -> dict[str, str]:
    """The flags of the call that answers for new cases."""
    foveal, verb, folder, *rest = shlex.split(_to_predict(study, study.folder))
    assert (foveal, verb, folder) == ("foveal", "predict", str(study.folder))
    return dict(zip(rest[::2], rest[1::2], strict=True))


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory, eyes: dict) -> Study:
    folder = tmp_path_factory.mktemp("graded") / "my study"
    return stages.init(folder, recipe="grade:small", options=FAST, context=INLINE, **eyes)


@pytest.mark.parametrize(
    ("images", "new"),
    [
        ("/data/img/{image}", "new/{image}"),
        ("/data/img/{id}.png", "new/{id}.png"),
        ("/data/{site}/x_{id} it's.png", "new/{site}/x_{id} it's.png"),
        ("/data/{{old}}/{{a}}_{id}.png", "new/{{a}}_{id}.png"),
        ("/data/{channel}/{id}.png", "new/{channel}/{id}.png"),
        ("{path}", "{path}"),
    ],
)
def test_the_next_command_keeps_what_a_pattern_says_below_its_folder(
    graded: Study, tmp_path: Path, images: str, new: str
) -> None:
    shutil.copytree(graded.folder, tmp_path / "my study")
    study, settings = Study(tmp_path / "my study"), graded.settings()
    changed = replace(settings, source=replace(settings.source, images=images))
    write_text(study.settings_file, format_settings(changed))
    assert flags_of(study) == {"--table": "new.csv", "--images": new, "--out": "answers.csv"}


def test_the_next_command_of_stained_pictures_leads_to_a_file_a_channel(
    cells: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = stages.init(
        tmp_path / "s", recipe="multilabel:small", options=CELLS, context=INLINE, **cells
    )
    source = study.settings().source
    shutil.copytree(Path(str(cells["images"])).parent, tmp_path / "new")
    shutil.copy(source.table, tmp_path / "new.csv")
    monkeypatch.chdir(tmp_path)
    flags = flags_of(study)
    new = Source(table=flags["--table"], images=flags["--images"], channels=source.channels)
    assert all(Path(path).is_file() for paths in load(new).paths for path in paths)


def test_the_next_command_of_volumes_asks_for_a_folder_and_no_pictures(
    scans: dict, tmp_path: Path
) -> None:
    study = stages.init(
        tmp_path / "s", recipe="segment:small", options=INK, context=INLINE, **scans
    )
    assert flags_of(study) == {"--table": "new.csv", "--out": "answers"}


def test_a_recipe_without_options_is_told_of(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "mine.py").write_text(
        "from foveal.manifest import Facts\n"
        "from foveal.recipes import grade\n"
        "from foveal.task import Recipe\n"
        "FAMILY = grade.FAMILY\n"
        "def mine(facts: Facts, /) -> Recipe:\n"
        '    """As it comes."""\n'
        "    return grade.small(facts)\n"
    )
    assert cli.call(["recipes", f"{tmp_path}/mine.py:mine"]) == 0
    assert capsys.readouterr().out == "As it comes.\n"


def test_where_nothing_can_be_read_the_pattern_is_asked_about() -> None:
    assert _lost(2, 3, "new/{image}") == "2 of 3 cases cannot be read; they get the prior answer"
    assert "none of 3 cases can be read" in _lost(3, 3, "new/{image}")
    assert _lost(3, 3, "new/{image}").endswith("is --images right?")
    assert "--images" not in _lost(3, 3, "")


def test_a_deadline_says_its_unit(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    asked = ["predict", str(tmp_path), "--table", "t.csv", "--out", "a.csv", "--deadline", "9"]
    assert cli.call(asked) == 2
    assert "write 9h, 9m or 9s" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["audit", "split", "combine", "report", "score", "recipes"])
def test_a_verb_that_computes_on_no_device_takes_none(
    verb: str, capsys: pytest.CaptureFixture
) -> None:
    assert cli.call([verb, "x", "--device", "cpu"]) == 2
    assert "--device" in capsys.readouterr().err


def test_options_behind_another_verb_are_told_where_they_live(
    capsys: pytest.CaptureFixture,
) -> None:
    assert cli.call(["run", "s", "size=48"]) == 2
    said = capsys.readouterr().err
    assert "nothing is done with: size=48; cure: options of the recipe are edited in" in said
    assert cli.call(["run", "s", "s2"]) == 2
    assert "nothing is done with: s2; cure: see --help" in capsys.readouterr().err
