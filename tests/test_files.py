"""A file is the old one or the new one, whole."""

from pathlib import Path

import numpy as np
import pytest

from disks import full_disk_after
from foveal.errors import StudyError
from foveal.files import lay_out, write_bytes


def everything_in(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(0, 3), (5,), (4, 3, 2)])
def test_what_is_laid_out_is_an_array_of_zeros(tmp_path, shape, dtype):
    lay_out(tmp_path / "laid", shape, np.dtype(dtype))
    np.save(tmp_path / "saved.npy", np.zeros(shape, dtype))
    assert (tmp_path / "laid").read_bytes() == (tmp_path / "saved.npy").read_bytes()


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "file"
    write_bytes(path, b"old")
    full_disk_after(monkeypatch, 0)
    with pytest.raises(StudyError, match="disk is full") as error:
        write_bytes(path, b"new")
    assert str(path) in str(error.value)
    assert path.read_bytes() == b"old"
    assert everything_in(tmp_path) == {"deep", "deep/file"}
