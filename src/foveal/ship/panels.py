"""Pieces of the report, each a function from a study to a section of the page."""

from __future__ import annotations

import base64
import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup, escape

from foveal.ship.charts import histogram, intervals, lines
from foveal.study import Study, read_json

WORST_CASES = 12
THUMBNAIL_SIDE = 160


class Section(NamedTuple):
    """A heading, a sentence under it, and what follows."""

    title: str
    lead: str
    body: Markup


def what_was_run(study: Study) -> Section:
    """Recipe, options, data."""
    settings = study.settings()
    facts, source = settings.facts, settings.source
    sizes = (
        f"{len(facts.sizes)} picture sizes" if len(facts.sizes) > 1 else next(iter(facts.sizes), "")
    )
    rows = [
        ("recipe", settings.recipe),
        (
            "options",
            ", ".join(f"{k}={v}" for k, v in settings.options.items()) or "all as they come",
        ),
        ("table", source.table),
        ("images", source.images),
        ("target", ", ".join(source.target)),
        (
            "roles",
            ", ".join(
                f"{r}: {getattr(source, r)}"
                for r in ("group", "site", "weight", "fold")
                if getattr(source, r)
            )
            or "none",
        ),
        ("cases", f"{facts.cases:,}"),
        ("pictures", f"{sizes}, {facts.channels} channels, {facts.bits} bit"),
    ]
    body = "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in rows)
    return Section("What was run", "", Markup(f'<table class="facts">{body}</table>'))


def leaderboard(study: Study) -> Section:
    """Members and ensembles with honest scores."""
    board = read_json(study.combine_folder / "leaderboard.json")
    rows = []
    for row in board["rows"]:
        kind = "chosen" if row["name"] == board["chosen"] else "below" if row["below_floor"] else ""
        rows.append((row["name"], *_triple(row), kind))
    sites = list(board["rows"][0]["sites"])
    header = [
        "",
        "members",
        "score",
        "95 % interval",
        "by fold",
        *sites,
        "s / case, per fold model",
    ]
    table = [
        [
            _name(row, board),
            str(len(row["members"])),
            _number(row["score"]),
            _range(row["interval"]),
            " ".join(_number(v, 2) for v in row["folds"].values()),
            *(_number(row["sites"][s]) for s in sites),
            f"{row['seconds']:.3f}",
        ]
        for row in board["rows"]
    ]
    low, high = board["nested_interval"]
    lead = (
        f"Quadratic kappa, cross-fitted: cuts and weights never saw the rows that they are judged "
        f"on. The chosen row is the simplest within one paired standard error of the best. With "
        f"the choice itself repeated inside the folds it scores {_number(board['nested'])} "
        f"({_number(low)} to {_number(high)})."
    )
    return Section(
        "Leaderboard", lead, intervals(rows, x="quadratic kappa") + _table(header, table)
    )


def folds(study: Study) -> Section:
    """How the cases were held back in turn."""
    rows = _oof(study)
    notes = read_json(study.split_folder / "split.json")
    grades = sorted({int(r["truth"]) for r in rows})
    names = sorted({int(r["fold"]) for r in rows})
    counts = {(f, g): 0 for f in names for g in grades}
    for r in rows:
        counts[int(r["fold"]), int(r["truth"])] += 1
    table = [
        [f"fold {f}", *(str(counts[f, g]) for g in grades), str(sum(counts[f, g] for g in grades))]
        for f in names
    ]
    said = " ".join(f"{n}." for n in notes["notes"])
    lead = (
        f"Cases by grade. {100 * notes['imbalance']:.1f} % of the cases would have to move for "
        f"perfect balance. {said}"
    )
    return Section("Folds", lead, _table(["", *(f"grade {g}" for g in grades), "all"], table))


def curves(study: Study) -> Section:
    """Loss in training and score of the held fold, by epoch."""
    loss: dict[str, list[tuple[float, float]]] = {}
    held: dict[str, list[tuple[float, float]]] = {}
    group: dict[str, int] = {}
    members = _members(study)
    for number, member in enumerate(members):
        for file in sorted((study.folder / "members" / member).glob("*/metrics.csv")):
            name = f"{member} fold {file.parent.name}"
            rows = list(csv.DictReader(io.StringIO(file.read_text())))
            if rows:
                group[name] = number
                loss[name] = [(float(r["epoch"]), float(r["loss"])) for r in rows]
                held[name] = [(float(r["epoch"]), float(r["held"])) for r in rows if r["held"]]
    if not loss:
        return Section("Curves", "No network was trained.", Markup(""))
    key = Markup(" ").join(
        Markup('<span class="key c{}">{}</span>').format(k % 6, m)
        for k, m in enumerate(members)
        if k in group.values()
    )
    charts = lines(loss, x="epoch", y="loss in training", group=group) + lines(
        held, x="epoch", y="kappa of the held fold, cuts fitted on it", group=group
    )
    lead = "One line a fold. The last weights are used, so the held fold chooses nothing."
    return Section("Curves", lead, key + Markup('<div class="pair">{}</div>').format(charts))


