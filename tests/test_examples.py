"""Every example runs as it stands, and the documentation names only what exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_runs(path: Path) -> None:
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_commands_and_options_named_in_a_page_exist(page: Path) -> None:
    from foveal.cli import app
    from foveal.stages import about, addresses

    text = page.read_text(encoding="utf-8")
    verbs = set(re.findall(r"`foveal (\w+)", text)) | set(re.findall(r"^foveal (\w+)", text, re.M))
    assert verbs <= set(app), verbs - set(app)
    options = {o["name"] for a in addresses() for o in about(a)["options"]}
    named = set(re.findall(r"`(?:\w+:\w+ )?([a-z_]+)=", text))
    assert named - {"name"} <= options, named - options
