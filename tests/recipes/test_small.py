"""What the small recipes of all families have in common."""

from dataclasses import replace
from inspect import signature
from types import ModuleType
from typing import Any

import pytest
from torch import nn

from facts import FACTS
from foveal.errors import UsageError
from foveal.options import shape_of
from foveal.recipes import classify, grade, identify, multilabel


def training_of(family: ModuleType, facts: Any = None, **options: Any) -> Any:
    """How the first network of a small recipe is trained."""
    recipe: Any = family.small(facts or FACTS[family], **options)
    return next(m.training for m in recipe.members if hasattr(m, "training"))


def rate_of(training: Any) -> float:
    (groups, *_) = training.optim(nn.Linear(2, 2)).param_groups
    return groups["lr"]


@pytest.mark.parametrize("family", FACTS, ids=lambda family: family.__name__)
def test_trained_weights_are_tuned_at_a_rate_that_they_survive(family: ModuleType) -> None:
    scratch = rate_of(training_of(family))
    assert rate_of(training_of(family, weights="imagenet")) == pytest.approx(5e-4)
    assert scratch >= 2e-3
    for weights in ("none", "imagenet"):
        assert rate_of(training_of(family, weights=weights, lr=0.04)) == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("family", "recipe"),
    [
        (family, name)
        for family in FACTS
        for name in ("small", "aptos", "humpback", "hpa", "panda", "vesuvius")
        if hasattr(family, name) and "optimiser" in signature(getattr(family, name)).parameters
    ],
)
def test_every_optimiser_has_a_rate_and_a_decay_of_its_own(family: ModuleType, recipe: str) -> None:
    decays: dict[str, set[float]] = {}
    for kind, least, most in (("sgd", 0.01, 0.1), ("adamw", 1e-4, 1e-2)):
        for weights in ("none", "imagenet"):
            made = getattr(family, recipe)(FACTS[family], optimiser=kind, weights=weights)
            training = next(m.training for m in made.members if hasattr(m, "training"))
            assert least <= rate_of(training) <= most
            decays.setdefault(kind, set()).add(training.optim.weight_decay)
    assert decays["sgd"] == {1e-4}


@pytest.mark.parametrize("family", [classify, identify, multilabel])
def test_what_is_not_cropped_keeps_its_own_shape(family: ModuleType) -> None:
    """The content of a photograph on black is squarer than the photograph."""
    wide = replace(FACTS[family], height=200, width=400, aspect=1.0)
    height, width = training_of(family, wide).size
    assert width == 2 * height


@pytest.mark.parametrize("size", ["0x0", "1x1", "4x4", "31x96", "96x31", "4097x32", "32x99999"])
def test_a_size_has_sides_that_a_network_can_see(size: str) -> None:
    for family in (grade, classify, multilabel, identify):
        with pytest.raises(UsageError, match=f"{size}: both sides.*32 to 4096"):
            family.small(FACTS[family], size=size)
    with pytest.raises(UsageError, match=size):
        identify.small(FACTS[identify], floor_size=size)
    assert shape_of("32x4096", 1.0) == (32, 4096)


def test_a_square_has_the_side_that_was_asked_for() -> None:
    assert shape_of(380, 1.0) == (380, 380)
    assert shape_of(380, 2.0) == (272, 544)
