"""A recipe of one's own: a shipped one with other defaults, typed, told and checked like it.

    foveal init eyes --recipe ./own_recipe.py:careful --table labels.csv --images 'img/{image}' \
        --target grade epochs=60

Run it with `python examples/own_recipe.py`; it takes half a minute on two cores.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from foveal import stages
from foveal.manifest import Facts
from foveal.options import Count, Seed
from foveal.recipes import grade
from foveal.simulate import simulate_retina
from foveal.task import Recipe

FAMILY = grade.FAMILY


def careful(facts: Facts, /, *, epochs: Count = 40, seed: Seed = 0, members: str = "") -> Recipe:
    """Photographs with a grade, learned longer, with squares hidden and looked at four ways.

    Args:
        facts: What `init` measured.
        epochs: Passes over the training pictures.
        seed: Of everything that is random.
        members: Names with commas between them; all if left out.
    """
    return grade.small(
        facts, epochs=epochs, seed=seed, members=members, cutout=0.5, views="flips", folds=3
    )


def main(folder: Path) -> None:
    """Say what the recipe asks for, and take the whole trip with two of its members."""
    recipe = f"{Path(__file__).absolute()}:careful"
    for option in stages.about(recipe)["options"]:
        print(f"{option['name']:8} {option['help']}")
    data = simulate_retina(folder / "data", cases=60, size=96)
    options = {"epochs": 2, "members": "floor,regression"}
    study = stages.init(folder / "study", recipe=recipe, options=options, **data)
    print(stages.run(study).name)


if __name__ == "__main__":
    with TemporaryDirectory() as scratch:
        main(Path(scratch))
