"""Sections of every study's report, and what sections are made with."""

from __future__ import annotations

import base64
import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int
from markupsafe import Markup, escape

from foveal.files import read_json
from foveal.ship.charts import intervals, lines
from foveal.ship.numbers import metric_name, number, span
from foveal.split.record import Split
from foveal.study import CURVE, NOTES, STATE, Study

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
    kinds = len({*study.manifest().measured.get("image_size", np.zeros(0)).tolist()})
    sizes = f"{kinds} picture sizes" if kinds > 1 else next(iter(facts.sizes), "")
    channels = f"{facts.channels} channel{'s' if facts.channels > 1 else ''}"
    rows = [
        ("recipe", settings.recipe),
        (
            "options",
            ", ".join(f"{k}={v}" for k, v in settings.options.items()) or "all as they come",
        ),
        ("table", source.table),
        ("files", source.images or ", ".join(source.files)),
        ("target", ", ".join(source.target)),
        (
            "roles",
            ", ".join(
                f"{r}: {getattr(source, r)}"
                for r in ("group", "site", "weight", "fold", "source")
                if getattr(source, r)
            )
            or "none",
        ),
        ("cases", f"{facts.cases:,}"),
        ("pictures", f"{sizes}, {channels}, {facts.bits} bit"),
    ]
    body = "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in rows)
    return Section("What was run", "", Markup(f'<table class="facts">{body}</table>'))


def leaderboard(study: Study) -> Section:
    """Members and ensembles with honest scores."""
    board = read_json(study.leaderboard_file)
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
    body = [
        [
            _name(row, board),
            str(len(row["members"])),
            number(row["score"]),
            span(row["interval"]),
            " ".join(number(v, 2) for v in row["folds"].values()),
            *(number(row["sites"][s]) for s in sites),
            f"{row['seconds']:.3f}",
        ]
        for row in board["rows"]
    ]
    metric = metric_name(board["metric"])
    nested = "To repeat the choice itself inside the folds takes three with cases that count."
    if board["nested_interval"] is not None:
        nested = (
            f"With the choice itself repeated inside the folds it scores {number(board['nested'])} "
            f"({span(board['nested_interval'])})."
        )
    lead = (
        f"{metric}, cross-fitted: cuts and weights never saw the rows that they are "
        f"judged on. The chosen row is the simplest within one paired standard error of the best. "
        f"{nested}"
    )
    return Section("Leaderboard", lead, intervals(rows, x=metric) + table(header, body))


def folds(study: Study) -> Section:
    """What each fold judges."""
    notes = read_json(study.split_notes_file)
    header, *rows = [line.split() for line in split_of(study).lines()]
    rows = [[f"fold {k}" if k != "-" else "no fold", *counts] for k, *counts in rows]
    said = " ".join(f"{n}." for n in notes["notes"])
    lead = (
        f"Cases that each fold judges. {100 * notes['imbalance']:.1f} % of the {notes['counted']} "
        f"would have to move for perfect balance. {said}"
    )
    return Section("Folds", lead, table(["", *header[1:]], rows))


def curves(study: Study) -> Section:
    """Loss in training and score of the held fold, by epoch."""
    loss: dict[str, list[tuple[float, float]]] = {}
    held: dict[str, list[tuple[float, float]]] = {}
    group: dict[str, int] = {}
    members = _members(study)
    for colour, (member, jobs) in enumerate(members.items()):
        for fold, job in enumerate(jobs):
            name = f"{member} fold {fold}"
            rows = list(csv.DictReader(io.StringIO((job / CURVE).read_text())))
            if rows:
                group[name] = colour
                loss[name] = [(float(r["epoch"]), float(r["loss"])) for r in rows]
                told = ((float(r["epoch"]), float(r["held"])) for r in rows if r["held"])
                held[name] = [point for point in told if np.isfinite(point[1])]
    metric = metric_name(read_json(study.leaderboard_file)["metric"])
    if not loss:
        return Section("Curves", "No network was trained.", Markup(""))
    key = Markup(" ").join(
        Markup('<span class="key c{}">{}</span>').format(k % 6, m)
        for k, m in enumerate(members)
        if k in group.values()
    )
    charts = lines(loss, x="epoch", y="loss in training", group=group) + lines(
        held, x="epoch", y=f"{metric} of the held fold, cuts fitted on it", group=group
    )
    lead = "One line a fold. The last weights are used, so the held fold chooses nothing."
    return Section("Curves", lead, key + Markup('<div class="pair">{}</div>').format(charts))


