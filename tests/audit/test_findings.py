"""Findings name the first pictures, and say that there are more."""

from foveal.audit.findings import MOST, listed


def test_dots_stand_for_what_is_not_listed() -> None:
    names = [str(k) for k in range(MOST + 1)]
    assert listed(names) == ", ".join(names[:MOST]) + " ..."
    assert listed(names[:MOST]) == ", ".join(names[:MOST])
    assert listed([]) == ""
