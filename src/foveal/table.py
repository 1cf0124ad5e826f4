"""Tables as people hand them in: columns as text, and where the files of every row lie.

A pattern over columns (`img/{image}`) or columns that are paths themselves lead to files; what is
filled in must stay below the root, judged on the text alone. Rows are counted from 1, the header
left out::

    table = read_table(Path("labels.csv"))
    paths_of(Source(table="labels.csv", images="img/{image}"), table, table["image"])
"""

from __future__ import annotations

import csv
import io
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from foveal.errors import ManifestError, first_line, nearest

DRIVE = re.compile(r"[A-Za-z]:[\\/]")

SUFFIX = re.compile(r"\.\w{1,5}$")

FIXED = re.compile(r"([^{]|\{\{)*")
"""How a pattern begins, before its first column; a doubled brace is a brace."""

SAMPLED = 20
"""Lines of a CSV that tell what stands between its cells."""

EMPTY = "the cell is empty"

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
    if not pattern or is_path_column(pattern) or Path(pattern).is_absolute():
        return pattern
    here = str(Path.cwd()).replace("{", "{{").replace("}", "}}")
    return f"{here}/{pattern}"


def is_path_column(pattern: str) -> bool:
    """Whether a pattern is one whole column, whose cells are paths then."""
    return pattern.startswith("{") and pattern.find("}") == len(pattern) - 1


def tail_of(pattern: str) -> str:
    """What follows the folder that a pattern begins with.

    Example:
        >>> tail_of("/data/{{old}}/img/{image}_{channel}.png")
        '{image}_{channel}.png'
    """
    begins = FIXED.match(pattern)
    return pattern[begins[0].rfind("/") + 1 :] if begins else pattern


MISSING = frozenset(("NA", "N/A", "nan", "NaN", "null", "NULL", "None"))
"""What programs write into a cell where nothing is known."""

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


NO_PATH = "its cell is empty, or leads out of the folder that it should be in"
"""Why there is no file where a table says no usable path."""

NOWHERE = "(the table says no usable path)"
"""The name of a file that is not there."""


def read_table(path: Path) -> dict[str, list[str]]:
    """All columns of a CSV or Parquet file as text; an empty cell is an empty text.

    Between fields of a CSV stands a comma, or what its header has instead: a semicolon or a tab.
    What is no text in a Parquet file, such as a list or the bytes of a picture, is left out, and so
    is a column without a name, but for a first one: an index is written so. A row without any text,
    such as a blank last line, is no row.

    Raises:
        ManifestError: The file is missing, is no table in UTF-8, or names a column twice.
    """
    import polars as pl

    if not path.is_file():
        raise ManifestError(f"no such table: {path}")
    try:
        data = path.read_bytes()  # polars would take a name such as `labels[1].csv` as a pattern
        if path.suffix.lower() in (".parquet", ".pq"):
            frame = _as_text(pl.read_parquet(data))
        else:
            frame = _of_csv(data, path)
    except (pl.exceptions.PolarsError, UnicodeDecodeError, OSError) as error:
        raise ManifestError(f"cannot be read as a table: {path}: {first_line(error)}") from None
    columns = {name: frame[name].fill_null("").to_list() for name in frame.columns}
    rows = [any(row) for row in zip(*columns.values(), strict=True)]
    return {n: [v for v, kept in zip(c, rows, strict=True) if kept] for n, c in columns.items()}


def _of_csv(data: bytes, path: Path) -> Any:
    """The named columns of a CSV, as text."""
    import polars as pl

    if b"\n" not in data:
        data = data.replace(b"\r", b"\n")
    data = data.lstrip(b"\r\n")
    if b"\0" in data.partition(b"\n")[0]:  # UTF-16 has one in every letter
        raise ManifestError(f"{path} is no text in UTF-8; cure: save it as UTF-8")
    mark = _mark_of(data)
    try:
        frame = pl.read_csv(
            data, separator=mark, infer_schema=False, has_header=False, raise_if_empty=False
        )
    except pl.exceptions.PolarsError:
        _say_why(data, mark, path)
        raise
    if not frame.height:
        return frame
    header = {place: name or "" for place, name in zip(frame.columns, frame.row(0), strict=True)}
    named = {p: n for k, (p, n) in enumerate(header.items()) if n.strip() or not k}
    names = list(named.values())
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ManifestError(
            f'the column "{twice[0]}" occurs twice in {path}; cure: rename one, or leave it out'
        )
    return frame.slice(1).select(list(named)).rename(named)


