"""Frozen records of parts: what a study is made of, and what passes between stages and members.

`stages` knows these records and nothing of pictures or networks. A member is whatever keeps the
protocol: a network trained by `train.loop` is one, features with trees another, a user's own third.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Shaped

from foveal.combine.blend import Blend
from foveal.decide.decoder import Decoder
from foveal.errors import Stopped, UsageError
from foveal.manifest import Case, Facts, Manifest, Truth
from foveal.metrics.interval import Metric
from foveal.predictions import Predictions
from foveal.split.record import Split

# --- targets -------------------------------------------------------------------------------------


@runtime_checkable
class Target(Protocol):
    """What the target columns mean."""

    def encode(self, manifest: Manifest) -> np.ndarray:
        """The truth that decisions are judged on."""
        ...

    def train(self, encoded: np.ndarray) -> np.ndarray:
        """The truth that networks are trained on."""
        ...

    def truth(self, manifest: Manifest, encoded: np.ndarray, split: Split) -> Truth:
        """The truth of every case, as the fold that judges it may know it."""
        ...

    def remarks(self, encoded: np.ndarray, weight: Float[np.ndarray, " case"]) -> list[str]:
        """What a person should know of these targets before anything is trained."""
        ...


# --- members -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class State:
    """What training leaves behind.

    Attributes:
        tensors: Arrays by name.
        notes: A few words and numbers.
        for_new: Arrays that only answers for new cases may use, such as a gallery with the very
            pictures that the fold judges; nobody sees them while that fold is scored.
    """

    tensors: Mapping[str, np.ndarray]
    notes: Mapping[str, Any] = field(default_factory=dict)
    for_new: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a job may use, and whom it tells; of all this the kind of device alone changes a result.

    Attributes:
        device: "cpu" or "cuda:0".
        threads: That read and vary pictures.
        cache: Folder for decoded pictures.
        cache_bytes: Most that the cache may hold.
        once: Whether each case is asked for once, so that what is large may go when it was.
        should_stop: Asked often.
        prepared: Told which share of the pictures is in the cache, while it is filled.
        scored: Told which share of the cases is scored, where one may take long.
        left_out: Told of a case that is not scored, and why.
        doubt: Told of a case that is scored, and why what is said of it may be wrong.
    """

    cache: Path
    device: str = "cpu"
    threads: int = 1
    cache_bytes: float = 8e9
    once: bool = False
    should_stop: Callable[[], bool] = lambda: False
    prepared: Callable[[float], None] = lambda share: None
    scored: Callable[[float], None] = lambda share: None
    left_out: Callable[[Case, str], None] = lambda case, why: None
    doubt: Callable[[Case, str], None] = lambda case, why: None

    def ask(self) -> None:
        """Go on, or raise `Stopped` where the signal came."""
        if self.should_stop():
            raise Stopped("stopped; the same call goes on")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One member to be trained without one fold.

    Attributes:
        key: Seed of the study, a number for the member's name, and the fold last: members look at
            other draws and start from other weights, or their mistakes would be alike.
        cases: All cases of the study.
        train: Rows to learn from.
        held: Rows that the fold judges; looked at for curves only.
        target: Training target of every case.
        weight: How much every case counts.
        group: What must not be split, for choices inside the training rows.
        judge: From predictions of the held rows to a number, for curves.
        folder: For checkpoints.
        mark: Digest of all that decides this training, but for `overrides`.
        resources: What may be used.
        report: Told how far it is.
        overrides: Settings changed for this job alone, such as `accumulate` after out of memory.
        checkpoint_seconds: Time between saves.
    """

    key: tuple[int, ...]
    cases: Sequence[Case]
    train: Int[np.ndarray, " train_row"]
    held: Int[np.ndarray, " held_row"]
    target: Shaped[np.ndarray, "case ..."]
    weight: Float[np.ndarray, " case"]
    group: Int[np.ndarray, " case"]
    judge: Callable[[Predictions], float]
    folder: Path
    mark: str
    resources: Resources
    report: Callable[[Mapping[str, Any]], None]
    overrides: Mapping[str, Any] = field(default_factory=dict)
    checkpoint_seconds: float = 300.0

    @property
    def counted(self) -> Int[np.ndarray, " train_row"]:
        """The training rows of some weight; nothing is learned from any other."""
        return self.train[self.weight[self.train] > 0]


@runtime_checkable
class Member(Protocol):
    """The door between the wings: anything that learns from cases and scores others.

    Attributes:
        kind: What it is one of, such as networks; members of a kind are joined by themselves too.
        device: The kind that it has a use for, "cuda" or "cpu".
    """

    kind: ClassVar[str]
    device: ClassVar[str]

    @property
    def name(self) -> str:
        """What the leaderboard and the study's folders call it."""
        ...

    def fit(self, job: Job) -> State:
        """Learn from the training rows of a job."""
        ...

    def score(
        self,
        states: Sequence[State],
        cases: Sequence[Case],
        rows: Int[np.ndarray, " row"],
        resources: Resources,
    ) -> list[Predictions]:
        """Score rows of the cases with each of several states; an unreadable case is left out."""
        ...

    def check(self) -> None:
        """Raise a `UsageError` where it could never be built, before anything is written."""
        ...

    def estimate(self, cases: int, resources: Resources) -> float:
        """About how many seconds a training on so many cases takes here."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Approach:
    """One way to pose a target to a network, ending in the family's score.

    Attributes:
        name: Short, for the leaderboard.
        outputs: What the head gives.
        loss: From logits and target to a number that falls.
        score: From logits to scores.
    """

    name: str
    outputs: Any
    loss: Callable
    score: Callable


# --- recipes -------------------------------------------------------------------------------------


@runtime_checkable
class Answer(Protocol):
    """The file, or the folder, that a user asked for.

    Attributes:
        suffix: Of its usual name; empty for a folder.
    """

    suffix: ClassVar[str]

    def files(self, path: Path, asked: Asked) -> list[Path]:
        """All files that `write` makes or replaces."""
        ...

    def write(self, path: Path, asked: Asked, given: Given) -> None:
        """Write it whole or not at all."""
        ...

    def out_of_fold(self, labels: Any, predictions: Predictions, truth: Truth) -> dict[str, list]:
        """Columns of `oof.csv`: what people and panels want to know of every case."""
        ...

    def prior(self, truth: np.ndarray, weight: np.ndarray) -> dict[str, Any]:
        """What to answer when nothing is known of a case, as JSON."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a table asks for: cases in order, and the names of its columns."""

    ids: tuple[str, ...]
    cases: tuple[Case, ...] = ()
    id_column: str
    target_columns: tuple[str, ...]
    scores: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What is known for the answer: labels of some cases and a prior for the others."""

    ids: tuple[str, ...] = ()
    labels: Any = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    predictions: Predictions | None = None
    probabilities: Any = None
    prior: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A study's parts, all of them named here and nowhere else.

    Attributes:
        target: What the target columns mean.
        metric: What the leaderboard is ranked by.
        folds: From the manifest to folds.
        members: In order; earlier ones answer first under a deadline.
        floor: The name of the member that needs no network.
        blends: Ways to join members, the simplest first.
        decode: From scores to labels.
        probabilities: From scores to a probability a label, for `--scores`.
        answer: The form of the answer.
        panels: Pieces of the report.
        cache_gb: Most disk that decoded pictures may take.
    """

    target: Target
    metric: Metric
    folds: Callable[[Manifest], Split]
    members: tuple[Member, ...]
    floor: str
    blends: tuple[Blend, ...]
    decode: Decoder
    probabilities: Any
    answer: Answer
    panels: tuple[Callable, ...]
    seed: int = 0
    cache_gb: float = field(default=8.0, metadata={"digest": False})

    def __post_init__(self) -> None:
        """Make sure that every member has a folder of its own."""
        names = [member.name for member in self.members]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(f"members of one name: {', '.join(twice)}; cure: each once")


