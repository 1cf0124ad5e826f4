"""What learns from cases and scores others: networks, and features with trees or ridge."""

from foveal.members.classical import Classical as Classical
from foveal.members.dictionary import Dictionary as Dictionary
from foveal.members.network import Network as Network

__all__ = ["Classical", "Dictionary", "Network"]