def _mark_of(data: bytes) -> str:
    """What stands between cells: of what the header holds, what all first rows hold as often."""
    rows = [line for line in data.split(b"\n", SAMPLED)[:SAMPLED] if line.strip()]
    counts = [Counter(re.sub(rb'"[^"]*"', b"", row).decode("latin-1")) for row in rows]
    held = [mark for mark in ",;\t" if counts and counts[0][mark]]
    even = [mark for mark in held if len({count[mark] for count in counts}) == 1]
    return (even or held or [","])[0]


def _say_why(data: bytes, mark: str, path: Path) -> None:
    """Raise where the reason is known why a CSV cannot be read."""
    try:
        rows = csv.reader(io.StringIO(data.decode(), newline=""), delimiter=mark)
    except UnicodeDecodeError:
        raise ManifestError(f"{path} is no text in UTF-8; cure: save it as UTF-8") from None
    with suppress(csv.Error):
        width = len(next(rows, []))
        wide = [k + 1 for k, row in enumerate(filter(None, rows)) if len(row) > width]
        if wide:
            raise ManifestError(
                f"{len(wide)} rows of {path} have more fields than the header, which has {width}; "
                f"cure: quotes around a cell with '{mark}' in it, or a header for every column",
                [f"row {k}" for k in wide],
            )
    if lone := [k for k, line in enumerate(data.splitlines(), 1) if line.count(b'"') % 2]:
        raise ManifestError(
            f"{len(lone)} lines of {path} have an odd number of quotation marks; cure: quotes "
            'around a cell that holds one, and that one twice: "5"" wide"',
            [f"line {k}" for k in lone],
        )


def _as_text(frame: Any) -> Any:
    """The columns of a frame that can be written as text."""
    import polars as pl

    kept = []
    for column in frame:
        with suppress(pl.exceptions.PolarsError, UnicodeDecodeError):
            if column.dtype == pl.Boolean:
                column = column.cast(pl.Int8)  # 0 or 1
            elif column.dtype.is_float():
                column = _whole(column.fill_nan(None))
            kept.append(column.cast(pl.String))
    return pl.DataFrame(kept)


def _whole(column: Any) -> Any:
    """Whole numbers as such, though a gap among them made them fractions, as pandas does."""
    import polars as pl

    is_exact = (column.drop_nulls() % 1 == 0).all() and (column.abs().max() or 0) < 2**53
    return column.cast(pl.Int64) if is_exact else column


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
            columns.append(_images(source, with_channel, ids, gaps))
    for name in source.files:
        if name not in source.target and (name in table or name not in source.optional):
            texts = column_of(table, name, PATHS_OR_IMAGES, source.table)
            columns.append(path_column(source, name, texts, gaps))
    if not columns:
        raise ManifestError("where are the pictures? cure: --images 'img/{image}'")
    return tuple(tuple(p for p in row if p) for row in zip(*columns, strict=True))


PATHS_OR_IMAGES = "the recipe reads paths from columns, or --images says where pictures are"


def _images(
    source: Source, table: Mapping[str, list[str]], ids: Sequence[str], gaps: Refuse
) -> list[str]:
    """The picture of every row."""
    leads = _pattern(source, source.images, "--images", table).leads(table, len(ids))
    bad = _culprits(ids, (why for _, why in leads))
    if bad:
        gaps(f"{len(bad)} rows lead to no file below the images' root ({source.images})", bad)
    return [path for path, _ in leads]


