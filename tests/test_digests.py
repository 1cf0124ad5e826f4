"""Parts describe themselves, come back, and differ in their digests when any field does."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from foveal.decide import FixedCuts
from foveal.digests import describe, digest, revive
from foveal.errors import StudyError
from foveal.read import Photograph
from foveal.transforms import Augment, Cutmix, Mixup, Prepare


@dataclass(frozen=True)
class Local:
    speed: int = field(default=1, metadata={"digest": False})
    size: int = 2


@pytest.mark.parametrize(
    "part",
    [
        FixedCuts((0.5, 1.5)),
        Prepare(height=3, width=4, crop_border=False),
        Augment(scale=(0.5, 2.0)),
        (Mixup(0.1), Cutmix(), {"a": (1, None, True, "x")}),
        Photograph(channels=5, bits=16),
    ],
)
def test_what_describe_writes_revive_reads(part):
    assert revive(describe(part)) == part


def test_what_has_no_name_cannot_describe_itself():
    def closure() -> None: ...

    for part in (lambda x: x, closure, object(), {1, 2}, Path("/x"), [lambda x: x]):
        with pytest.raises(TypeError, match="cannot describe itself"):
            describe(part)


def test_revive_takes_only_records_of_foveal():
    for part in (
        "os:system",
        "foveal.digests:digest",
        "foveal.digests:Nothing",
        f"{__name__}:Local",
    ):
        with pytest.raises(StudyError, match="no record of foveal"):
            revive({"part": part})


def test_a_digest_tells_apart_what_differs_and_ignores_what_may():
    parts = [1, 1.0, True, None, "1", "", (), ((),), {"a": 1}, {"a": 2}, {"b": 1}, 0, -1, np.eye(2)]
    parts += [np.zeros((2, 3)), np.zeros((3, 2)), Prepare(height=1, width=2), describe, digest]
    assert len({digest(p) for p in parts}) == len(parts)
    assert digest(1, 2) != digest((1, 2))
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest(Local(speed=1)) == digest(Local(speed=9)) != digest(Local(size=3))


@dataclass(frozen=True)
class Other:
    size: int = 2


@dataclass(frozen=True)
class Holder:
    held: object = field(metadata={"inline": True})
    name: str = "x"


@dataclass(frozen=True)
class Sized(Holder):
    size: int = 7


def test_what_stands_inline_is_told_apart_by_its_kind_and_hides_nothing():
    assert describe(Holder(Other())) == {
        "part": f"{__name__}:Holder",
        "held": f"{__name__}:Other",
        "size": 2,
        "name": "x",
    }
    assert digest(Holder(Other())) != digest(Holder(Local()))
    with pytest.raises(TypeError, match="two things are called size"):
        describe(Sized(Other()))


def test_a_digest_is_the_same_in_every_process():
    code = (
        "from foveal.digests import *; from foveal.decide import FixedCuts; import numpy as np;"
        "print(digest(FixedCuts((0.5,)), describe, {'é': np.arange(3.0), 'a': 1}))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert len(runs[0].strip()) == 16
