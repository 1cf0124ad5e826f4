"""From a table and a folder of scientific images to an ensemble that can be trusted."""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

__all__ = ["Manifest", "Predictions", "Study", "__version__", "stages"]

_HOMES = {
    "Manifest": "foveal.manifest:Manifest",
    "Predictions": "foveal.predictions:Predictions",
    "Study": "foveal.study:Study",
    "stages": "foveal.stages:",
}


def __getattr__(name: str) -> object:
    """Resolve public names when they are first used (PEP 562), so that importing costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'foveal' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    home = import_module(module)
    return getattr(home, attribute) if attribute else home
