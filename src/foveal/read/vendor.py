"""Slides in the formats of scanners that are no TIFF: whatever OpenSlide reads, where it is there.

The library is imported when the first such slide is opened, so that nobody else needs it.
"""

from __future__ import annotations

import hashlib
from typing import final

import numpy as np
from jaxtyping import Int, Shaped

from foveal.arrays import Pixels
from foveal.errors import UnreadableImage
from foveal.read.level import GLASS, Level, sane_spacing


@final
class VendorSlide:
    """Whatever OpenSlide reads."""

    def __init__(self, path: str) -> None:
        try:
            import openslide  # pyrefly: ignore[missing-import]
        except ImportError:
            raise UnreadableImage(
                f"{path}: no TIFF; cure for formats of scanners: pip install openslide-python "
                "openslide-bin, or convert it to a tiled pyramidal TIFF"
            ) from None
        self.path = path
        try:
            self._slide = openslide.OpenSlide(path)
        except (openslide.OpenSlideError, OSError) as error:
            raise UnreadableImage(f"{path}: OpenSlide cannot read it ({error})") from None
        sizes = zip(self._slide.level_dimensions, self._slide.level_downsamples, strict=True)
        self.levels = tuple(Level(h, w, float(d), (1024, 1024)) for (w, h), d in sizes)
        self.channels, self.bits = 3, 8
        told = self._slide.properties.get(openslide.PROPERTY_NAME_MPP_X)
        self.spacing_um = sane_spacing(float(told) if told else None)

    def close(self) -> None:
        """Give the file back."""
        self._slide.close()

    def read(self, level: int, *, top: int, left: int, height: int, width: int) -> Pixels:
        """A region in pixels of its level, glass where it lies outside; 8 bit."""
        import openslide  # pyrefly: ignore[missing-import]

        scale = self.levels[level].downsample
        try:
            part = self._slide.read_region(
                (round(left * scale), round(top * scale)), level, (width, height)
            )
        except openslide.OpenSlideError as error:
            raise UnreadableImage(f"{self.path}: {error}") from None
        rgba = np.asarray(part)
        alpha = rgba[:, :, 3:].astype(np.uint16)  # nothing was scanned where it is 0
        blended = (rgba[:, :, :3] * alpha + GLASS * (255 - alpha) + 127) // 255
        return blended.astype(np.uint8)

    def fill(
        self,
        out: Shaped[np.ndarray, "region height width channel"],
        level: int,
        corners: Int[np.ndarray, "region corner"],
    ) -> None:
        """Read regions of one size, from their tops and lefts, one after the other."""
        height, width = out.shape[1:3]
        for region, (top, left) in zip(out, corners.tolist(), strict=True):
            region[:] = self.read(level, top=top, left=left, height=height, width=width)

    def fingerprint(self) -> str:
        """Of the sizes of all levels and what the smallest shows."""
        last = len(self.levels) - 1
        smallest = self.levels[last]
        sha = hashlib.sha256(repr(self.levels).encode())
        high, wide = smallest.chunk  # the only level may be far too large to be read at once
        for top in range(0, smallest.height, high):
            for left in range(0, smallest.width, wide):
                height, width = min(high, smallest.height - top), min(wide, smallest.width - left)
                seen = self.read(last, top=top, left=left, height=height, width=width)
                sha.update(seen.tobytes())
        return sha.hexdigest()
