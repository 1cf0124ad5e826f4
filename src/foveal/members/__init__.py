"""What learns from cases and scores others: networks, and features with trees."""

from foveal.members.classical import Classical as Classical
from foveal.members.network import Network as Network

__all__ = ["Classical", "Network"]
