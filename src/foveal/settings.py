"""`study.yaml`: what a person decides, and the facts that `init` measured."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveal.digests import digest
from foveal.errors import StudyError, UsageError, nearest
from foveal.manifest import Facts, Manifest
from foveal.table import Source

LISTS = ("files", "optional", "channels", "target")
COLUMN_KEYS = ("images", "masks", *LISTS, "id", "group", "site", "weight", "fold", "source")

OF_SOURCE = ("channels", "masks")
"""Options of recipes that say where files are, and so are a part of the source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `study.yaml` holds.

    Attributes:
        recipe: Its address.
        options: Of the recipe, where they differ from its own.
        source: The table and what its columns mean.
        facts: What `init` measured.
        checked: Digest of the table as it was checked, of the columns that it was read by and of
            the recipe's family.
    """

    recipe: str
    options: Mapping[str, Any]
    source: Source
    facts: Facts
    checked: str


def digest_of_table(manifest: Manifest, source: Source, recipe: str) -> str:
    """Differs where the checked table does, what one of its columns means, or the family."""
    columns = {k: getattr(source, k) for k in COLUMN_KEYS if k not in ("images", "masks")}
    family = recipe.rpartition(":")[0]
    return digest(manifest, columns, "" if family.endswith(".py") else family)  # own: of any


def format_settings(settings: Settings) -> str:
    """`study.yaml` as a person reads it."""
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap

    source, facts = settings.source, dataclasses.asdict(settings.facts)
    sheet = CommentedMap()
    sheet["recipe"] = settings.recipe
    sheet["options"] = dict(settings.options)
    sheet["table"] = source.table
    for key in COLUMN_KEYS:
        value = getattr(source, key)
        if value:
            sheet[key] = list(value) if key in LISTS else value
    sheet["facts"] = {k: list(v) if isinstance(v, tuple) else v for k, v in facts.items()}
    sheet["checked"] = settings.checked
    sheet.yaml_set_start_comment(
        "A foveal study. Options may be edited; what depends on them runs again.\n"
        "`foveal recipes ADDRESS` lists them. Table and columns: foveal init FOLDER --replace.\n"
    )
    sheet.yaml_set_comment_before_after_key("facts", before="\nMeasured by `foveal init`.")
    out = io.StringIO()
    yaml = YAML()
    yaml.width = 10_000
    yaml.dump(sheet, out)
    return out.getvalue()


def parse_settings(path: Path) -> Settings:
    """Read settings that `format_settings` wrote and a person may have edited."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        sheet = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, YAMLError) as error:
        raise StudyError(f"cannot read {path}: {_line_of(error)}") from None
    required = ("recipe", "table", "target", "facts", "checked")
    known = (*required, "options", *COLUMN_KEYS)
    if not isinstance(sheet, dict):
        raise StudyError(f"{path} is empty or no mapping; cure: foveal init FOLDER --replace")
    for key in sheet:
        if key not in known:
            raise UsageError(f'unknown key "{key}" in {path}{nearest(str(key), known)}')
    for key in required:
        if not sheet.get(key):
            raise StudyError(
                f'the key "{key}" is missing in {path}; cure: foveal init FOLDER --replace'
            )
    if not isinstance(sheet.get("options") or {}, dict) or not isinstance(sheet["facts"], dict):
        raise StudyError(f"options: and facts: in {path} must list names and values")
    columns: dict[str, Any] = {}
    for key in COLUMN_KEYS:
        value = sheet.get(key)
        if value:
            many = value if isinstance(value, list) else [value]
            columns[key] = tuple(map(str, many)) if key in LISTS else str(value)
    source = Source(table=str(sheet["table"]), **columns)
    return Settings(
        recipe=str(sheet["recipe"]),
        options={str(name): value for name, value in (sheet.get("options") or {}).items()},
        source=source,
        facts=Facts.from_json(sheet["facts"]),
        checked=str(sheet["checked"]),
    )


def _line_of(error: Exception) -> str:
    """What is wrong and where, without the sheet and the advice that YAML's parser adds."""
    problem, mark = (getattr(error, name, None) for name in ("problem", "problem_mark"))
    if problem is None or mark is None:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}: {problem}"
