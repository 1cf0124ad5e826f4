"""What an option of a recipe touches, told by the digests of all that is made from it.

The tests of a family list its options, each with another value than usual and what is then done
again: members by name, of which "networks" are all that are one, folds ("split"), and how rows of
the leaderboard decide and answer ("decisions"). The fixture `redone` finds what really is::

    EFFECTS = [("epochs", 3, {"networks"}), ("trees", 5, {"floor"}), ("cache_gb", 1.0, set())]
"""

import json
from collections.abc import Iterable, Mapping
from types import ModuleType

from foveal import stages
from foveal.digests import digest
from foveal.stages.address import options_of, recipes_of
from foveal.stages.split import open_split, truth_of
from foveal.stages.train import place
from foveal.study import Study

Effect = tuple[str, object, set[str]]


def digests(study: Study) -> dict[str, str]:
    """Of everything that each member, the folds and the decisions of a study depend on."""
    stages.split(study)
    opened, made = open_split(study)
    recipe = opened.recipe
    parts = (recipe.decode, recipe.metric, recipe.probabilities, recipe.answer, recipe.blends)
    return {
        **{m.name: digest(place(opened, made, m, 0)[1]) for m in recipe.members},
        "split": json.loads((study.split_folder / "done.json").read_text())["digest"],
        "decisions": digest(*parts, truth_of(opened, made).weight),
    }


def tried(
    family: ModuleType, effects: Iterable[Effect], networks: Mapping[str, set[str]]
) -> list[tuple[str, str, object, set[str]]]:
    """Every effect on every recipe that has the option, with the names of its own networks.

    Args:
        family: The file of the recipes.
        effects: An option, a value, and what that touches.
        networks: The members of each recipe that are one.
    """
    found = []
    for name, function in recipes_of(family).items():
        for option, value, touched in effects:
            if option in options_of(function):
                groups = (networks[name] if t == "networks" else {t} for t in touched)
                found.append((name, option, value, set().union(*groups)))
    return found


def untried(family: ModuleType, effects: Iterable[Effect]) -> dict[str, set[str]]:
    """The options of each recipe that no effect is listed of."""
    listed = {option for option, _, _ in effects}
    return {name: {*options_of(function)} - listed for name, function in recipes_of(family).items()}
