"""Where slices are found: a folder or a pattern of pictures, pages of a TIFF, a picture, a zarr.

A picture in colour that is a volume by itself is three slices, red, green and blue, so that what
is published as pictures and masks needs no conversion. Among other slices a coloured one is none.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from foveal.errors import UnreadableImage
from foveal.read.image import decode
from foveal.read.limits import PLANE_LIMIT
from foveal.read.omezarr import is_zarr, open_zarr
from foveal.read.stack import Slice, Stack, grey, is_grey
from foveal.read.tiff import stack_of_pages

COLOURS = ("red", "green", "blue")
"""The slices of a picture in colour, from the first to the last."""

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")


def _unknown(names: tuple[str, ...]) -> bool:
    """Nothing was found before."""
    return False


def find_slices(place: str, known: Callable[[tuple[str, ...]], bool] = _unknown) -> Stack:
    """The slices of a volume.

    Args:
        place: A folder, a pattern with `*`, a picture, a multi-page TIFF, or the folder of an
            OME-Zarr image or of a zarr array.
        known: Whether slices of these names were found there before; of a picture only its pixels
            tell which there are.

    Raises:
        UnreadableImage: Nothing is there, or it holds no slices.
    """
    path = Path(place)
    if path.is_dir():
        if is_zarr(path):
            return open_zarr(path)
        found = [p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and not p.is_dir()]
        found = [p for p in found if not p.name.startswith(".")]  # macOS puts one beside each
        _require_one_kind(found)
        return _files(found, f"{place}: the folder holds no slices ({', '.join(SUFFIXES)}, zarr)")
    if path.is_file():
        is_tiff = path.suffix.lower() in (".tif", ".tiff")
        pages = stack_of_pages(path) if is_tiff else None
        return _picture(path, known) if pages is None else pages
    return _files(_matching(path), f"{place}: no such file, folder or pattern of slices")


def _require_one_kind(found: Sequence[Path]) -> None:
    """Raise where slices seem to be there twice, in two formats."""
    first: dict[str, Path] = {}
    for path in sorted(found):
        other = first.setdefault(path.stem, path)
        if other != path:
            raise UnreadableImage(
                f"{path.parent}: {other.name} and {path.name} would be two slices; cure: a pattern "
                f"of those that are meant, such as {path.parent}/*{path.suffix}"
            )


def _picture(path: Path, known: Callable[[tuple[str, ...]], bool]) -> Stack:
    """The one slice of a grey picture, the three of one in colour."""
    files, colours = (str(path.resolve()),), tuple(f"{path} {colour}" for colour in COLOURS)
    for names in (colours, (str(path),)):
        if known(names):  # then it need not be decoded
            is_colour = names == colours
            return Stack(names, files, read=lambda k: _planes(path)[k], is_colour=is_colour)
    planes = _planes(path)
    names = colours if len(planes) > 1 else (str(path),)
    return Stack(names, files, read=lambda k: planes[k], is_colour=len(planes) > 1)


def _planes(path: Path) -> list[Slice]:
    """How many there are, only the pixels tell: grey pictures are often saved in colour."""
    image = decode(str(path), limit=PLANE_LIMIT)
    if image.shape[2] == len(COLOURS) and not is_grey(image):
        return [image[:, :, k] for k in range(len(COLOURS))]
    return [grey(image, str(path))]


def _matching(pattern: Path) -> list[Path]:
    """The files of a pattern; folders that are there are meant as they are written, [] and all."""
    root = next((p for p in pattern.parents if p.is_dir()), None)
    if root is None or not glob.has_magic(rest := str(pattern.relative_to(root))):
        return []
    return [root / p for p in glob.glob(rest, root_dir=root)]  # noqa: PTH207


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that puts slice 10 after slice 9, and slice -1, behind _ or =, before slice 0.

    Example:
        >>> sorted(["z10", "z9", "a"], key=natural)
        ['a', 'z9', 'z10']
        >>> sorted(["p_0", "p_5", "p_-5", "p_-10"], key=natural)
        ['p_-10', 'p_-5', 'p_0', 'p_5']
    """
    parts = re.split(r"((?<=[_=])-\d+|\d+)", name)
    return [(0, int(p), "") if p.lstrip("-").isdecimal() else (1, 0, p) for p in parts if p]


def gap_of(names: Sequence[str]) -> str:
    """The first number that is missing among files that are counted one by one; empty if none is.

    Numbers that rise by more than one most of the time were chosen so, and miss nothing.

    Example:
        >>> gap_of(["z08.png", "z09.png", "z11.png", "z12.png"])
        'z09.png is followed by z11.png'
        >>> gap_of(["z0.png", "z5.png", "z10.png"])
        ''
    """
    keys = [natural(Path(name).name) for name in names]
    counted = list(zip(names, keys, keys[1:], names[1:], strict=False))
    steps = [_step(one, other) for _, one, other, _ in counted]
    if 2 * steps.count(1) <= len(steps):
        return ""
    jumps = [k for k, step in enumerate(steps) if step is None or step > 1]
    if not jumps:
        return ""
    before, _, _, after = counted[jumps[0]]
    return f"{Path(before).name} is followed by {Path(after).name}"


def _step(one: list[tuple[int, int, str]], other: list[tuple[int, int, str]]) -> int | None:
    """How much the only number that differs rises; None where anything else does."""
    if len(one) != len(other):
        return None
    differing = [(a, b) for a, b in zip(one, other, strict=True) if a != b]
    is_count = len(differing) == 1 and differing[0][0][0] == differing[0][1][0] == 0
    return differing[0][1][1] - differing[0][0][1] if is_count else None


def _files(found: Sequence[Path], trouble: str) -> Stack:
    if not found:
        raise UnreadableImage(trouble)
    paths = sorted(found, key=lambda p: (natural(str(p)), str(p)))
    names = tuple(str(p) for p in paths)
    return Stack(
        names=names,
        files=tuple(str(p.resolve()) for p in paths),
        read=lambda k: grey(decode(names[k], limit=PLANE_LIMIT), names[k]),
    )
