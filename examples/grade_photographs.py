"""The whole trip from Python: simulate, train, look at the leaderboard, answer.

Run it with `python examples/grade_photographs.py`; it takes about a minute on two cores.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from foveal import stages
from foveal.simulate import simulate_retina


def main(folder: Path) -> None:
    """Grade sixty simulated photographs and print the leaderboard."""
    data = simulate_retina(folder / "data", cases=60, size=96)
    options = {"size": 48, "epochs": 3, "folds": 3, "trees": 50, "members": "floor,expectation"}
    study = stages.init(folder / "study", recipe="grade:small", options=options, **data)
    stages.run(study)
    board = json.loads((study.combine_folder / "leaderboard.json").read_text())
    for row in board["rows"]:
        mark = "*" if row["name"] == board["chosen"] else " "
        print(f"{mark} {row['name']:24} {row['score']:.3f}")
    answer = folder / "answers.csv"
    stages.predict(study, table=data["table"], images=data["images"], out=answer, scores=True)
    print(answer.read_text().splitlines()[1])


if __name__ == "__main__":
    with TemporaryDirectory() as scratch:
        main(Path(scratch))
