"""How large a picture may be: one that claims to be larger is taken for a decompression bomb.

Pixels are those of a plane, rows by columns, whatever its colours and channels, which have a bound
of their own. Both are looked at before anything is decoded, and the file before it is read.
"""

from __future__ import annotations

from foveal.errors import UnreadableImage

PIXEL_LIMIT = 178_956_970
"""Most pixels of a picture (Pillow's limit too)."""

PLANE_LIMIT = 1 << 30
"""The same of slices of a volume and their masks: 32,768 x 32,768 (OpenCV's limit too)."""

BYTES_A_PIXEL = 8
"""Four channels of 16 bit: what the planes of a picture of most pixels may take."""


def check_size(width: int, height: int, path: str, limit: int) -> None:
    """Raise `UnreadableImage` where a plane has more than `limit` pixels."""
    if width * height > limit:
        raise UnreadableImage(
            f"{path}: {width} x {height} is more than {limit} pixels; cure: a smaller copy, or "
            "several parts"
        )


def check_file(count_bytes: int, path: str, limit: int) -> None:
    """Raise `UnreadableImage` where a file is longer than twice what a largest picture takes."""
    if count_bytes > 2 * limit * BYTES_A_PIXEL:
        raise UnreadableImage(
            f"{path}: {count_bytes} bytes are more than a picture of {limit} pixels can be; cure: "
            "a smaller copy, several parts, or a recipe of the family slide for slides"
        )


def check_planes(count_bytes: int, path: str, limit: int) -> None:
    """Raise `UnreadableImage` where all planes take more than so many pixels of four channels."""
    if count_bytes > limit * BYTES_A_PIXEL:
        raise UnreadableImage(
            f"{path}: its planes take {count_bytes} bytes, and no more than "
            f"{limit * BYTES_A_PIXEL} are read; cure: a smaller copy, fewer planes, or several "
            "parts"
        )
