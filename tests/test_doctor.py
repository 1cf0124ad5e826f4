"""The doctor looks at the real environment, and at modules that break on import."""

import importlib.metadata
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from foveal import doctor
from foveal.doctor import Finding, _rate, examine, probe
from foveal.errors import UsageError
from foveal.machine import cores


@pytest.fixture
def about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str | None], Finding]:
    """What is found about one more library, made of some code, or missing."""
    monkeypatch.syspath_prepend(tmp_path)

    def find(module: str, code: str | None) -> Finding:
        if code is not None:
            (tmp_path / f"{module}.py").write_text(code)
        with monkeypatch.context() as patch:
            patch.setattr(
                doctor, "NEEDED", {f"{module}-on-the-shelf": ("nowhere_to_be_found_either", module)}
            )
            (found,) = [f for f in examine() if f.name == f"{module}-on-the-shelf"]
        sys.modules.pop(module, None)
        return found

    return find


def test_everything_is_looked_at_once_and_is_fine_here() -> None:
    found = {f.name: f for f in examine()}
    assert list(found) == ["python", *doctor.NEEDED, "device", "memory", "disk"]
    assert len(examine()) == len(found)
    for name in doctor.NEEDED:
        assert found[name] == Finding(name, is_fine=True, words=importlib.metadata.version(name))
    assert found["python"].is_fine
    assert found["python"].words == ".".join(map(str, sys.version_info[:3]))
    assert "CUDA" in found["device"].words
    if not torch.cuda.is_available():
        assert f"{cores()} CPU cores" in found["device"].words


def test_every_needed_library_is_one_that_the_project_asks_for() -> None:
    asked = importlib.metadata.requires("foveal") or []
    assert set(doctor.NEEDED) <= {re.split(r"[<>=]", line)[0] for line in asked}


def test_what_may_be_bad_comes_with_its_cure() -> None:
    for found in examine():
        assert found.words
        assert len(found.words.splitlines()) == 1
        if found.name in ("python", "memory", "disk"):
            assert found.cure


def test_a_library_may_be_there_under_another_name(about: Callable) -> None:
    assert about("the_other_name", "").is_fine


def test_a_missing_library_is_to_be_installed_under_its_own_name(about: Callable) -> None:
    found = about("nowhere_to_be_found", None)
    assert not found.is_fine
    assert "nowhere_to_be_found" in found.words
    assert found.cure == "pip install nowhere_to_be_found-on-the-shelf"


@pytest.mark.parametrize(
    ("kind", "words"),
    [("ImportError", "libGL.so.1: no such file"), ("OSError", "libc.so"), ("RuntimeError", "ABI")],
)
def test_a_library_that_breaks_is_quoted_in_one_line(
    about: Callable, kind: str, words: str
) -> None:
    found = about(f"breaks_with_{kind}", f"raise {kind}({words!r} + '\\nand much more')")
    assert (found.is_fine, found.words) == (False, words)
    assert found.cure == f"pip install breaks_with_{kind}-on-the-shelf"


def test_operators_of_another_build_are_cured_by_one_build(about: Callable) -> None:
    code = "raise RuntimeError('operator torchvision::nms does not exist')"
    found = about("operators", code)
    assert not found.is_fine
    assert "torch and torchvision come from different builds" in found.cure


def test_a_module_without_a_distribution_will_do(about: Callable) -> None:
    found = about("homemade", "")
    assert (found.is_fine, found.words) == (True, "there, its version unknown")


def test_an_error_without_words_is_a_finding_too(about: Callable) -> None:
    found = about("silent", "raise ImportError")
    assert (found.is_fine, found.words) == (False, "ImportError")


def test_a_library_built_for_another_numpy_is_a_finding(about: Callable) -> None:
    code = "raise ValueError('numpy.dtype size changed, may indicate binary incompatibility')"
    assert not about("older_numpy", code).is_fine


def test_the_probe_suggests_what_was_fastest_and_leaves_the_threads_alone() -> None:
    before = torch.get_num_threads()
    measured = probe("cpu")
    assert torch.get_num_threads() == before
    for kind, rates in measured["images_per_second"].items():
        assert len(rates) == 4
        assert all(rate > 0 for rate in rates.values())
        assert rates[measured["suggestion"][kind]] == max(rates.values())
    assert set(measured["suggestion"]) == set(doctor.PROBED)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a device is to be had here")
def test_a_device_that_is_not_to_be_had_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no CUDA device"):
        probe("cuda")


def test_one_of_several_devices_can_be_timed() -> None:
    network = torch.nn.Conv2d(3, 1, 3)
    assert _rate(network, "cpu:0", "channels_last", "bf16-mixed") > 0
