"""Where something is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from foveal.errors import TargetError
from foveal.lattice import blocks_of, labels_digest, labels_of, planes_of
from foveal.manifest import Manifest, Truth, Window
from foveal.metrics.interval import FEWEST
from foveal.split.record import Split


@dataclass(frozen=True, slots=True)
class Mask:
    """One mask a volume, as wide and high as its slices.

    Attributes:
        lattice: Pixels a cell is wide in which masks are learned and judged.
        said: What a person should know of the volumes before anything is trained.
    """

    lattice: int
    said: tuple[str, ...] = field(default=(), metadata={"digest": False})

    def encode(self, manifest: Manifest) -> Shaped[np.ndarray, " case"]:
        """The file of every case's mask; `init` has read them, and who predicts needs none."""
        return manifest.only_target()

    def remarks(
        self, encoded: Shaped[np.ndarray, " case"], weight: Float[np.ndarray, " case"]
    ) -> list[str]:
        """What the recipe found in the facts; the files of masks tell nothing."""
        return list(self.said)

    def train(self, encoded: Shaped[np.ndarray, " case"]) -> Shaped[np.ndarray, " case"]:
        """The files themselves."""
        return encoded

    def truth(
        self, manifest: Manifest, encoded: Shaped[np.ndarray, " case"], split: Split
    ) -> Truth:
        """What lies in every cell of every unit.

        Raises:
            TargetError: A mask or region is missing, or is not what `init` read.
        """
        measured = manifest.measured["labels"].tolist()
        files = {labels_of(manifest, k): said for k, said in enumerate(measured)}
        missing = sorted({path for own in files for path in own if not Path(path).is_file()})
        if missing:
            raise TargetError(
                f"{len(missing)} masks or regions are missing, without which nothing is trained or "
                "judged; cure: put them back, or foveal init FOLDER --replace with where they are",
                missing,
            )
        if changed := sorted(
            {own[-1] for own, said in files.items() if labels_digest(own) != said}
        ):
            raise TargetError(
                f"{len(changed)} masks, or the regions beside them, are not what init read; cure: "
                "the files as they were, or foveal init FOLDER --replace, which reads them anew",
                changed,
            )
        planes = planes_of(manifest.cases(), encoded.tolist(), self.lattice)
        block = None
        if split.window is not None:  # parts of volumes that may lie on top of each other
            block = blocks_of(split.window, self.lattice)
        elif len(np.unique(split.group[manifest.weight > 0])) < FEWEST:
            whole = [_window_of(plane.shape, self.lattice) for plane in planes.area]
            block = blocks_of(whole, self.lattice, split.group)
        return replace(split.truth(manifest, encoded), target=replace(planes, block=block))


def _window_of(cells: tuple[int, ...], lattice: int) -> Window:
    """All of a plane of so many cells."""
    return Window(top=0, left=0, height=cells[0] * lattice, width=cells[1] * lattice)
