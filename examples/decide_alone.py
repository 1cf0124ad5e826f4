"""The decisions wing alone: cuts and an honest interval for scores from any trainer."""

import numpy as np

from foveal.decide import ClosedFormCuts, ExactCuts
from foveal.manifest import Truth
from foveal.metrics import bootstrap, quadratic_kappa
from foveal.predictions import Predictions


def main() -> None:
    """Fit cuts on half of some simulated scores and judge them on the other half."""
    rng = np.random.default_rng(0)
    grade = rng.choice(5, 2000, p=[0.49, 0.1, 0.27, 0.05, 0.09])
    score = 0.7 * (grade + rng.normal(0, 0.7, 2000))
    ids = [f"case {k}" for k in range(2000)]
    predictions = Predictions.of(ids, score[:, None], columns=("expected",))
    truth = Truth(
        target=grade, weight=np.ones(2000), group=np.arange(2000) // 2, fold=np.arange(2000) % 2
    )
    fitted, judged = np.arange(1000), np.arange(1000, 2000)
    for rule in (ClosedFormCuts(5), ExactCuts(5)):
        cuts = rule.fit(predictions.take(ids[:1000]), truth.take(fitted))
        labels = cuts(predictions.take(ids[1000:]))
        tally = quadratic_kappa.tally(labels, truth.take(judged))
        low, high = bootstrap(quadratic_kappa, tally, truth.group[judged])
        value = float(quadratic_kappa.value(tally.sum(axis=0)))
        print(f"{type(rule).__name__}: {value:.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
