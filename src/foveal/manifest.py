"""The table of cases: who they are, where their files lie, what is known of each.

A user's table keeps its own column names and stays untouched; roles (id, target, group, site,
weight, fold, source) are given from outside and never guessed from a column's name. Everything is
checked here once, with the row and the cure, and trusted afterwards::

    manifest = load(Source(table="labels.csv", images="img/{image}", target=("grade",)))
    manifest.ids[0], manifest.case(0).paths
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from foveal.errors import ManifestError, TargetError, nearest
from foveal.table import (
    Refuse,
    Source,
    column_of,
    masks_of,
    path_column,
    paths_of,
    read_table,
    refuse,
)

Text = Shaped[np.ndarray, " case"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A part of a plane, in pixels; it may reach over the plane's edges.

    Example:
        >>> Window.of("0 4 16 8")
        Window(top=0, left=4, height=16, width=8)
    """

    top: int
    left: int
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    def __str__(self) -> str:
        return f"{self.top} {self.left} {self.height} {self.width}"

    @staticmethod
    def of(text: str) -> Window:
        """What `str` wrote."""
        top, left, height, width = map(int, text.split())
        return Window(top=top, left=left, height=height, width=width)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One unit to be predicted, and what is known of it before anything is predicted.

    Attributes:
        id: Its name.
        paths: Of its files.
        site: Where it is from.
        window: The part of its plane that it stands for; None for all of it.
        mask: A file that training may look at, and nobody who scores: new cases have none.
    """

    id: str
    paths: tuple[str, ...]
    site: str | None = None
    window: Window | None = None
    mask: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """All that may be read of it."""
        return self.paths if self.mask is None else (*self.paths, self.mask)

    @property
    def as_new(self) -> Case:
        """The case as one that is to be scored."""
        return self if self.mask is None else replace(self, mask=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What decisions are fitted and judged on, one entry a case.

    Attributes:
        target: An array, or anything else that gives those of some rows by `target[rows]`.
        weight: How much a case counts.
        group: What must stay together.
        fold: The fold that judges the case.
        site: Where the case is from.
    """

    target: Any
    weight: Float[np.ndarray, " case"]
    group: Int[np.ndarray, " case"]
    fold: Int[np.ndarray, " case"]
    site: Text | None = None

    def take(self, rows: np.ndarray) -> Truth:
        """The truth of some cases, by position or mask."""
        return Truth(
            target=self.target[rows],
            weight=self.weight[rows],
            group=self.group[rows],
            fold=self.fold[rows],
            site=None if self.site is None else self.site[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What `init` measured, so that a recipe can fit itself to the data.

    Attributes:
        cases: How many.
        target: What the family's target measured of its column, for example `grades`.
        height: Median rows of a picture, in pixels.
        width: Median columns, in pixels.
        aspect: Median width over height of the content (dark borders left out).
        channels: Of every picture.
        bits: 8 or 16.
        spare_bits: Of 16, that nothing in the study uses, such as 4 for a camera of 12 bits.
        mean: Per channel, of the bits that are used, 0 to 1.
        std: Per channel, of the same.
        depth: Slices of the shallowest volume; 1 for pictures.
        levels: How often every level of a slide is shrunk, the largest first.
        spacing_um: Microns a pixel of a slide's largest level; None where not every slide says.
        tissue_pixels: Median tissue of a slide, in pixels of `spacing_um`; of each slide's own
            largest level where that is None.
        sizes: How many pictures have each "height x width", of those that most have.
        pixels: Of all pictures, or of a slice of every volume.
        sites: The names of the sites, sorted.
    """

    cases: int
    target: Mapping[str, Any]
    height: int
    width: int
    aspect: float
    channels: int
    bits: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    spare_bits: int = 0
    depth: int = 1
    levels: tuple[float, ...] = (1.0,)
    spacing_um: float | None = None
    tissue_pixels: float = 0.0
    sizes: Mapping[str, int] = field(default_factory=dict)
    pixels: int = 0
    sites: tuple[str, ...] = ()

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Facts:
        """Read back what `init` wrote; an unknown or missing fact is an error."""
        known = {f.name for f in fields(Facts)}
        for name in values:
            if name not in known:
                raise ManifestError(f'unknown fact "{name}" under facts:{nearest(name, known)}')
        lists: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        try:
            return Facts(**lists)
        except TypeError as error:
            raise ManifestError(
                f"facts: are incomplete ({error}); cure: foveal init FOLDER --replace"
            ) from None


SIZES = 20
"""Picture sizes that facts name; cropped pictures may all have their own."""


def commonest(sizes: Sequence[str]) -> dict[str, int]:
    """How often the commonest sizes occur, the commonest first.

    Example:
        >>> commonest(["48x58", "60x72", "48x58"])
        {'48x58': 2, '60x72': 1}
    """
    return dict(Counter(sorted(sizes)).most_common(SIZES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The checked table: one entry a case in every array.

    Attributes:
        ids: Unique names of the cases.
        paths: Absolute paths of each case's files.
        id_column: The table's own name for the ids.
        target: Raw text of the target columns; a recipe's target gives it meaning.
        target_columns: The table's own names for them.
        roles: Raw text of group, site, weight, fold and source, and the file of the mask, where
            given.
        measured: What `init` measured of each case, such as `image_size` and `sha256`.
    """

    ids: tuple[str, ...]
    paths: tuple[tuple[str, ...], ...]
    id_column: str
    target: Shaped[np.ndarray, "case column"]
    target_columns: tuple[str, ...]
    roles: Mapping[str, Text] = field(default_factory=dict)
    measured: Mapping[str, Text] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def case(self, row: int) -> Case:
        """One case by position."""
        site = str(self.roles["site"][row]) if "site" in self.roles else None
        window = Window.of(str(self.measured["window"][row])) if "window" in self.measured else None
        mask = str(self.roles["mask"][row]) if "mask" in self.roles else None
        return Case(
            id=self.ids[row],
            paths=self.paths[row],
            site=site or None,
            window=window,
            mask=mask or None,
        )

    def cases(self) -> list[Case]:
        """All cases in order."""
        return [self.case(row) for row in range(len(self))]

    def name(self, row: int) -> str:
        """A row as people look for it."""
        return f'row {row + 1} (id "{self.ids[row]}")'

    def unmoved(self, *, target_is_file: bool) -> Manifest:
        """The same, files named from the folder that holds them all, wherever that lies by now.

        What files hold is measured, so a result of the very same files need not be made again.

        Args:
            target_is_file: Whether targets are files too; words that begin with / are left alone.
        """
        masks = self.roles.get("mask", np.array([], dtype=np.str_))
        targets = self.target.reshape(-1).tolist() if target_is_file else []
        every = {*chain(*self.paths), *targets, *masks.tolist()}
        folders = {str(Path(text).parent) for text in every if text.startswith("/")}
        root = f"{os.path.commonpath(folders or {'/'}).rstrip('/')}/"

        def cut(texts: np.ndarray) -> np.ndarray:
            short = [text.removeprefix(root) for text in texts.reshape(-1).tolist()]
            return np.array(short, dtype=np.str_).reshape(texts.shape)

        return replace(
            self,
            paths=tuple(tuple(path.removeprefix(root) for path in own) for own in self.paths),
            target=cut(self.target) if target_is_file else self.target,
            roles={**self.roles, **({"mask": cut(masks)} if "mask" in self.roles else {})},
        )

    def only_target(self) -> Shaped[np.ndarray, " case"]:
        """The target of a family that has one column.

        Raises:
            TargetError: There are several.
        """
        names = self.target_columns
        if len(names) > 1:
            raise TargetError(
                f"--target {','.join(names)}: this recipe has one target column; cure: "
                f"--target {names[0]}"
            )
        return self.target[:, 0]

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites that cases are said to be of."""
        return tuple(sorted({*self.roles.get("site", np.array([""])).tolist()} - {""}))

    @property
    def weight(self) -> Float[np.ndarray, " case"]:
        """How much each case counts beside the others; those that count at all are 1 on average.

        Some rules set so many cases against what was thought before, and must know one by its 1.
        """
        if "weight" not in self.roles:
            return np.ones(len(self))
        weight = self.roles["weight"].astype(np.float64)
        return weight / weight[weight > 0].mean() if (weight > 0).any() else weight

    def take(self, rows: Sequence[int] | np.ndarray) -> Manifest:
        """The manifest of some cases, by position."""
        rows = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            ids=tuple(self.ids[r] for r in rows),
            paths=tuple(self.paths[r] for r in rows),
            target=self.target[rows],
            roles={k: v[rows] for k, v in self.roles.items()},
            measured={k: v[rows] for k, v in self.measured.items()},
        )

    def to_csv(self) -> str:
        """The manifest as one CSV text, from which `from_csv` restores it exactly."""
        columns = {"id:" + self.id_column: list(self.ids)}
        for k in range(max(map(len, self.paths), default=0)):
            columns[f"path:{k}"] = [p[k] if k < len(p) else "" for p in self.paths]
        for k, name in enumerate(self.target_columns):
            columns["target:" + name] = self.target[:, k].tolist()
        for prefix, table in (("role:", self.roles), ("measured:", self.measured)):
            columns |= {prefix + name: values.tolist() for name, values in table.items()}
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        return out.getvalue()

    @staticmethod
    def from_csv(text: str) -> Manifest:
        """Restore a manifest that `to_csv` wrote."""
        header, *rows = csv.reader(io.StringIO(text, newline=""))
        columns = {name: [row[k] for row in rows] for k, name in enumerate(header)}

        def under(prefix: str) -> dict[str, list[str]]:
            return {n.removeprefix(prefix): v for n, v in columns.items() if n.startswith(prefix)}

        ((id_column, ids),) = under("id:").items()
        paths = zip(*under("path:").values(), strict=True)
        target = under("target:")
        return Manifest(
            ids=tuple(ids),
            paths=tuple(tuple(p for p in row if p) for row in paths),
            id_column=id_column,
            target=_text(list(zip(*target.values(), strict=True)), (len(ids), len(target))),
            target_columns=tuple(target),
            roles={n: _text(v, (len(ids),)) for n, v in under("role:").items()},
            measured={n: _text(v, (len(ids),)) for n, v in under("measured:").items()},
        )


def grouped(manifest: Manifest, source: Source) -> Manifest:
    """The manifest with a measured fact as its group, where the source names one."""
    if source.group not in manifest.measured or "group" in manifest.roles:
        return manifest
    return replace(manifest, roles={**manifest.roles, "group": manifest.measured[source.group]})


MEASURED_GROUPS = ("image_size",)
"""Measured facts that `--group` accepts beside the table's columns."""


def load(source: Source, gaps: Refuse = refuse) -> Manifest:
    """Read a table and check everything that can be checked without opening a picture.

    Args:
        source: Where the table is and what its columns mean.
        gaps: What is done about rows whose path is empty or leaves the images' root.

    Returns:
        The manifest, in the table's order.

    Raises:
        ManifestError: An empty or unreadable table, a missing column, a missing or duplicate id,
            a target column or a channel that is named twice, a path out of the images' root, a
            weight that is no number of 0 or more.
    """
    table = read_table(Path(source.table))
    if not table or not len(next(iter(table.values()))):
        raise ManifestError(f"the table has no rows: {source.table}")
    id_column = source.id or next(iter(table))
    ids = tuple(str(v) for v in column_of(table, id_column, "--id", source.table))
    _check_ids(ids, id_column, source.table)
    if len(set(source.target)) < len(source.target):
        raise ManifestError(
            f"--target names a column twice: {','.join(source.target)}; cure: once each"
        )
    if len(set(source.channels)) < len(source.channels):
        raise ManifestError(
            f"channels={','.join(source.channels)} names a file twice; cure: every channel once"
        )
    target = [
        path_column(source, name, column_of(table, name, "--target", source.table), gaps)
        for name in source.target
    ]
    roles = {}
    for role in ("group", "site", "weight", "fold", "source"):
        name = getattr(source, role)
        if name and not (role == "group" and name in MEASURED_GROUPS and name not in table):
            cells = column_of(table, name, f"--{role}", source.table)
            roles[role] = _text([str(cell).strip() for cell in cells], (len(ids),))
    if source.masks:
        roles["mask"] = _text(masks_of(source, table, ids), (len(ids),))
    manifest = Manifest(
        ids=ids,
        paths=paths_of(source, table, ids, gaps),
        id_column=id_column,
        target=_text(list(zip(*target, strict=True)), (len(ids), len(target))),
        target_columns=source.target,
        roles=roles,
    )
    _check_weights(manifest)
    return manifest


def _text(values: Any, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(values, dtype=np.str_).reshape(shape)


def _check_ids(ids: Sequence[str], column: str, table: str) -> None:
    missing = [f"row {k + 1}" for k, value in enumerate(ids) if not value]
    if missing:
        raise ManifestError(
            f'{len(missing)} of {len(ids)} rows have no id in column "{column}" of {table}; '
            "cure: fill them, or init with another --id",
            missing,
        )
    seen: dict[str, int] = {}
    twice = []
    for k, value in enumerate(ids):
        if value in seen:
            twice.append(f'row {k + 1} repeats id "{value}" of row {seen[value] + 1}')
        seen.setdefault(value, k)
    if twice:
        raise ManifestError(
            f'{len(twice)} duplicate ids in column "{column}" of {table}; '
            "cure: one row a case, or init with another --id",
            twice,
        )


def _check_weights(manifest: Manifest) -> None:
    bad = []
    for k, value in enumerate(manifest.roles.get("weight", ())):
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not (number >= 0 and math.isfinite(number)):
            bad.append(f'{manifest.name(k)}: weight "{value}"')
    if bad:
        raise ManifestError(f"{len(bad)} weights are no finite numbers of 0 or more", bad)
    if "weight" in manifest.roles and not manifest.weight.sum() > 0:
        raise ManifestError("all weights are 0; cure: at least one case must count")
