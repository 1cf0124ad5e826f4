"""A manifest with a target column of these cells."""

import numpy as np

from foveal.manifest import Manifest


def manifest(target: list[str], weight: np.ndarray | None = None) -> Manifest:
    n = len(target)
    roles = {} if weight is None else {"weight": weight.astype(np.str_)}
    return Manifest(
        ids=tuple(f"c{k}" for k in range(n)),
        paths=tuple((f"/{k}.png",) for k in range(n)),
        id_column="id",
        target=np.array(target, dtype=np.str_).reshape(-1, 1),
        target_columns=("who",),
        roles=roles,
    )
