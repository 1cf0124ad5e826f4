"""Everything that can go wrong on purpose, each kind with the exit code that a shell sees.

::

    FovealError                 1  unexpected; the log has the traceback
    ├── UsageError              2  the command or an option is wrong
    ├── DataError               3  the data or the study is wrong
    │   ├── ManifestError          the table of cases
    │   ├── TargetError            a grade, label, identity or mask
    │   ├── SplitError             folds that would leak or cannot be made
    │   ├── ShapeError             arrays that do not fit each other
    │   ├── UnreadableImage        a picture, a slice or a slide
    │   ├── StudyError             the study folder
    │   │   └── DiskFullError          no room to write
    │   ├── WeightsError           pretrained weights that cannot be loaded
    │   └── TrainingError          a training that cannot go on
    ├── MemoryBudgetError       4  out of memory after retries
    └── Stopped                75  stopped by a signal or a time limit; the same call goes on

A message says what came, what was expected and what to do, and never wraps a path or a name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

MOST_NAMES = 20
"""In one sentence; a study may have thousands."""


class FovealError(Exception):
    """Base of all errors that foveal raises on purpose."""

    exit_code = 1


class UsageError(FovealError):
    """The command line or an option is wrong."""

    exit_code = 2


class DataError(FovealError):
    """The data or the study is wrong."""

    exit_code = 3

    def __init__(self, message: str, culprits: Sequence[str] = ()) -> None:
        """Keep the culprits apart from the sentence, so that a long list can be cut for people."""
        super().__init__(message)
        self.culprits = tuple(culprits)


class ManifestError(DataError):
    """The table of cases cannot be used."""


class TargetError(DataError):
    """A grade, label, identity or mask cannot be used."""


class SplitError(DataError):
    """Folds would leak, or cannot be made."""


class ShapeError(DataError):
    """Arrays do not fit each other."""


class UnreadableImage(DataError):
    """A file is missing, truncated or no picture."""


class StudyError(DataError):
    """The study folder cannot be used."""


class DiskFullError(StudyError):
    """The disk has no room for what is to be written."""


class WeightsError(DataError):
    """Pretrained weights cannot be loaded."""


class TrainingError(DataError):
    """A training cannot go on."""


class MemoryBudgetError(FovealError):
    """Out of memory after every retry."""

    exit_code = 4


class Stopped(FovealError):
    """Stopped by a signal or a time limit; the same call goes on where this one stopped."""

    exit_code = 75


def nearest(word: str, words: Iterable[str]) -> str:
    """The end of a sentence that names the closest known word, or those that there are.

    Example:
        >>> nearest("grad", ["grade", "image"])
        '; did you mean "grade"?'
        >>> nearest("zzz", ["grade", "image"])
        '; there are: grade, image'
    """
    known = list(words)
    close = get_close_matches(word, known, n=1)
    if close:
        return f'; did you mean "{close[0]}"?'
    return f"; there are: {listed(known)}" if known else ""


def first_line(error: BaseException) -> str:
    """What an error of another library says, in a line; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def listed(names: Sequence[str]) -> str:
    """Names with commas between them; of very many the first ones, and how many more there are.

    Example:
        >>> listed(["grade", "image"])
        'grade, image'
    """
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more:,} more" if more > 0 else "")
