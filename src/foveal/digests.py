"""Parts described as JSON and read back, and digests that differ when any part does."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from foveal.errors import StudyError


def describe(part: object) -> Any:
    """A part as JSON: its module, its name and its fields, all the way down.

    A dataclass field whose metadata says `digest=False` changes no result and is left out; of one
    that says `inline=True` the fields stand beside its own, so that they are named one by one.

    Raises:
        TypeError: A part cannot be described, such as a lambda or a closure, or a field that stands
            inline has the name of another.

    Example:
        >>> describe((1, 2.5, "a", None))
        [1, 2.5, 'a', None]
        >>> describe(describe)
        {'name': 'foveal.digests:describe'}
    """
    if part is None or isinstance(part, bool | int | float | str):
        return part
    if isinstance(part, np.ndarray):
        if part.dtype == object:
            raise TypeError("an array of objects cannot describe itself")
        kind = {"shape": list(part.shape), "dtype": part.dtype.str}
        return {"array": hashlib.sha256(part.tobytes()).hexdigest(), **kind}
    if isinstance(part, np.generic):
        return part.item()
    if isinstance(part, tuple | list):
        return [describe(p) for p in part]
    if isinstance(part, Mapping):
        return {str(k): describe(v) for k, v in part.items()}
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        said: dict[str, Any] = {"part": _address(type(part))}
        for f in dataclasses.fields(part):
            if f.metadata.get("digest", True):
                value = describe(getattr(part, f.name))
                if f.metadata.get("inline"):
                    kind = value.pop("part")
                    said, value = together(said, value), kind
                said = together(said, {f.name: value})
        return said
    is_bound = inspect.ismethod(part)
    if callable(part) and not is_bound and "<" not in getattr(part, "__qualname__", "<"):
        return {"name": _address(part)}
    raise TypeError(f"{part!r} cannot describe itself; use a function or a frozen dataclass")


def together(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Both as one.

    Raises:
        TypeError: A name is in both, so that one would hide that the other differs.
    """
    if taken := one.keys() & other.keys():
        raise TypeError(f"two things are called {', '.join(sorted(taken))}; cure: another name")
    return {**one, **other}


def _address(thing: Any) -> str:
    return f"{thing.__module__}:{thing.__qualname__}"


OWN_RECIPES = "recipes of "
"""What the name of the module begins with that a recipe file of the user's own becomes."""


def revive(value: Any) -> Any:
    """The frozen record that `describe` described.

    Records of foveal come back, and those of the recipe file of the user's own that is open;
    nothing else is imported.

    Example:
        >>> from foveal.decide import FixedCuts
        >>> revive(describe(FixedCuts((0.5, 1.5))))
        FixedCuts(cuts=(0.5, 1.5))
    """
    if isinstance(value, list):
        return tuple(revive(v) for v in value)
    if not isinstance(value, dict):
        return value
    if "part" not in value:
        return {k: revive(v) for k, v in value.items()}
    module, _, name = str(value["part"]).partition(":")
    try:
        own = sys.modules.get(module) if module.startswith(OWN_RECIPES) else None
        kind = getattr(import_module(module) if module.startswith("foveal.") else own, name, None)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            return kind(**{k: revive(v) for k, v in value.items() if k != "part"})
    except (ImportError, TypeError) as error:
        raise StudyError(f"{value['part']} cannot be read back: {error}") from None
    raise StudyError(f"{value['part']} is no record of foveal, nor of the study's own recipe")


def digest(*parts: object) -> str:
    """Sixteen hexadecimal digits that differ when any part does."""
    text = json.dumps(describe(parts), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
