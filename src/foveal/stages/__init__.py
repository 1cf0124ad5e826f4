"""The stages, each a function from a study to a study that skips what is done.

They know records and protocols (`foveal.task`), no part and no recipe, print nothing, and end in
errors of foveal's own tree. From Python, the whole trip is three lines::

    study = init("eyes", recipe="grade:small", table="t.csv", images="img/{image}", target="grade")
    run(study)
    predict(study, table="new.csv", images="new/{image}", out="answers.csv")
"""

from foveal.stages.address import about as about
from foveal.stages.address import addresses as addresses
from foveal.stages.combine import combine as combine
from foveal.stages.init import init as init
from foveal.stages.init import plan as plan
from foveal.stages.predict import predict as predict
from foveal.stages.report import demo as demo
from foveal.stages.report import report as report
from foveal.stages.report import run as run
from foveal.stages.split import audit as audit
from foveal.stages.split import fold_table as fold_table
from foveal.stages.split import split as split
from foveal.stages.train import train as train

__all__ = [
    "about",
    "addresses",
    "audit",
    "combine",
    "demo",
    "fold_table",
    "init",
    "plan",
    "predict",
    "report",
    "run",
    "split",
    "train",
]
