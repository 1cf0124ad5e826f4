"""Can something that is no part of the problem tell the target?

Clinics have cameras, cameras have picture sizes, clinics have patients: on one famous retina set
the size alone reaches a quadratic kappa of .73. Such a set needs folds that keep sizes together.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, Shaped

from foveal.decide.thresholds import ClosedFormCuts
from foveal.errors import listed
from foveal.manifest import Manifest, Truth
from foveal.metrics.kappa import quadratic_kappa
from foveal.predictions import Predictions

PRIOR_CASES = 2.0
"""Cases at the overall mean that every value is mixed with, so that rare ones say little."""

PARTS = 5
"""Of the cases, at random; each is judged by the others."""

TELLS = 0.1
"""Kappa above which an attribute alone is said to tell the grade."""

BY_CHANCE = 3.5
"""Divided by the root of the number of cases: a kappa that one of hundreds of labels may have."""

CURES = {
    "picture size": "foveal init FOLDER --group image_size --replace",
    "site": "folds=site, which scores every site by models that never saw it",
    "source": "--group with the column of the source, where new cases come from other sources",
}
"""What to do where an attribute tells the grade."""

GROUPED_SIZES = "a --group column of your own, that keeps together what has one size or one group"
"""The cure where other groups must be kept together too."""


def telltales(manifest: Manifest, truth: Truth) -> list[str]:
    """The attributes that are no part of the problem and yet tell the grade, as sentences."""
    found = []
    for name, values in _attributes(manifest).items():
        told = told_by(values, truth, int(truth.target.max()) + 1)
        if told > _least(len(values)):
            found.append(
                f"the {name} alone tells the grade with a quadratic kappa of {told:.2f}: networks "
                f"may learn it instead{_cure(manifest, name, values)}"
            )
    return found


def label_telltales(manifest: Manifest) -> list[str]:
    """The attributes that tell some of the labels, or classes, that cases have, as sentences."""
    sets = [set(text.split()) for text in manifest.measured["label_names"].tolist()]
    each, none = np.arange(len(sets)), np.zeros(len(sets), dtype=np.int64)
    has = {
        label: Truth(
            target=np.array([label in own for own in sets], dtype=np.int64),
            weight=manifest.weight,
            group=each,
            fold=none,
        )
        for label in sorted(set().union(*sets))
    }
    least = _least(len(sets))
    found = []
    for name, values in _attributes(manifest).items():
        told = {label: told_by(values, truth, 2) for label, truth in has.items()}
        strong = sorted((label for label in told if told[label] > least), key=lambda k: -told[k])
        if strong:
            words = listed([f"{label} with a kappa of {told[label]:.2f}" for label in strong])
            found.append(
                f"the {name} alone tells {words}: networks may learn it instead"
                f"{_cure(manifest, name, values)}"
            )
    return found


def _least(cases: int) -> float:
    """Kappa above which an attribute is said to tell the target."""
    return max(TELLS, BY_CHANCE / max(cases, 1) ** 0.5)


def _attributes(manifest: Manifest) -> dict[str, Shaped[np.ndarray, " case"]]:
    """What is known of cases and no part of the problem."""
    known = {"picture size": manifest.measured.get("image_size")}
    known |= {role: manifest.roles.get(role) for role in ("site", "source")}
    return {name: values for name, values in known.items() if values is not None}


def _cure(manifest: Manifest, name: str, values: Shaped[np.ndarray, " case"]) -> str:
    """What to do, unless folds keep cases of one value together already."""
    if _kept_together(manifest, values):
        return ""
    grouped = name == "picture size" and "group" in manifest.roles
    return f"; cure: {GROUPED_SIZES if grouped else CURES[name]}"


def _kept_together(manifest: Manifest, values: Shaped[np.ndarray, " case"]) -> bool:
    """Whether all cases of a value are of one group; an empty cell is a group of its own."""
    group = manifest.roles.get("group")
    if group is None or (group == "").any():
        return False
    pairs = set(zip(values.tolist(), group.tolist(), strict=True))
    return len(pairs) == len(np.unique(values))


def told_by(values: Shaped[np.ndarray, " case"], truth: Truth, grades: int) -> float:
    """The quadratic kappa that one attribute reaches alone, each case judged by other cases.

    Args:
        values: The attribute of every case, such as "480x640".
        truth: Grades and weights.
        grades: K.

    Returns:
        Kappa; 0 where the attribute says nothing, or all cases share one value.
    """
    if len(np.unique(values)) < 2:
        return 0.0
    scores = _means_of_others(values, truth)
    predictions = Predictions.of(
        [str(k) for k in range(len(values))], scores[:, None].astype(np.float32), columns=("mean",)
    )
    labels = ClosedFormCuts(grades).fit(predictions, truth)(predictions)
    value = float(quadratic_kappa.value(quadratic_kappa.tally(labels, truth).sum(axis=0)))
    return max(value, 0.0) if np.isfinite(value) else 0.0


def _means_of_others(
    values: Shaped[np.ndarray, " case"], truth: Truth
) -> Float[np.ndarray, " case"]:
    """The mean grade of cases with the same value in other parts, mixed with the overall mean.

    In parts, not one by one: the mean without a case is the lower the higher its own grade is,
    which tells two grades apart the wrong way round.
    """
    _, place = np.unique(values, return_inverse=True)
    part = np.random.default_rng(0).permutation(len(values)) % PARTS
    table = np.zeros((2, PARTS, int(place.max()) + 1))
    for sums, amount in zip(table, (truth.weight, truth.weight * truth.target), strict=True):
        np.add.at(sums, (part, place), amount)
    weight, total = (table.sum(axis=1, keepdims=True) - table)[:, part, place]
    overall = np.average(truth.target, weights=truth.weight)
    return (total + PRIOR_CASES * overall) / (weight + PRIOR_CASES)


def conflicting_duplicates(
    manifest: Manifest, labels: Int[np.ndarray, " case"]
) -> list[tuple[str, str]]:
    """Pairs of ids whose pictures are equal byte for byte and whose labels are not."""
    first: dict[str, int] = {}
    found = []
    for k, value in enumerate(manifest.measured.get("sha256", np.zeros(0, dtype=np.str_)).tolist()):
        other = first.setdefault(value, k)
        if labels[other] != labels[k]:
            found.append((manifest.ids[other], manifest.ids[k]))
    return found


def conflicts(manifest: Manifest, labels: Int[np.ndarray, " case"], words: str) -> list[str]:
    """The pairs above as one sentence; nothing where there are none.

    Args:
        manifest: The cases.
        labels: One number a case.
        words: What is wrong with them, behind their number.
    """
    pairs = [f"{a} and {b}" for a, b in conflicting_duplicates(manifest, labels)]
    return [f"{len(pairs)} {words}: {listed(pairs)}"] if pairs else []
