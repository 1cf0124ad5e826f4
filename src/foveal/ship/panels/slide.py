"""Sections of a slide study's report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from foveal.arrays import Pixels
from foveal.combine.leaderboard import NO_SITE
from foveal.errors import DataError
from foveal.files import read_json
from foveal.manifest import Case, Truth
from foveal.metrics.interval import bootstrap
from foveal.metrics.kappa import quadratic_kappa
from foveal.ship.numbers import number, span
from foveal.ship.panels.grade import confusion, graded, scores
from foveal.ship.panels.study import (
    Section,
    cards,
    chosen_step,
    cost,
    counted,
    curves,
    folds,
    groups_of,
    leaderboard,
    picture,
    table,
    what_was_run,
)
from foveal.study import NOTES, Study

SHOWN = 8
"""Slides that are shown."""

DRAWN_SIDE = 480
"""Longest side of a slide on which tiles are drawn, in pixels."""

CHOSEN, IGNORED = np.array((214, 84, 40)), np.array((120, 120, 120))
"""Colours, red, green and blue, of a tile that counts most and of one that does not count."""

Look = Callable[[Case], tuple[Pixels, Float[np.ndarray, "tile 3"]]]
"""From a slide to a small picture of it, and top, left and side of its tiles there."""


def slide_panels(look: Look) -> tuple[Callable, ...]:
    """The report of a slide study.

    Args:
        look: Shows the tiles that were chosen.
    """
    return (
        what_was_run,
        leaderboard,
        by_site,
        confusion,
        scores,
        TilesChosen(look),
        folds,
        curves,
        cost,
    )


def by_site(study: Study) -> Section:
    """How well each site is graded, and how well all are apart from how they differ."""
    rows, manifest = counted(study), study.manifest()
    if "site" not in manifest.roles:
        return Section("Sites", "No --site was named.", Markup(""))
    site, place = manifest.roles["site"], {name: k for k, name in enumerate(manifest.ids)}
    at = np.array([place[r["id"]] for r in rows])
    labels = np.array([int(r["label"]) for r in rows])
    truth = Truth(
        target=np.array([int(r["truth"]) for r in rows]),
        weight=manifest.weight[at],
        group=groups_of(study, [r["id"] for r in rows]),
        fold=np.array([int(r["fold"]) for r in rows]),
    )
    tally = quadratic_kappa.tally(labels, truth)
    own = _own_cuts(study)
    lines, within = [_line("all", tally, truth, labels, "")], []
    for name in np.unique(site[at]).tolist():
        here = np.flatnonzero(site[at] == name)
        part = truth.take(here)
        words = "own" if name in own else "common"
        lines.append(_line(name or NO_SITE, tally[here], part, labels[here], words))
        within.append((float(part.weight.sum()), quadratic_kappa.value(tally[here].sum(axis=0))))
    known = [(w, k) for w, k in within if np.isfinite(k)]
    mean = sum(w * k for w, k in known) / max(sum(w for w, _ in known), 1e-300)
    lead = (
        f"Chosen row, out of fold. Within sites kappa is {number(mean)} on average, weighted by "
        "cases; that of all together also counts how sites differ from each other."
    )
    header = ["site", "cases", "mean grade", "mean given", "kappa", "95 % interval", "cuts"]
    return Section("Sites", lead, table(header, lines))


def _line(
    name: str, tally: np.ndarray, truth: Truth, labels: np.ndarray, cuts: str
) -> list[object]:
    weight = np.maximum(truth.weight.sum(), 1e-300)
    return [
        name,
        len(labels),
        number(float(truth.weight @ truth.target / weight), 2),
        number(float(truth.weight @ labels / weight), 2),
        number(float(quadratic_kappa.value(tally.sum(axis=0)))),
        span(bootstrap(quadratic_kappa, *quadratic_kappa.pieces(tally, labels, truth))),
        cuts,
    ]


def _own_cuts(study: Study) -> tuple[str, ...]:
    """Sites whose cuts are their own in the chosen row."""
    decode: Mapping[str, list[str]] = chosen_step(study)["decode"]
    return tuple(decode.get("sites", ()))


@dataclass(frozen=True, slots=True)
class TilesChosen:
    """Slides with their tiles, the worst graded first.

    Attributes:
        look: From a slide to a small picture of it and its tiles.
    """

    look: Look

    def __call__(self, study: Study) -> Section:
        """The section of a study."""
        manifest = study.manifest()
        place = {name: k for k, name in enumerate(manifest.ids)}
        rows = sorted(counted(study), key=lambda r: -abs(float(r["score"]) - float(r["truth"])))
        looks, member = attention(study)
        shown = [
            graded(self._drawn(manifest.case(place[r["id"]]).as_new, looks.get(r["id"])), r)
            for r in rows[:SHOWN]
        ]
        told = (
            f" The redder, the more {member} looked at a tile while the slide was not learned from."
            if looks
            else ""
        )
        lead = (
            "Farthest from their grade, out of fold, with the tiles that were chosen: look for pen "
            f"and folds taken for tissue, tissue left out, wrong grades.{told}"
        )
        return Section("Tiles of the worst slides", lead, cards(shown))

    def _drawn(self, case: Case, weights: list[float] | None) -> str:
        try:
            image, tiles = self.look(case)
        except DataError:
            return ""
        image = image if image.shape[2] == 3 else image[:, :, [0, 0, 0]]
        larger = DRAWN_SIDE / max(image.shape[:2])
        image = cv2.resize(image, None, fx=larger, fy=larger, interpolation=cv2.INTER_LINEAR)
        share = np.ones(len(tiles)) if weights is None else np.array(weights[: len(tiles)])
        share = share / max(share.max(initial=0.0), 1e-12)
        for (top, left, side), part in zip((tiles * larger).tolist(), share.tolist(), strict=True):
            colour = (part * CHOSEN + (1 - part) * IGNORED).tolist()
            corner, other = (round(left), round(top)), (round(left + side), round(top + side))
            cv2.rectangle(image, corner, other, colour, 1 + round(part))
        return picture(image)


def attention(study: Study) -> tuple[dict[str, list[float]], str]:
    """How much a member looked at the tiles of every case, where one says so, and its name."""
    jobs = read_json(study.answers_file)["jobs"]
    for member, trained in jobs.items():
        found: dict[str, list[float]] = {}
        for fold in range(len(trained)):
            state = read_json(study.job_folder(member, fold) / NOTES)
            found |= state.get("attention", {})
        if found:
            return found, member
    return {}, ""
