"""A manifest whose only target column has these cells."""

from collections.abc import Sequence

import numpy as np

from foveal.manifest import Manifest


def manifest(
    target: Sequence[str], group: Sequence[str] | None = None, **roles: Sequence | None
) -> Manifest:
    n = len(target)
    given = {name: cells for name, cells in {"group": group, **roles}.items() if cells is not None}
    return Manifest(
        ids=tuple(f"c{k}" for k in range(n)),
        paths=tuple((f"/{k}.png",) for k in range(n)),
        id_column="id",
        target=np.array(target, dtype=np.str_).reshape(-1, 1),
        target_columns=("who",),
        roles={name: np.asarray(cells).astype(np.str_) for name, cells in given.items()},
    )
