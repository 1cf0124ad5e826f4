"""One number from several, for generators that take a single one.

A job's key says where all its randomness comes from. NumPy's generators take it as it is; those of
torch and scikit-learn want a number::

    torch.manual_seed(seed_of((0, 1712, 3)))
"""

from __future__ import annotations

import numpy as np


def seed_of(key: tuple[int, ...]) -> int:
    """A number of 32 bits, another one for another key.

    Example:
        >>> seed_of((0, 1)) == seed_of((0, 1)), seed_of((0, 1)) == seed_of((0, 2))
        (True, False)
    """
    return int(np.random.SeedSequence(key).generate_state(1)[0])