def masks_of(source: Source, table: Mapping[str, list[str]], ids: Sequence[str]) -> list[str]:
    """The mask of every row; empty where there is none, as where a cell that names it is empty.

    Raises:
        ManifestError: A row leaves the root, or none has a mask, so the pattern must be wrong.
    """
    pattern = _pattern(source, source.masks, "masks=", table)
    stems = {name: [SUFFIX.sub("", value) for value in table[name]] for name in pattern.names}
    ways = [pattern.leads(values, len(ids)) for values in (table, stems)]
    bad = _culprits(ids, ("" if why == EMPTY else why for _, why in ways[0]))
    if bad:
        raise ManifestError(
            f'{len(bad)} rows lead to no file below the root of masks="{source.masks}"', bad
        )
    pairs = zip(*ways, strict=True)
    found = [next((p for p, _ in pair if Path(p).is_file()), "") for pair in pairs]
    if not any(found):
        told = [path for path, why in ways[0] if not why]
        raise ManifestError(f'masks="{source.masks}" leads to no file at all', told[:1])
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
        cure = "cure: a path, or leave these rows out; a mask where nothing is marked is all black"
        gaps(f'{len(empty)} rows say no path in column "{name}"; {cure}', empty)
    root = Path(source.table).absolute().parent
    return [str(root / (text or NOWHERE)) if text or must else "" for text in texts]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pattern:
    """A pattern that was checked.

    Attributes:
        parts: Fixed texts, each with the column behind it, if there is one.
        root: Of paths that are not absolute.
        fixed: Letters of the folder that it begins with.
        is_path: Whether it is one whole column.
    """

    parts: Sequence[tuple[str, str | None]]
    root: Path
    fixed: int
    is_path: bool

    @property
    def names(self) -> list[str]:
        """Its columns."""
        return [name for _, name in self.parts if name is not None]

    def leads(self, table: Mapping[str, list[str]], rows: int) -> list[tuple[str, str]]:
        """The file of every row and why it is refused, judged on the text alone."""
        columns = {name: table[name] for name in self.names}
        return [self._lead({n: c[k] for n, c in columns.items()}) for k in range(rows)]

    def _lead(self, values: Mapping[str, str]) -> tuple[str, str]:
        text = "".join(lit + ("" if name is None else values[name]) for lit, name in self.parts)
        whys = filter(None, (_unsafe(v, whole=self.is_path) for v in values.values()))
        trouble = min(whys, key=EMPTY.__eq__, default="")
        if not (self.is_path or trouble) and ".." in _pieces(text[self.fixed :]):
            trouble = f'"{text}" leaves the root'
        return str(self.root / (NOWHERE if trouble else text)), trouble


def _pattern(source: Source, pattern: str, flag: str, table: Mapping[str, list[str]]) -> _Pattern:
    """A pattern that a flag gave, if it is one over the table's columns."""
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
            "cure: channels=red,green,blue (classify and multilabel; others read one file a case)"
        )
    for name in names:
        column_of(table, name, flag, source.table)
    is_path = is_path_column(pattern)
    return _Pattern(
        parts=[(fixed, name) for fixed, name, _, _ in parts],
        root=Path(source.table).absolute().parent if is_path else Path.cwd(),
        fixed=len(pattern.removesuffix(tail_of(pattern)).format()),
        is_path=is_path,
    )


def _culprits(ids: Sequence[str], whys: Iterable[str]) -> list[str]:
    """The rows that something is wrong with."""
    rows = enumerate(zip(ids, whys, strict=True))
    return [f'row {k + 1} (id "{name}"): {why}' for k, (name, why) in rows if why]


def _unsafe(value: str, *, whole: bool) -> str:
    """Why a value filled into a pattern is refused; empty if it is not.

    A column that is itself a path may be absolute; anything else must stay below the root.
    """
    if not value:
        return EMPTY
    if "\0" in value:
        return "the path holds a NUL"
    if not whole and (value.startswith(("/", "\\")) or DRIVE.match(value)):
        return f'"{value}" is absolute'
    if not whole and ".." in _pieces(value):
        return f'"{value}" leaves the root'
    return ""


def _pieces(path: str) -> list[str]:
    """The names of a path, whatever slash stands between them."""
    return path.replace("\\", "/").split("/")
