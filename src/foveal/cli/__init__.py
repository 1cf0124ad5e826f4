"""The command line: one verb a stage. The only room that prints, or reads what a person typed."""

from foveal.cli.main import call as call
from foveal.cli.main import main as main
from foveal.cli.verbs import app as app

__all__ = ["app", "call", "main"]
