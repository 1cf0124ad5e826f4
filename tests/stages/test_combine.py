"""The rows of the leaderboard, written out by hand for recipes of several kinds of members."""

from collections.abc import Sequence

import pytest

from foveal.combine.blend import CalibratedMean, LabelAverage, NonNegative
from foveal.manifest import Facts
from foveal.recipes import grade
from foveal.stages.combine import entries
from foveal.task import Recipe

FACTS = Facts(
    cases=100,
    target={"grades": 5},
    height=48,
    width=48,
    aspect=1.0,
    channels=3,
    bits=8,
    mean=(0.5, 0.5, 0.5),
    std=(0.2, 0.2, 0.2),
)
CLASSICAL, NETWORKS = ("patches", "floor"), ("regression", "cumulative", "expectation")
BLENDS = {"mean": CalibratedMean(), "label average": LabelAverage(5), "weighted": NonNegative()}


def recipe(members: Sequence[str]) -> Recipe:
    return grade.small(FACTS, members=",".join(members))


def rows(members: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    return [(e.name, e.members) for e in entries(recipe(members))]


def test_members_alone_then_each_blend_of_every_kind_and_of_all() -> None:
    both = (*CLASSICAL, *NETWORKS)
    assert rows(both) == [
        *((name, (name,)) for name in both),
        ("mean of classical", CLASSICAL),
        ("mean of networks", NETWORKS),
        ("mean of all", both),
        ("label average of classical", CLASSICAL),
        ("label average of networks", NETWORKS),
        ("label average of all", both),
        ("weighted of classical", CLASSICAL),
        ("weighted of networks", NETWORKS),
        ("weighted of all", both),
    ]


def test_a_single_kind_is_all_and_said_once() -> None:
    assert rows(NETWORKS) == [
        *((name, (name,)) for name in NETWORKS),
        *((f"{blend} of all", NETWORKS) for blend in BLENDS),
    ]


def test_a_kind_of_one_member_is_that_member() -> None:
    members = ("floor", *NETWORKS)
    assert rows(members)[4:] == [
        (f"{blend} of {label}", joined)
        for blend in BLENDS
        for label, joined in (("networks", NETWORKS), ("all", members))
    ]
    pair = ("patches", "cumulative")
    assert rows(pair)[2:] == [(f"{blend} of all", pair) for blend in BLENDS]


@pytest.mark.parametrize("name", [*CLASSICAL, *NETWORKS])
def test_one_member_is_one_row(name: str) -> None:
    assert rows([name]) == [(name, (name,))]


def test_every_row_decides_by_the_rule_of_the_recipe_and_blends_as_its_name_says() -> None:
    made = recipe(())
    for entry in entries(made):
        assert entry.decode == made.decode
        blend, _, label = entry.name.partition(" of ")
        assert entry.blend == BLENDS[blend if label else "mean"]


def test_names_are_told_apart_for_every_recipe() -> None:
    for made in (recipe(()), grade.aptos(FACTS, weights="none")):
        found = entries(made)
        assert len({e.name for e in found}) == len(found)
        assert len({(e.members, e.blend) for e in found}) == len(found)
        assert found[-1].members == tuple(m.name for m in made.members)
