"""What `init` might have measured, for a recipe of every family."""

from types import ModuleType
from typing import Any

from foveal.manifest import Facts
from foveal.recipes import classify, grade, identify, multilabel, segment, slide


def facts(channels: int = 3, **known: Any) -> Facts:
    same = {"cases": 100, "height": 128, "width": 128, "aspect": 1.0, "bits": 8}
    spread = {"mean": (0.5,) * channels, "std": (0.2,) * channels}
    return Facts(channels=channels, **{**same, **spread, "target": {}, **known})


FACTS: dict[ModuleType, Facts] = {
    grade: facts(target={"grades": 5}),
    classify: facts(target={"labels": ["a", "b", "c"]}),
    multilabel: facts(4, target={"labels": ["a", "b", "c"]}),
    identify: facts(),
    segment: facts(1, target={"lattice": 4}, depth=6),
    slide: facts(target={"grades": 5}, levels=(1.0, 4.0, 16.0), tissue_pixels=1e6),
}