def _nothing(manifest: Manifest) -> list[str]:
    """There is nothing to remark."""
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What must be known of a family before a recipe of it can be built.

    Attributes:
        survey: From a case, and the files of its target where they are files, to what was measured
            of it and a small picture, decoding all in full.
        facts: From manifest and measurements to facts.
        audit: From the manifest to findings, in plain words.
        simulate: Writes a small data set with known truth into a folder and says how to use it.
        demo: The recipe function that `foveal demo` runs, with its options.
        remarks: From the manifest to what a person should know before anything is trained.
        files: Columns of the table that lead to the files; none where `--images` does.
        optional_files: Such columns that may be missing.
        target_is_file: Whether the target columns lead to files too.
    """

    survey: Callable[..., Any]
    facts: Callable[[Manifest, Sequence[Any]], tuple[Manifest, Facts]]
    audit: Callable[[Manifest], list[str]]
    simulate: Callable[..., Mapping[str, Any]]
    demo: tuple[str, Mapping[str, Any]]
    remarks: Callable[[Manifest], list[str]] = _nothing
    files: tuple[str, ...] = ()
    optional_files: tuple[str, ...] = ()
    target_is_file: bool = False


# --- running -------------------------------------------------------------------------------------


def _silent(*_: Any) -> None:
    """Say nothing."""


def _never() -> bool:
    """Go on."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Who is told, who may stop, and what may be used; the kind of device alone changes a result.

    Attributes:
        say: A line for people.
        warn: A line that people should not miss, and what it is about.
        progress: What is going on, how far it is (0 to 1), and a word on it.
        should_stop: Asked often.
        device: "cpu" or "cuda" to insist on a kind.
        slots: Devices, one a job that may run at a time; None finds out, an empty tuple runs jobs
            in this process.
        keep: File descriptors that jobs hold too: those of the study's lock, where the caller holds
            the study.
        checkpoint_seconds: Time between saves of a training.
    """

    say: Callable[[str], None] = _silent
    warn: Callable[[str, Sequence[str]], None] = _silent
    progress: Callable[[str, float, str], None] = _silent
    should_stop: Callable[[], bool] = _never
    device: str | None = None
    slots: tuple[str, ...] | None = None
    keep: tuple[int, ...] = ()
    checkpoint_seconds: float = 300.0

    def ask(self) -> None:
        """Go on, or raise `Stopped` where the signal came."""
        if self.should_stop():
            raise Stopped("stopped; the same call goes on")