def confusion(study: Study) -> Section:
    """Truth against the cross-fitted grade of the chosen row."""
    rows = _oof(study)
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
    lead = (
        f"Chosen row, out of fold. {100 * np.trace(table) / table.sum():.0f} % are exactly right."
    )
    return Section("Confusion", lead, Markup(html))


def scores(study: Study) -> Section:
    """The scores of the chosen row and where they are cut."""
    answers = read_json(study.combine_folder / "answers.json")
    cuts = answers["rows"][answers["chosen"]][-1]["decode"]["cuts"]
    values = [float(r["score"]) for r in _oof(study)]
    chart = histogram(values, [c for c in cuts if math.isfinite(c)], x="expected grade", y="cases")
    said = ", ".join(f"{c:.3f}" for c in cuts)
    return Section("Scores and cuts", f"Cuts fitted on all out-of-fold scores: {said}.", chart)


def worst_cases(study: Study) -> Section:
    """Pictures whose out-of-fold score is farthest from their grade."""
    manifest = study.manifest()
    place = {name: k for k, name in enumerate(manifest.ids)}
    rows = sorted(_oof(study), key=lambda r: -abs(float(r["score"]) - float(r["truth"])))
    cards = []
    for r in rows[:WORST_CASES]:
        picture = _thumbnail(manifest.paths[place[r["id"]]][0])
        cards.append(
            Markup(
                '<figure class="card">{}<figcaption><b>{}</b><br>'
                "true {}, scored {:.2f}</figcaption></figure>"
            ).format(
                Markup('<img src="{}" alt="">').format(picture) if picture else "",
                r["id"],
                r["truth"],
                float(r["score"]),
            )
        )
    lead = (
        "Farthest from their grade, out of fold: look for wrong grades, bad pictures, rare kinds."
    )
    return Section(
        "Worst cases", lead, Markup('<div class="cards">{}</div>').format(Markup("").join(cards))
    )


def cost(study: Study) -> Section:
    """What training and prediction took, measured."""
    board = read_json(study.combine_folder / "leaderboard.json")
    alone = {row["members"][0]: row for row in board["rows"] if len(row["members"]) == 1}
    table = []
    for member in _members(study):
        files = sorted((study.folder / "members" / member).glob("*/state.json"))
        notes = [read_json(f) for f in files]
        seconds = sum(n.get("fit_seconds", 0.0) for n in notes)
        size = sum(f.with_name("state.safetensors").stat().st_size for f in files) / 1e6
        table.append(
            [
                member,
                str(len(files)),
                f"{seconds / 60:.1f} min",
                f"{size:.1f} MB",
                f"{1000 * alone[member]['seconds']:.1f} ms",
                _numerics(notes),
            ]
        )
    header = [
        "member",
        "trainings",
        "job time",
        "weights",
        "per case and fold model",
        "computed as",
    ]
    return Section(
        "Cost", "Measured while it ran, so only roughly repeatable.", _table(header, table)
    )


IDENTITY_PANELS = (what_was_run, leaderboard, curves, cost)

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


def _oof(study: Study) -> list[dict[str, str]]:
    with (study.combine_folder / "oof.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _members(study: Study) -> list[str]:
    return list(read_json(study.combine_folder / "answers.json")["jobs"])


def _triple(row: Mapping[str, Any]) -> tuple[float, float, float]:
    low, high = row["interval"]
    return low, row["score"], high


def _name(row: Mapping[str, Any], board: Mapping[str, Any]) -> Markup:
    name = escape(row["name"])
    if row["name"] == board["chosen"]:
        return Markup('<b>{}</b> <span class="tag">chosen</span>').format(name)
    return (
        Markup('{} <span class="tag low">below the floor</span>').format(name)
        if row["below_floor"]
        else name
    )


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if value is not None and math.isfinite(value) else "-"


def _range(interval: Sequence[float]) -> str:
    return f"{_number(interval[0])} to {_number(interval[1])}"


def _numerics(notes: Sequence[Mapping[str, Any]]) -> str:
    words = {
        f"{n['device']}, {n['precision']}{', channels last' if n['channels_last'] else ''}"
        for n in notes
        if "precision" in n
    }
    return "; ".join(sorted(words)) or "NumPy"


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> Markup:
    head = Markup("").join(Markup("<th>{}</th>").format(h) for h in header)
    lines = [
        Markup("<tr>{}</tr>").format(Markup("").join(Markup("<td>{}</td>").format(c) for c in row))
        for row in rows
    ]
    return Markup('<div class="scroll"><table><tr>{}</tr>{}</table></div>').format(
        head, Markup("").join(lines)
    )


def _thumbnail(path: str) -> str:
    """A small picture as a data address; empty where the file is gone."""
    import cv2

    from foveal.errors import DataError
    from foveal.read.image import decode

    try:
        image = decode(path)
    except DataError:
        return ""
    scale = THUMBNAIL_SIDE * 1.5 / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    shown = image[:, :, :3] if image.shape[2] >= 3 else image[:, :, :1]
    shown = cv2.resize(np.ascontiguousarray(shown), size, interpolation=cv2.INTER_AREA)
    shown = shown[:, :, ::-1] if shown.ndim == 3 else shown
    data = cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()
