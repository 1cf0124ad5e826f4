"""Recipe addresses: `grade:small`, or `./mine.py:study`, resolved by exactly one import.

A recipe function's keyword arguments are its documentation, its validation and its command line.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module, util
from pathlib import Path
from typing import Any, get_type_hints

from foveal.digests import OWN_RECIPES
from foveal.errors import UsageError, nearest
from foveal.manifest import Facts
from foveal.task import Family, Recipe


def resolve(address: str) -> tuple[Family, Callable[..., Recipe]]:
    """The family and the recipe function that an address names, by exactly one import.

    Args:
        address: `grade:small`, or `./mine.py:study` for a file of the user's own.

    Raises:
        UsageError: There is no such family or recipe; the nearest one is named.
    """
    place, _, name = address.rpartition(":")
    if not place:
        raise UsageError(f'no recipe "{address}"{nearest(address, addresses())}')
    module = _own_module(Path(place)) if place.endswith(".py") else _shipped(place)
    functions = recipes_of(module)
    if name not in functions and inspect.isfunction(getattr(module, name, None)):
        raise UsageError(
            f"{name} in {place} promises no recipe; cure: def {name}(facts, /, …) -> Recipe"
        )
    if name not in functions:
        raise UsageError(f'no recipe "{name}" in {place}{nearest(name, functions)}')
    return _family(module, place), functions[name]


def import_own(address: str) -> None:
    """Import a recipe file of the user's own, whose parts are then known; nothing of foveal's."""
    place = address.rpartition(":")[0]
    if place.endswith(".py"):
        _own_module(Path(place))


def family_of(name: str) -> Family:
    """A shipped family by name."""
    return _family(_shipped(name), name)


def _family(module: Any, place: str) -> Family:
    family = getattr(module, "FAMILY", None)
    if not isinstance(family, Family):
        raise UsageError(
            f"{place} defines no FAMILY; cure: such as FAMILY = grade.FAMILY, after from "
            "foveal.recipes import grade"
        )
    return family


def families() -> list[str]:
    """The names of the shipped recipe files."""
    folder = Path(__file__).parent.parent / "recipes"
    return sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_"))


def recipes_of(module: Any) -> dict[str, Callable[..., Recipe]]:
    """The recipe functions that a module defines: those that promise to return a `Recipe`."""
    own = (f for f in vars(module).values() if inspect.isfunction(f))
    return {
        f.__name__: f
        for f in own
        if f.__module__ == module.__name__
        and not f.__name__.startswith("_")
        and f.__annotations__.get("return") in ("Recipe", Recipe)
    }


def _shipped(family: str) -> Any:
    if family not in families():
        raise UsageError(f'no recipe family "{family}"{nearest(family, families())}')
    return import_module(f"foveal.recipes.{family}")


def _own_module(path: Path) -> Any:
    """The module of a recipe file, called by its content too: what it says changes every digest."""
    if not path.is_file():
        raise UsageError(f"no such recipe file: {path}")
    said = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    spec = util.spec_from_file_location(f"{OWN_RECIPES}{path} {said}", path)
    assert spec is not None  # of any file that ends in .py
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def build(function: Callable[..., Recipe], facts: Facts, options: Mapping[str, Any]) -> Recipe:
    """A recipe from its function, with every option checked by the function's own signature.

    Raises:
        UsageError: An option is unknown or does not fit; the nearest one is named.
    """
    return function(facts, **fitted(function, options))


def fitted(function: Callable[..., Recipe], options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as the annotations of a recipe function have them.

    Raises:
        UsageError: An option is unknown or does not fit; the nearest one is named.
    """
    from pydantic import TypeAdapter

    hints = get_type_hints(function, include_extras=True)
    known = options_of(function)
    values = {}
    for name, value in options.items():
        if name not in known:
            raise UsageError(f'unknown option "{name}"{nearest(name, known)}')
        values[name] = _fitting(TypeAdapter(hints[name]), name, value, meanings(function)[1])
    return values


def _fitting(adapter: Any, name: str, value: Any, known: Mapping[str, str]) -> Any:
    """An option as its annotation has it; a number may be a name, such as -1."""
    from pydantic import ValidationError

    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        why = error.errors()[0]["msg"]
    if isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(ValidationError):
            text = adapter.validate_python(str(value))
            if isinstance(value, int):
                return text
            why = f"a number, where a text is wanted; cure: quotes, as in {name}='\"1.50\"'"
    meaning = f". {name}: {known[name]}" if name in known else ""
    raise UsageError(f'option {name}="{value}": {why}{meaning}')


def options_of(function: Callable[..., Recipe]) -> dict[str, inspect.Parameter]:
    """The options of a recipe function: its keyword-only arguments."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def addresses() -> dict[str, str]:
    """Every shipped recipe's address and the first line of its description."""
    found = {}
    for family in families():
        for name, function in recipes_of(_shipped(family)).items():
            found[f"{family}:{name}"] = (inspect.getdoc(function) or "").partition("\n")[0]
    return found


def about(address: str) -> dict[str, Any]:
    """A recipe's description and every option with its default and meaning."""
    _, function = resolve(address)
    words, known = meanings(function)
    options = [
        {
            "name": option.name,
            "default": "" if option.default is None else option.default,
            "help": known.get(option.name, ""),
        }
        for option in options_of(function).values()
    ]
    return {"address": address, "words": words, "options": options}


def meanings(function: Callable[..., Recipe]) -> tuple[str, dict[str, str]]:
    """What a recipe function says of itself, and it or their types of each of its options."""
    words, _, described = (inspect.getdoc(function) or "").partition("\nArgs:\n")
    hints = get_type_hints(function, include_extras=True)
    parts = {name: getattr(hints[name], "__metadata__", ()) for name in options_of(function)}
    told = {name: (getattr(part, "description", "") for part in parts[name]) for name in parts}
    known = {name: text for name, found in told.items() if (text := next(filter(None, found), ""))}
    name = ""
    for line in described.partition("\n\n")[0].splitlines():
        if line.startswith("    ") and not line.startswith("     ") and ":" in line:
            name, _, rest = line.strip().partition(": ")
            known[name] = rest
        elif name:
            known[name] += " " + line.strip()
    return words.strip(), known