def cost(study: Study) -> Section:
    """What training and prediction took, measured."""
    board = read_json(study.leaderboard_file)
    alone = {row["members"][0]: row for row in board["rows"] if len(row["members"]) == 1}
    rows = []
    for member, jobs in _members(study).items():
        notes = [read_json(job / NOTES) for job in jobs]
        seconds = sum(n.get("fit_seconds", 0.0) for n in notes)
        size = sum((job / STATE).stat().st_size for job in jobs) / 1e6
        rows.append(
            [
                member,
                str(len(jobs)),
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
        "Cost", "Measured while it ran, so only roughly repeatable.", table(header, rows)
    )


def oof(study: Study) -> list[dict[str, str]]:
    """The rows of `oof.csv`."""
    with study.out_of_fold_file.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def counted(study: Study) -> list[dict[str, str]]:
    """Those of them that have a weight; the others are neither learned from nor judged."""
    return [row for row in oof(study) if float(row.get("weight", 1)) > 0]


def chosen_step(study: Study) -> Mapping[str, Any]:
    """What the chosen row answers with: its members, their blend and decoder, as JSON."""
    answers = read_json(study.answers_file)
    return answers["rows"][answers["chosen"]][-1]


def split_of(study: Study) -> Split:
    """The folds of the study, which the report's stage has found to be of its cases."""
    made = Split.from_csv(study.folds_file.read_bytes().decode(), study.manifest().ids)
    assert made is not None
    return made


def groups_of(study: Study, ids: Sequence[str]) -> Int[np.ndarray, " case"]:
    """The group of every case: no fold split it, and an interval draws all of it or nothing."""
    made = split_of(study)
    of = dict(zip(made.units(study.manifest()).ids, made.group.tolist(), strict=True))
    return np.array([of[name] for name in ids])


def _members(study: Study) -> dict[str, list[Path]]:
    """The folder of every training that the leaderboard is of, by member, fold by fold."""
    jobs = read_json(study.answers_file)["jobs"]
    return {m: [study.job_folder(m, k) for k in range(len(marks))] for m, marks in jobs.items()}


def _triple(row: Mapping[str, Any]) -> tuple[float, float, float]:
    """Lower end, score and upper end; nan, which a chart leaves out, where there is none."""
    low, high = row["interval"]
    low, score, high = (math.nan if v is None else v for v in (low, row["score"], high))
    return low, score, high


def _name(row: Mapping[str, Any], board: Mapping[str, Any]) -> Markup:
    name = escape(row["name"])
    if row["name"] == board["chosen"]:
        return Markup('<b>{}</b> <span class="tag">chosen</span>').format(name)
    return (
        Markup('{} <span class="tag low">below the floor</span>').format(name)
        if row["below_floor"]
        else name
    )


def _numerics(notes: Sequence[Mapping[str, Any]]) -> str:
    words = {
        f"{n['device']}, {n['precision']}{', channels last' if n['channels_last'] else ''}"
        for n in notes
        if "precision" in n
    }
    return "; ".join(sorted(words)) or "NumPy"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> Markup:
    """A table that scrolls where the page is narrow."""
    head = Markup("").join(Markup("<th>{}</th>").format(h) for h in header)
    lines = [
        Markup("<tr>{}</tr>").format(Markup("").join(Markup("<td>{}</td>").format(c) for c in row))
        for row in rows
    ]
    return Markup('<div class="scroll"><table><tr>{}</tr>{}</table></div>').format(
        head, Markup("").join(lines)
    )


def card(
    address: str, words: Markup | str, *, kind: str = "", instead: Markup | str = ""
) -> Markup:
    """A picture over words.

    Args:
        address: Of the picture, as data.
        words: Of the caption.
        kind: A class of the style sheet.
        instead: Shown where there is no picture.
    """
    image = Markup('<img src="{}" alt="">').format(address) if address else instead
    return Markup('<figure class="{}">{}<figcaption>{}</figcaption></figure>').format(
        f"card {kind}".strip(), image, words
    )


def cards(shown: Iterable[Markup], kind: str = "cards") -> Markup:
    """Cards side by side."""
    return Markup('<div class="{}">{}</div>').format(kind, Markup("").join(shown))


def thumbnail(*paths: str) -> str:
    """A small picture of a case's files as a data address; empty where one is gone."""
    from foveal.errors import DataError
    from foveal.manifest import Case
    from foveal.read.image import in_eight_bits, inspect, spare_bits_of

    try:
        seen, image = inspect(Case(id="", paths=paths))
    except DataError:
        return ""
    image = in_eight_bits(image, spare_bits_of(seen.white))
    return picture(image[:, :, :3] if image.shape[2] >= 3 else image[:, :, :1])


def picture(image: np.ndarray) -> str:
    """A small copy of a grey or colour picture of 8 bit as a data address."""
    import cv2

    scale = THUMBNAIL_SIDE * 1.5 / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    shown = cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_AREA)
    shown = shown[:, :, ::-1] if shown.ndim == 3 else shown
    data = cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()
