"""Where "someone new" belongs among ranked identities: the best cut for MAP@k, by one sweep.

An answer names the identities whose score reaches the cut, then "new", then the rest. A query whose
identity is known and ranked r gains when "new" moves behind it, once, at the score of rank r; a new
query loses a little at every score that "new" moves behind. Sorted, all these steps are a curve
over the cut, and its highest point is the answer: exact, one sort instead of a grid over lists::

    cut = best_new_cut(scores, rank, weight)    # scores "query k", best first
    rank: 1 to k where the true identity stands, 0 for a new query, k + 1 for one not among them
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from foveal.errors import ShapeError


def best_new_cut(
    scores: Float[np.ndarray, "query k"],
    rank: Int[np.ndarray, " query"],
    weight: Float[np.ndarray, " query"],
) -> tuple[float, float]:
    """The cut with the highest weighted MAP@k, and that score.

    Args:
        scores: Of the best k identities of every query, falling; -inf where there are fewer.
        rank: Of the true identity, 1 to k; 0 where the query is new, k + 1 where it is not named.
        weight: How much a query counts.

    Returns:
        The cut (identities with at least this score come before "new"; infinity for none), in the
        middle between the two scores where it stops being the best, and the MAP@k that it reaches
        on these queries.

    Raises:
        ShapeError: Scores do not fall along a row.
    """
    if (scores[:, 1:] > scores[:, :-1]).any():
        raise ShapeError("scores of a query must be sorted, the best first")
    k = scores.shape[1]
    worth = np.append(1.0 / np.arange(1, k + 1), 0.0)  # of places 1 to k, and of none
    is_new, is_named = rank == 0, (rank >= 1) & (rank <= k)
    places = rank[is_named]
    gain = weight[is_named] * (worth[places - 1] - worth[places])
    loss = -weight[is_new, None] * (worth[:-1] - worth[1:])
    at = np.concatenate([scores[is_named, places - 1], scores[is_new].reshape(-1)])
    step = np.concatenate([gain, loss.reshape(-1)])
    seen = np.isfinite(at)
    at, step = at[seen], step[seen]
    order = np.argsort(-at, kind="stable")
    at, climb = at[order], np.cumsum(step[order])
    first = weight[is_new].sum() + (weight[is_named] * worth[places]).sum()
    is_end = np.append(at[1:] != at[:-1], True) if len(at) else np.zeros(0, dtype=bool)
    cuts, values = np.append(np.inf, at[is_end]), first + np.append(0.0, climb[is_end])
    best = int(values.argmax())
    below = cuts[best + 1] if best + 1 < len(cuts) else cuts[best]
    middle = (cuts[best] + below) / 2
    cut = middle if middle > below else cuts[best]  # neither rounded down nor the last of all
    return float(cut), float(values[best] / weight.sum())
