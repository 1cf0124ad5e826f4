"""Sections of the report of a study that recognises individuals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from markupsafe import Markup

from foveal.ship.charts import histogram
from foveal.ship.numbers import number
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
    table,
    thumbnail,
    what_was_run,
)
from foveal.study import Study

SHOWN = 6
"""Queries that are shown with their answers, and mistakes of each kind."""

BINS = 40


@dataclass(frozen=True)
class _Queries:
    """What the chosen row answered out of fold, one entry a query."""

    study: Study

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        return counted(self.study)

    @cached_property
    def decode(self) -> Mapping[str, object]:
        return chosen_step(self.study)["decode"]

    @cached_property
    def is_new(self) -> np.ndarray:
        return np.array([r["truth"] == self.decode["new"] for r in self.rows])

    @cached_property
    def weight(self) -> np.ndarray:
        return np.array([float(r["weight"]) for r in self.rows])

    @cached_property
    def score(self) -> np.ndarray:
        return np.array([float(r["score"]) for r in self.rows])

    def place(self, column: str) -> np.ndarray:
        """Where the true name stands in an answer, from 1; infinity where it does not."""
        lists = [r[column].split() for r in self.rows]
        return np.array(
            [
                names.index(r["truth"]) + 1 if r["truth"] in names else math.inf
                for names, r in zip(lists, self.rows, strict=True)
            ]
        )


def success(study: Study) -> Section:
    """How often the right name is found, and how early."""
    queries = _Queries(study)
    known, k = ~queries.is_new, int(str(queries.decode["k"]))
    asked = [("all", np.ones(len(known), dtype=bool), queries.place("label"))]
    if queries.is_new.any():
        asked += [("new", queries.is_new, queries.place("label"))]
        asked += [("known", known, queries.place("label"))]
    asked += [("known, nobody new", known, queries.place("best"))]
    rows = []
    for name, rows_of, place in asked:
        share = queries.weight[rows_of] / (queries.weight[rows_of].sum() or math.nan)
        reached = [float(share @ (place[rows_of] <= top)) for top in range(1, k + 1)]
        precision = float(share @ (1 / place[rows_of]))
        rows.append([name, str(int(rows_of.sum())), *map(number, (precision, *reached))])
    header = ["queries", "count", f"MAP@{k}", *(f"first {top}" for top in range(1, k + 1))]
    lead = (
        "Chosen row, out of fold, queries weighted to the share of new ones that is expected. "
        "First n: the share whose right name stands among the first n (CMC). In the last line "
        "nobody is answered to be new."
    )
    return Section("How often the right name is found", lead, table(header, rows))


def scores(study: Study) -> Section:
    """The best score of known and of new queries, and the cut between them."""
    queries = _Queries(study)
    edges = np.linspace(queries.score.min(), max(queries.score.max(), 1e-6), BINS + 1)
    cut = queries.decode["cut"]
    marks = [cut] if isinstance(cut, float) and math.isfinite(cut) else []
    charts = [
        histogram(
            queries.score[which].tolist(),
            marks,
            x=f"best score of {name} queries",
            y="",
            bins=edges,
        )
        for name, which in (("known", ~queries.is_new), ("new", queries.is_new))
        if which.any()
    ]
    said = f"Names that score at least {cut:.3f} come before somebody new." if marks else ""
    body = Markup('<div class="pair">{}</div>').format(Markup("").join(charts))
    return Section("Scores and the cut", said, body)


def searches(study: Study) -> Section:
    """Queries with their answers, from the surest to the least sure."""
    queries = _Queries(study)
    order = np.argsort(-queries.score, kind="stable")
    spread = order[np.linspace(0, len(order) - 1, min(SHOWN, len(order))).astype(int)]
    lead = "Queries from the highest best score to the lowest, each with its answer, best first."
    return Section("Searches", lead, _shown(queries, spread.tolist()))


def mistakes(study: Study) -> Section:
    """The surest wrong answers: someone known not found, someone new taken for another."""
    queries = _Queries(study)
    place = queries.place("label")
    order = np.argsort(-queries.score, kind="stable")
    missed = [k for k in order.tolist() if not queries.is_new[k] and not place[k] <= 1][:SHOWN]
    taken = [k for k in order.tolist() if queries.is_new[k] and not place[k] <= 1][:SHOWN]
    lead = (
        "The surest wrong answers, out of fold: look for wrong names, one individual under two "
        "names, bad pictures."
    )
    heads = (
        ("Known, but another name stands first", missed),
        ("New, but taken for another", taken),
    )
    body = Markup("").join(
        Markup("<h3>{}</h3>{}").format(head, _shown(queries, which))
        for head, which in heads
        if which
    )
    return Section("Worst mistakes", lead, body)


IDENTITY_PANELS = (
    what_was_run,
    leaderboard,
    success,
    scores,
    searches,
    mistakes,
    folds,
    curves,
    cost,
)
"""The report of a study that recognises individuals."""


def _shown(queries: _Queries, which: Sequence[int]) -> Markup:
    """A line of pictures a query: itself, then somebody of each name it was given."""
    manifest = queries.study.manifest()
    place = {name: k for k, name in enumerate(manifest.ids)}
    of_name: dict[str, list[int]] = {}
    for k, name in enumerate(manifest.target[:, 0].tolist()):
        of_name.setdefault(name, []).append(k)
    lines = []
    for k in which:
        row = queries.rows[k]
        mine = place[row["id"]]
        query = Markup("<b>query</b> {}<br>is {}").format(row["id"], row["truth"])
        shown = [card(thumbnail(manifest.paths[mine][0]), query, instead=NOBODY)]
        for name in row["label"].split():
            others = [r for r in of_name.get(name, []) if r != mine]
            is_somebody = name != queries.decode["new"] and others
            picture = thumbnail(manifest.paths[others[0]][0]) if is_somebody else ""
            right = "right" if name == row["truth"] else ""
            words = Markup("<b>{}</b>").format(name)
            shown.append(card(picture, words, kind=right, instead=NOBODY))
        lines.append(cards(shown, "search"))
    return Markup("").join(lines)


NOBODY = Markup('<div class="nobody">?</div>')
"""In place of a picture of somebody who is new, or whose picture is gone."""
