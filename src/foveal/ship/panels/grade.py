"""Sections of an ordinal study's report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from foveal.ship.charts import histogram
from foveal.ship.panels.study import (
    Section,
    card,
    cards,
    chosen_step,
    cost,
    counted,
    curves,
    folds,
    leaderboard,
    thumbnail,
    what_was_run,
)
from foveal.study import Study

WORST_CASES = 12


def confusion(study: Study) -> Section:
    """Truth against the cross-fitted grade of the chosen row."""
    rows = counted(study)
    top = max(max(int(r["truth"]), int(r["label"])) for r in rows)
    table = np.zeros((top + 1, top + 1), dtype=int)
    for r in rows:
        table[int(r["truth"]), int(r["label"])] += 1
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)

    def cell(g: int, h: int) -> str:
        kind = "hit" if g == h else "miss"
        return f'<td style="--share:{share[g, h]:.3f}" class="{kind}">{table[g, h]}</td>'

    body = "".join(
        f"<tr><th>{g}</th>" + "".join(cell(g, h) for h in range(top + 1)) + "</tr>"
        for g in range(top + 1)
    )
    head = "".join(f"<th>{h}</th>" for h in range(top + 1))
    html = f'<table class="confusion"><tr><th>true \\ given</th>{head}</tr>{body}</table>'
    weight = np.array([float(r.get("weight", 1)) for r in rows])
    is_right = np.array([r["truth"] == r["label"] for r in rows])
    right = 100 * weight @ is_right / weight.sum()
    lead = f"Chosen row, out of fold. {right:.0f} % are exactly right."
    return Section("Confusion", lead, Markup(html))


def scores(study: Study) -> Section:
    """The scores of the chosen row and where they are cut."""
    cuts = _common_cuts(chosen_step(study)["decode"])
    values = [float(r["score"]) for r in counted(study)]
    chart = histogram(values, [c for c in cuts if math.isfinite(c)], x="expected grade", y="cases")
    said = ", ".join(f"{c:.3f}" for c in cuts)
    lead = f"Scores out of fold, and the cuts that answer, fitted on all of them: {said}."
    return Section("Scores and cuts", lead, chart)


def worst_cases(study: Study) -> Section:
    """Pictures whose out-of-fold score is farthest from their grade."""
    manifest = study.manifest()
    place = {name: k for k, name in enumerate(manifest.ids)}
    rows = sorted(counted(study), key=lambda r: -abs(float(r["score"]) - float(r["truth"])))
    shown = [graded(thumbnail(manifest.paths[place[r["id"]]][0]), r) for r in rows[:WORST_CASES]]
    lead = (
        "Farthest from their grade, out of fold: look for wrong grades, bad pictures, rare kinds."
    )
    return Section("Worst cases", lead, cards(shown))


def graded(address: str, row: Mapping[str, str]) -> Markup:
    """A picture, if there is one, over what is true of it and what was said."""
    words = Markup("<b>{}</b><br>true {}, scored {:.2f}")
    return card(address, words.format(row["id"], row["truth"], float(row["score"])))


def _common_cuts(decode: Mapping[str, Any]) -> list[float]:
    """The cuts of a fitted rule; those for all sites where sites have their own."""
    cuts = decode["cuts"]
    return cuts if isinstance(cuts, list) else _common_cuts(cuts)


GRADE_PANELS = (
    what_was_run,
    leaderboard,
    confusion,
    scores,
    worst_cases,
    folds,
    curves,
    cost,
)
"""The report of an ordinal study."""
