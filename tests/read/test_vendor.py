"""What OpenSlide reads, by a stand-in for it: the library is large and not everywhere."""

import sys
import tomllib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from foveal.errors import UnreadableImage
from foveal.read.slide import open_slide, overview
from pyramids import ODD, crop, fingerprint, noise, refused, shrunk, write_levels


class OpenSlideError(Exception):
    """What the library raises."""


class Scanned:
    """OpenSlide, of a picture of two levels that was scanned in part; the file says the error."""

    def __init__(self, path: str) -> None:
        if b"broken" in Path(path).read_bytes():
            raise OpenSlideError("not a file that is understood")
        pixels = np.dstack([noise(60, 84, 3), noise(60, 84, seed=1)])
        pixels[:20, :, 3], pixels[20:40, :, 3] = 0, 255
        self.pixels = [pixels, shrunk(pixels, 4)]
        self.level_dimensions = ((84, 60), (21, 15))
        self.level_downsamples = (1.0, 4.0)
        self.properties = (
            {"openslide.mpp-x": "0.25"} if b"spaced" in Path(path).read_bytes() else {}
        )
        self.asked: list = []
        self.is_open = True

    def read_region(
        self, location: tuple[int, int], level: int, size: tuple[int, int]
    ) -> Image.Image:
        if size[0] > 500:
            raise OpenSlideError("a tile is broken")
        self.asked.append((location, level, size))
        scale = round(self.level_downsamples[level])
        left, top = (n // scale for n in location)
        outside = np.pad(self.pixels[level], ((99, 99), (99, 99), (0, 0)))  # transparent
        part = outside[99 + top : 99 + top + size[1], 99 + left : 99 + left + size[0]]
        return Image.fromarray(np.ascontiguousarray(part))

    def close(self) -> None:
        self.is_open = False


@pytest.fixture
def openslide(monkeypatch: pytest.MonkeyPatch) -> list[Scanned]:
    """A stand-in for the library, and what it has opened."""
    opened: list[Scanned] = []
    module = ModuleType("openslide")

    def open_one(path: str) -> Scanned:
        opened.append(Scanned(path))
        return opened[-1]

    module.OpenSlide, module.OpenSlideError = open_one, OpenSlideError
    module.PROPERTY_NAME_MPP_X = "openslide.mpp-x"
    monkeypatch.setitem(sys.modules, "openslide", module)
    return opened


def test_formats_of_vendors_are_read_by_openslide(tmp_path: Path, openslide: list[Scanned]) -> None:
    path = tmp_path / "a.mrxs"
    path.write_bytes(b"spaced")
    with open_slide(str(path)) as slide:
        assert [(one.height, one.width, one.downsample) for one in slide.levels] == [
            (60, 84, 1.0),
            (15, 21, 4.0),
        ]
        assert (slide.path, slide.channels, slide.spacing_um) == (str(path), 3, 0.25)
        got = slide.read(1, top=-2, left=3, height=19, width=20)
        pixels = openslide[0].pixels[1].astype(np.float64)
        opaque = pixels[:, :, 3:] / 255
        seen = pixels[:, :, :3] * opaque + 255 * (1 - opaque)
        assert np.abs(got - crop(seen, -2, 3, 19, 20)).max() <= 0.5
        assert (got.shape, got.dtype) == ((19, 20, 3), np.uint8)
        assert openslide[0].asked[-1] == ((12, -8), 1, (20, 19))
        assert overview(slide, 42).shape == (30, 42, 3)
        with pytest.raises(UnreadableImage, match=f"{path}: a tile is broken"):
            slide.read(0, top=0, left=0, height=1, width=501)
        assert openslide[0].is_open
    assert not openslide[0].is_open


def test_fingerprints_of_vendors_are_those_of_the_content(
    tmp_path: Path, openslide: list[Scanned], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(b"plain")
    with open_slide(str(tmp_path / "a")) as slide:
        assert slide.spacing_um is None
    same = {fingerprint(tmp_path / name) for name in "ab"}
    assert len(same) == 1
    monkeypatch.setattr(Scanned, "read_region", lambda *of: Image.new("RGBA", of[-1]))
    assert fingerprint(tmp_path / "a") not in same


def test_what_openslide_refuses_is_an_error(tmp_path: Path, openslide: list[Scanned]) -> None:
    (tmp_path / "a.svs").write_bytes(b"broken")
    refused(tmp_path / "a.svs", "OpenSlide cannot read it .not a file that is understood.")


def test_tiffs_are_read_without_openslide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openslide", None)
    path = write_levels(tmp_path / "a.svs", [noise(*ODD, 3)])
    with open_slide(str(path)) as slide:
        assert slide.levels[0].height == ODD[0]
    (tmp_path / "a.mrxs").write_bytes(b"spaced")
    refused(tmp_path / "a.mrxs", r"no TIFF; cure .*: pip install openslide-python")


def test_the_extra_that_the_cure_names_is_there() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert "wsi" in tomllib.loads(text)["project"]["optional-dependencies"]
