"""Tables as people hand them in: columns as text, and where the files of every row lie.

A pattern over columns (`img/{image}`) or columns that are paths themselves lead to files; what is
filled in must stay below the root, judged on the text alone. Rows are counted from 1, the header
left out::

    table = read_table(Path("labels.csv"))
    paths_of(Source(table="labels.csv", images="img/{image}"), table, table["image"])
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from foveal.errors import ManifestError, nearest

DRIVE = re.compile(r"[A-Za-z]:[\\/]")

SUFFIX = re.compile(r"\.\w{1,5}$")

CHANNEL = "{channel}"
"""In a pattern it stands for several values: a case has a file for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a table and its files are and which column means what.

    Attributes:
        table: CSV or Parquet with a header.
        images: A pattern over the table's columns, such as `img/{image}`; empty where `files` say
            it all.
        files: Columns that are paths themselves, absolute or relative to the table's folder: of a
            case's files, and of targets that are files.
        optional: Those of `files` that may be missing, or have empty cells.
        channels: What `{channel}` in the pattern stands for, a file each.
        masks: A pattern too, of a further file that steers training; not every case has one. A
            value's own suffix is left out where no file has both.
        id: The id column; the first one if empty.
        target: The target columns; empty for a table without a target.
        group: Column of what no fold may split, or a measured fact such as `image_size`.
        site: Column of clinic, scanner or provider.
        weight: Column of numbers, 0 or more, that say how much a case counts.
        fold: Column with the user's own folds.
        source: Column that says which data set a case comes from.
    """

    table: str
    images: str = ""
    files: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    masks: str = ""
    id: str = ""
    target: tuple[str, ...] = ()
    group: str = ""
    site: str = ""
    weight: str = ""
    fold: str = ""
    source: str = ""

    def absolute(self) -> Source:
        """The same from any working directory."""
        return replace(
            self,
            table=str(Path(self.table).absolute()),
            images=_absolute(self.images),
            masks=_absolute(self.masks),
        )


def _absolute(pattern: str) -> str:
    """A pattern from any working directory."""
    if not pattern or _is_path_column(pattern) or Path(pattern).is_absolute():
        return pattern
    here = str(Path.cwd()).replace("{", "{{").replace("}", "}}")
    return f"{here}/{pattern}"


Refuse = Callable[[str, list[str]], None]
"""Told of rows without a usable path: what is wrong, and which they are."""


def refuse(trouble: str, rows: list[str]) -> None:
    """End here: nothing can be learned from such rows.

    Raises:
        ManifestError: Always.
    """
    raise ManifestError(trouble, rows)


def answer_with_prior(trouble: str, rows: list[str]) -> None:
    """Go on: such a row leads to a file that is not there, and is answered as an unreadable one."""


NOWHERE = "(the table says no usable path)"
"""The name of a file that is not there."""


def read_table(path: Path) -> dict[str, list[str]]:
    """All columns of a CSV or Parquet file as text; an empty cell is an empty text.

    What is no text in a Parquet file, such as a list or the bytes of a picture, is left out. A row
    without any text, such as a blank last line, is no row.

    Raises:
        ManifestError: The file is missing, is no table, or names a column twice.
    """
    import polars as pl

    if not path.is_file():
        raise ManifestError(f"no such table: {path}")
    try:
        data = path.read_bytes()  # polars would take a name such as `labels[1].csv` as a pattern
        if path.suffix.lower() in (".parquet", ".pq"):
            frame = _as_text(pl.read_parquet(data))
        else:
            frame = pl.read_csv(data, infer_schema=False, has_header=False, raise_if_empty=False)
            if frame.height:
                header = [name or "" for name in frame.row(0)]
                twice = sorted({n for n in header if header.count(n) > 1})
                if twice:
                    raise ManifestError(f'the column "{twice[0]}" occurs twice in {path}')
                frame = frame.slice(1).rename(dict(zip(frame.columns, header, strict=True)))
    except (pl.exceptions.PolarsError, UnicodeDecodeError, OSError) as error:
        raise ManifestError(f"cannot be read as a table: {path}: {_first_line(error)}") from None
    columns = {name: frame[name].fill_null("").to_list() for name in frame.columns}
    rows = [any(row) for row in zip(*columns.values(), strict=True)]
    return {n: [v for v, kept in zip(c, rows, strict=True) if kept] for n, c in columns.items()}


def _as_text(frame: Any) -> Any:
    """The columns of a frame that can be written as text."""
    import polars as pl

    kept = []
    for column in frame:
        with suppress(pl.exceptions.PolarsError, UnicodeDecodeError):
            number = column.cast(pl.Int8) if column.dtype == pl.Boolean else column  # 0 or 1
            kept.append(number.cast(pl.String))
    return pl.DataFrame(kept)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def in_order(word: str) -> tuple[bool, int, str]:
    """A key that sorts numbers first, by their size.

    Example:
        >>> sorted(["b", "10", "9"], key=in_order)
        ['9', '10', 'b']
    """
    return not word.isdecimal(), int(word) if word.isdecimal() else 0, word


def column_of(table: Mapping[str, list[str]], name: str, flag: str, path: str) -> list[str]:
    """A column that a flag named.

    Raises:
        ManifestError: There is none; the nearest one is named.
    """
    if name not in table:
        raise ManifestError(f'{flag}: no column "{name}" in {path}{nearest(name, table)}')
    return table[name]


def paths_of(
    source: Source, table: Mapping[str, list[str]], ids: Sequence[str], gaps: Refuse
) -> tuple[tuple[str, ...], ...]:
    """All files of every row: where the pattern leads, and what the path columns say."""
    columns = []
    if source.images:
        for channel in (CHANNEL in source.images and source.channels) or ("",):
            with_channel = {**table, **_as_column(channel, ids)}
            columns.append(_expand(source, source.images, "--images", with_channel, ids, gaps))
    for name in source.files:
        if name not in source.target and (name in table or name not in source.optional):
            texts = column_of(table, name, "files", source.table)
            columns.append(path_column(source, name, texts, gaps))
    if not columns:
        raise ManifestError("where are the pictures? cure: --images 'img/{image}'")
    return tuple(tuple(p for p in row if p) for row in zip(*columns, strict=True))


def masks_of(source: Source, table: Mapping[str, list[str]], ids: Sequence[str]) -> list[str]:
    """The mask of every row; empty where there is none.

    Raises:
        ManifestError: No row has one, so the pattern must be wrong.
    """
    stems = {name: [SUFFIX.sub("", value) for value in c] for name, c in table.items()}
    ways = [
        _expand(source, source.masks, "masks=", values, ids, refuse) for values in (table, stems)
    ]
    found = [next((p for p in pair if Path(p).is_file()), "") for pair in zip(*ways, strict=True)]
    if not any(found):
        raise ManifestError(f'masks="{source.masks}" leads to no file at all', [ways[0][0]])
    return found


def _as_column(channel: str, ids: Sequence[str]) -> dict[str, list[str]]:
    """A column for `{channel}` in the pattern, where it stands for something."""
    return {CHANNEL[1:-1]: [channel] * len(ids)} if channel else {}


def path_column(source: Source, name: str, texts: list[str], gaps: Refuse) -> list[str]:
    """A column as absolute paths, where it is one of paths."""
    if name not in source.files:
        return texts
    empty = [f"row {k + 1}: the cell is empty" for k, text in enumerate(texts) if not text]
    must = name not in source.optional
    if empty and must:
        gaps(f'{len(empty)} rows say no path in column "{name}"', empty)
    root = Path(source.table).absolute().parent
    return [str(root / (text or NOWHERE)) if text or must else "" for text in texts]


def _expand(
    source: Source,
    pattern: str,
    flag: str,
    table: Mapping[str, list[str]],
    ids: Sequence[str],
    gaps: Refuse,
) -> list[str]:
    """The file of every row, from the pattern that a flag gave; judged on the text alone."""
    try:
        parts = list(string.Formatter().parse(pattern))
    except ValueError as error:
        raise ManifestError(f'{flag}: "{pattern}" is no pattern: {error}') from None
    names = [name for _, name, _, _ in parts if name is not None]
    if any(form or turned for _, _, form, turned in parts):
        raise ManifestError(f'{flag}: "{pattern}": a column stands as {{name}}, nothing more')
    if not names:
        raise ManifestError(
            f'{flag}: "{pattern}" names no column; write it like img/{{image}}{nearest("", table)}'
        )
    if CHANNEL[1:-1] in names and CHANNEL[1:-1] not in table:
        raise ManifestError(
            f'{flag}: "{pattern}": nothing says what {CHANNEL} stands for; '
            "cure: channels=red,green,blue"
        )
    for name in names:
        column_of(table, name, flag, source.table)
    is_path_column = _is_path_column(pattern)
    root = Path(source.table).absolute().parent if is_path_column else Path.cwd()
    fixed = parts[0][0].rfind("/") + 1
    found, bad = [], []
    for k in range(len(ids)):
        values = {name: table[name][k] for name in names}
        trouble = next(
            filter(None, (_unsafe(v, whole=is_path_column) for v in values.values())), ""
        )
        text = "".join(
            lit + (values[name] if name is not None else "") for lit, name, _, _ in parts
        )
        if not (is_path_column or trouble) and ".." in text[fixed:].replace("\\", "/").split("/"):
            trouble = f'"{text}" leaves the root'
        if trouble:
            bad.append(f'row {k + 1} (id "{ids[k]}"): {trouble}')
        found.append(str(root / (NOWHERE if trouble else text)))
    if bad:
        gaps(f"{len(bad)} rows lead to no file below the images' root ({pattern})", bad)
    return found


def _is_path_column(pattern: str) -> bool:
    return pattern.startswith("{") and pattern.find("}") == len(pattern) - 1


def _unsafe(value: str, *, whole: bool) -> str:
    """Why a value filled into a pattern is refused; empty if it is not.

    A column that is itself a path may be absolute; anything else must stay below the root.
    """
    if not value:
        return "the cell is empty"
    if "\0" in value:
        return "the path holds a NUL"
    pieces = value.replace("\\", "/").split("/")
    if not whole and (value.startswith(("/", "\\")) or DRIVE.match(value)):
        return f'"{value}" is absolute'
    if not whole and ".." in pieces:
        return f'"{value}" leaves the root'
    return ""
