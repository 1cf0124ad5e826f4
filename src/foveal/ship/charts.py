"""Small pictures for the report, as inline SVG that follows the page's light or dark colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from markupsafe import Markup, escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 460, 230, 44, 34, 10


def lines(
    series: Mapping[str, Sequence[tuple[float, float]]], *, x: str, y: str, group: Mapping[str, int]
) -> Markup:
    """Thin lines over a grid; series of one group share a colour."""
    points = [p for line in series.values() for p in line]
    if not points:
        return Markup("")
    xs, ys = np.array(points, dtype=float).T
    to_x, to_y = _scale(xs, LEFT, WIDTH - 12), _scale(ys, HEIGHT - BOTTOM, TOP)
    drawn = [
        f'<polyline class="line c{group[name] % 6}" points="'
        + " ".join(f"{to_x(a):.1f},{to_y(b):.1f}" for a, b in line)
        + f'"><title>{escape(name)}</title></polyline>'
        for name, line in series.items()
    ]
    return _frame("".join(drawn), xs, ys, to_x, to_y, x=x, y=y)


def histogram(
    values: Sequence[float],
    marks: Sequence[float],
    *,
    x: str,
    y: str,
    bins: int | Float[np.ndarray, " edge"] = 40,
) -> Markup:
    """Bars, with the marks as upright lines."""
    counts, edges = np.histogram(values, bins=bins)
    to_x = _scale(edges, LEFT, WIDTH - 12)
    to_y = _scale(np.array([0, counts.max()]), HEIGHT - BOTTOM, TOP)
    bars = [
        f'<rect class="bar" x="{to_x(a) + 0.5:.1f}" y="{to_y(n):.1f}" '
        f'width="{max(to_x(b) - to_x(a) - 1, 0.5):.1f}" height="{to_y(0) - to_y(n):.1f}"/>'
        for n, a, b in zip(counts, edges[:-1], edges[1:], strict=True)
    ]
    inside = [m for m in marks if edges[0] <= m <= edges[-1]]
    cuts = [
        f'<line class="cut" x1="{to_x(m):.1f}" x2="{to_x(m):.1f}" y1="{TOP}" '
        f'y2="{HEIGHT - BOTTOM}"><title>cut at {m:.3f}</title></line>'
        for m in inside
    ]
    return _frame("".join(bars + cuts), edges, np.array([0, counts.max()]), to_x, to_y, x=x, y=y)


def intervals(rows: Sequence[tuple[str, float, float, float, str]], *, x: str) -> Markup:
    """One dot with its interval a row: name, low, value, high, class."""
    finite = [v for _, low, value, high, _ in rows for v in (low, value, high) if np.isfinite(v)]
    if not finite:
        return Markup("")
    step, left, top = 24, 190, 8
    height = top + step * len(rows) + 30
    to_x = _scale(np.array(finite), left, WIDTH + 90)
    drawn = []  # what comes later lies on top
    for t in _ticks(min(finite), max(finite)):
        at = f"{to_x(t):.1f}"
        drawn.append(
            f'<line class="grid" x1="{at}" x2="{at}" y1="{top}" y2="{height - 30}"/>'
            f'<text class="tick" x="{at}" y="{height - 14}" text-anchor="middle">{t:g}</text>'
        )
    for k, (name, low, value, high, kind) in enumerate(rows):
        y = top + step * (k + 0.5)
        drawn.append(f'<text class="name {kind}" x="{left - 10}" y="{y + 4}">{escape(name)}</text>')
        if np.isfinite(low):
            drawn.append(
                f'<line class="interval {kind}" x1="{to_x(low):.1f}" x2="{to_x(high):.1f}" '
                f'y1="{y}" y2="{y}"/>'
            )
        if np.isfinite(value):
            drawn.append(f'<circle class="dot {kind}" cx="{to_x(value):.1f}" cy="{y}" r="4.5"/>')
    label = (
        f'<text class="axis" x="{WIDTH + 90}" y="{height - 3}" text-anchor="end">{escape(x)}</text>'
    )
    return Markup(
        f'<svg viewBox="0 0 {WIDTH + 110} {height}" role="img" aria-label="{escape(x)}">'
        + "".join(drawn)
        + label
        + "</svg>"
    )


def _scale(values: np.ndarray, start: float, stop: float):
    low, high = float(np.min(values)), float(np.max(values))
    span = (high - low) or 1.0
    return lambda v: start + (float(v) - low) / span * (stop - start)


def _ticks(low: float, high: float) -> list[float]:
    span = (high - low) or 1.0
    raw = span / 4
    power = 10.0 ** np.floor(np.log10(raw))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= raw)
    return [
        round(float(t), 10) + 0.0 for t in np.arange(np.ceil(low / step), high / step + 1e-9) * step
    ]


def _frame(inner: str, xs: np.ndarray, ys: np.ndarray, to_x, to_y, *, x: str, y: str) -> Markup:
    across = "".join(
        f'<text class="tick" x="{to_x(t):.1f}" y="{HEIGHT - BOTTOM + 15}" '
        f'text-anchor="middle">{t:g}</text>'
        for t in _ticks(float(np.min(xs)), float(np.max(xs)))
    )
    up = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 12}" y1="{to_y(t):.1f}" y2="{to_y(t):.1f}"/>'
        f'<text class="tick" x="{LEFT - 6}" y="{to_y(t) + 4:.1f}" text-anchor="end">{t:g}</text>'
        for t in _ticks(float(np.min(ys)), float(np.max(ys)))
    )
    words = (
        f'<text class="axis" x="{WIDTH - 12}" y="{HEIGHT - 3}" text-anchor="end">{escape(x)}</text>'
    )
    return Markup(
        f"<figure><figcaption>{escape(y)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y)} over {escape(x)}">'
        f"{up}{across}{inner}{words}</svg></figure>"
    )
