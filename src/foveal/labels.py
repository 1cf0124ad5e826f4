"""What recipes that end in labels have in common: what members learn, what `init` measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from foveal.audit.channels import odd_channels
from foveal.audit.duplicates import lookalikes
from foveal.audit.leaks import conflicts, label_telltales
from foveal.manifest import Facts, Manifest
from foveal.members.ridge import Learns, every_column
from foveal.split.record import numbered
from foveal.survey import Surveyed, measure
from foveal.targets.labels import Labels


def every_label(names: tuple[str, ...]) -> Learns:
    """A number of 0 to 1 for each of these labels, from a member that needs no network."""
    return Learns(goal=every_column, columns=names, limits=(0.0, 1.0))


def facts(
    manifest: Manifest, found: Sequence[Surveyed], *, one_each: bool = False
) -> tuple[Manifest, Facts]:
    """The manifest with what was measured of every case and its labels, and the facts of all.

    Args:
        manifest: The cases.
        found: What was seen of each.
        one_each: Whether every case has exactly one label.
    """
    told = Labels.measure(manifest, one_each=one_each)
    names = Labels(tuple(told["labels"]), one_each).names_of(manifest)
    manifest, facts = measure(manifest, found, target=told)
    return replace(manifest, measured={**manifest.measured, "label_names": names}), facts


def suspicions(manifest: Manifest) -> list[str]:
    """Does the picture's size, site or source tell a label? Are equal pictures labelled alike?

    Do pictures look alike? Are channels odd?
    """
    words = "pictures are equal byte for byte to another with other labels (kept, in one fold)"
    return [
        *label_telltales(manifest),
        *conflicts(manifest, numbered(manifest.measured["label_names"]), words),
        *lookalikes(manifest),
        *odd_channels(manifest),
    ]
