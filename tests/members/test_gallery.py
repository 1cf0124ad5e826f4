"""Members that recognise: whom a fold may know, what new cases may use, and what reaches scores."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import NEW, job_of
from foveal.combine.blend import mean
from foveal.decide.retrieve import unit
from foveal.errors import MemoryBudgetError, UsageError
from foveal.files import read_json
from foveal.losses.margin import UNKNOWN, ArcFace, CosFace, MarginLoss
from foveal.members.eigenpictures import FLOOR_OF_VARIANCE, Eigenpictures, _main_directions
from foveal.members.embedder import Embedder, at_length_one
from foveal.models.heads import AverageMax
from foveal.predictions import NO_FOLD, Predictions
from foveal.stages.open import Opened
from foveal.stages.split import split_of
from foveal.task import Job, Resources, State
from foveal.train.sampling import PerIndividual

KINDS = ["floor", "arcface", "mirrored"]


def member(swum: Opened, name: str) -> Embedder | Eigenpictures:
    """A member of the study; "mirrored" is its ArcFace with mirrored pictures as others."""
    (found,) = [m for m in swum.recipe.members if m.name == name.replace("mirrored", "arcface")]
    return replace(found, mirrored=True) if name == "mirrored" else found


def trained(of: Embedder, **changes: object) -> Embedder:
    return replace(of, training=replace(of.training, **changes))


def job(swum: Opened, folder: Path, fold: int = 0, **changes: object) -> Job:
    made = split_of(swum)
    rows = {"train": np.flatnonzero(made.learns(fold)), "held": np.flatnonzero(made.fold == fold)}
    return replace(job_of(swum, folder), key=(0, fold), **rows, **changes)


def out_of_fold(of: Embedder | Eigenpictures, state: State, work: Job) -> Predictions:
    """As the stage that trains asks for it."""
    held = replace(state, for_new={})
    (said,) = of.score([held], work.cases, work.held, work.resources)
    return replace(said, fold=np.full(len(said), work.key[-1]))


def scores(of: Embedder | Eigenpictures, work: Job) -> np.ndarray:
    return out_of_fold(of, of.fit(work), work).values


def names_of(state: State, part: str) -> Counter:
    """How many pictures of everybody a gallery holds."""
    names = state.notes["names"]
    owners = {"learned": state.tensors, "rest": state.for_new}[part]["owner"]
    return Counter(names[k] for k in owners.tolist())


@pytest.mark.parametrize("kind", KINDS)
def test_a_fold_knows_exactly_whom_it_learned_from(swum: Opened, tmp_path: Path, kind: str) -> None:
    of, made, names = member(swum, kind), split_of(swum), swum.target
    everybody = set(names.tolist()) - {NEW}
    hidden = 0
    for fold in range(made.folds):
        work = job(swum, tmp_path / str(fold), fold)
        state = of.fit(work)
        learned = made.learns(fold) & (names != NEW)
        assert names_of(state, "learned") == Counter(names[learned].tolist())
        assert names_of(state, "rest") == Counter(names[~learned & (names != NEW)].tolist())
        said = out_of_fold(of, state, work)
        assert said.columns == tuple(sorted(everybody))
        known = set(names[learned].tolist())
        assert said.known == {fold: tuple(sorted(known))}
        values, present = said.matrix()
        np.testing.assert_array_equal(present, [np.isin(said.columns, sorted(known))] * len(said))
        assert (values[~present] == 0).all()
        assert values.min() >= 0
        assert values.max() <= 1
        hidden += len(everybody - known)
    assert hidden > 0


@pytest.mark.parametrize("kind", KINDS)
def test_new_cases_are_compared_with_everybody(swum: Opened, tmp_path: Path, kind: str) -> None:
    of, names = replace(member(swum, kind), nearest=1.0), swum.target
    states = [of.fit(job(swum, tmp_path / str(fold), fold)) for fold in range(2)]
    work = job(swum, tmp_path)
    named = np.flatnonzero(names != NEW)
    found = of.score(states, work.cases, named, work.resources)
    assert mean(found).known == {NO_FOLD: found[0].columns}
    for said in found:
        values, present = said.matrix()
        assert present.all()
        assert (values > 0).all()
        assert values.max() <= 1
        own = np.searchsorted(said.columns, names[named])
        np.testing.assert_allclose(values[np.arange(len(named)), own], 1, atol=1e-5)
    held = of.score([replace(s, for_new={}) for s in states], work.cases, named, work.resources)
    for fold, said in enumerate(held):
        hidden = ~np.isin(said.columns, said.known[fold])
        assert hidden.any()
        assert (said.matrix().values[:, hidden] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_fold_judges_changes_nothing_that_it_learns(
    swum: Opened, tmp_path: Path, kind: str
) -> None:
    of = member(swum, kind)
    plain = job(swum, tmp_path / "a")
    other = plain.cases[int(plain.train[0])].paths
    unseen = np.setdiff1d(np.arange(len(plain.cases)), plain.train)
    cases = [replace(c, paths=other) if k in unseen else c for k, c in enumerate(plain.cases)]
    target = plain.target.copy()
    target[unseen] = plain.target[plain.target != ""][0]
    before = of.fit(plain)
    after = of.fit(job(swum, tmp_path / "b", cases=cases, target=target))
    renamed = [after.notes["names"][k] for k in after.tensors.pop("owner").tolist()]
    assert renamed == [before.notes["names"][k] for k in before.tensors.pop("owner").tolist()]
    assert before.tensors.keys() == after.tensors.keys()
    for name, tensor in before.tensors.items():
        np.testing.assert_allclose(after.tensors[name], tensor, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_of_weight_0_teaches_nothing_and_stands_in_no_gallery(
    swum: Opened, tmp_path: Path, kind: str
) -> None:
    of, plain = member(swum, kind), job(swum, tmp_path / "a")
    named = plain.target != ""
    learned = Counter(plain.target[plain.train].tolist())
    one, gone = [name for name, count in learned.most_common() if name][:2]
    rest = np.setdiff1d(np.flatnonzero(named & (plain.target != one)), plain.train)
    weight = plain.weight.copy()
    weight[plain.target == gone] = 0
    weight[[plain.train[plain.target[plain.train] == one][0], rest[0]]] = 0
    weight[plain.train[plain.target[plain.train] == ""][:1]] = 0
    other = plain.cases[int(plain.train[0])].paths
    cases = [replace(c, paths=other) if weight[k] == 0 else c for k, c in enumerate(plain.cases)]
    state = of.fit(replace(plain, weight=weight))
    again = of.fit(job(swum, tmp_path / "b", weight=weight, cases=cases))
    assert state.notes["names"] == sorted(set(plain.target[named].tolist()) - {gone})
    is_learned = np.isin(np.arange(len(named)), plain.train)
    for part, rows in (("learned", is_learned), ("rest", ~is_learned)):
        shown = plain.target[rows & named & (weight > 0)]
        assert names_of(state, part) == Counter(shown.tolist())
    assert all(np.array_equal(again.tensors[k], v) for k, v in state.tensors.items())
    said = out_of_fold(of, state, replace(plain, weight=weight))
    assert gone not in said.columns
    assert set(said.known[0]) == set(learned) - {"", gone}


@pytest.mark.parametrize("kind", KINDS)
def test_the_curve_is_of_whom_the_fold_knows(swum: Opened, tmp_path: Path, kind: str) -> None:
    heard: list[Predictions] = []

    def judge(said: Predictions) -> float:
        heard.append(said)
        return 0.5

    work = job(swum, tmp_path, judge=judge)
    of = member(swum, kind)
    said = out_of_fold(of, of.fit(work), work)
    assert all(one.known == said.known and one.ids == said.ids for one in heard)
    if kind == "floor":
        assert not heard
    else:
        np.testing.assert_allclose(heard[-1].values, said.values, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_job_gives_the_same_bits_for_any_number_of_threads(
    swum: Opened, tmp_path: Path, kind: str
) -> None:
    of = member(swum, kind)
    resources = Resources(cache=tmp_path / "cache", threads=3)
    one = of.fit(job(swum, tmp_path / "a"))
    other = of.fit(job(swum, tmp_path / "b", resources=resources))
    for found, wanted in ((other.tensors, one.tensors), (other.for_new, one.for_new)):
        assert found.keys() == wanted.keys()
        assert all(np.array_equal(found[k], wanted[k]) for k in wanted)
    work = job(swum, tmp_path)
    before, after = (
        out_of_fold(of, s, replace(work, resources=r)).values
        for s, r in ((one, work.resources), (other, resources))
    )
    assert np.array_equal(before, after)


def test_with_mirrors_a_place_is_two_of_the_same_length_end_to_end(
    swum: Opened, tmp_path: Path
) -> None:
    of = member(swum, "mirrored")
    gallery = of.fit(job(swum, tmp_path)).tensors["gallery"]
    width = of.head.width
    assert gallery.shape[1] == 2 * width
    for half in (gallery[:, :width], gallery[:, width:]):
        np.testing.assert_allclose(np.linalg.norm(half, axis=1), np.sqrt(0.5), rtol=1e-5)
    assert not np.allclose(gallery[:, :width], gallery[:, width:])


# --- what the loss is told ------------------------------------------------------------------------


@dataclass(frozen=True)
class Listening(ArcFace):
    """A margin that writes down whom it is built for and told of, and may run out of memory."""

    most: int = 1000

    def build(self, individuals: int, width: int) -> MarginLoss:
        HEARD.append(individuals)
        return Heard(individuals, width, self, self.harder)


class Heard(MarginLoss):
    def forward(self, embedding: torch.Tensor, individual: torch.Tensor) -> torch.Tensor:
        if len(individual) > self.settings.most:
            raise torch.OutOfMemoryError("no more")
        HEARD.extend(individual.tolist())
        return super().forward(embedding, individual)


HEARD: list[int] = []


@pytest.mark.parametrize("kind", ["arcface", "mirrored"])
def test_the_loss_learns_individuals_their_mirror_images_and_nobody(
    swum: Opened, tmp_path: Path, kind: str
) -> None:
    HEARD.clear()
    work = job(swum, tmp_path)
    of = replace(member(swum, kind), loss=Listening())
    trained(of, sampler=PerIndividual()).fit(work)
    learned = set(work.target[work.train].tolist()) - {""}
    built_for, told = HEARD[0], Counter(HEARD[1:])
    ways = 2 if kind == "mirrored" else 1
    assert built_for == ways * len(learned)
    assert set(told) == {UNKNOWN, *range(built_for)}
    shown = Counter(np.searchsorted(sorted(learned), work.target[work.train]).tolist())
    strangers = int((work.target[work.train] == "").sum())
    shown[0] -= strangers
    assert told.pop(UNKNOWN) == of.training.epochs * ways * strangers
    assert told == {
        k + way * len(learned): of.training.epochs * count
        for k, count in shown.items()
        for way in range(ways)
    }


@pytest.mark.parametrize(("most", "parts"), [(4, 2), (2, 4)])
def test_out_of_memory_halves_the_batch_and_writes_it_down(
    swum: Opened, tmp_path: Path, most: int, parts: int
) -> None:
    notes: list = []
    state = replace(member(swum, "arcface"), loss=Listening(most=most)).fit(
        job(swum, tmp_path, report=notes.append)
    )
    assert state.notes["accumulate"] == parts
    assert read_json(tmp_path / "overrides.json") == {"m": {"accumulate": parts}}
    assert [n["note"] for n in notes if "note" in n] == [
        f"out of memory: the batch is cut into {2**k} parts" for k in range(1, parts.bit_length())
    ]


def test_where_no_batch_is_small_enough_the_cure_is_named(swum: Opened, tmp_path: Path) -> None:
    with pytest.raises(MemoryBudgetError, match="size="):
        replace(member(swum, "arcface"), loss=Listening(most=0)).fit(job(swum, tmp_path))


def test_places_are_found_in_smaller_batches_where_memory_is_short(
    swum: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of, work = member(swum, "mirrored"), job(swum, tmp_path)
    before = out_of_fold(of, of.fit(work), work)

    def hungry(embedding: torch.Tensor) -> torch.Tensor:
        if len(embedding) > 4:
            raise torch.OutOfMemoryError("no more")
        return at_length_one(embedding)

    monkeypatch.setattr("foveal.members.embedder.at_length_one", hungry)
    after = out_of_fold(of, of.fit(work), work)
    np.testing.assert_allclose(after.values, before.values, atol=1e-5)
    assert not (tmp_path / "overrides.json").exists()


def test_a_batch_of_one_can_be_trained(swum: Opened, tmp_path: Path) -> None:
    one = trained(member(swum, "arcface"), batch=1, epochs=1)
    assert np.isfinite(scores(one, job(swum, tmp_path))).all()


# --- settings -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(swum: Opened, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    return scores(member(swum, "arcface"), job(swum, tmp_path_factory.mktemp("plain")))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: replace(m, loss=replace(m.loss, margin=0.7)),
        lambda m: replace(m, loss=replace(m.loss, scale=5.0)),
        lambda m: replace(m, loss=replace(m.loss, centres=2)),
        lambda m: replace(m, loss=CosFace(m.loss.margin)),
        lambda m: trained(m, sampler=PerIndividual(least=9)),
        lambda m: trained(m, sampler=PerIndividual(together=4)),
        lambda m: replace(m, head=replace(m.head, width=24)),
        lambda m: replace(m, head=replace(m.head, dropout=0.6)),
        lambda m: replace(m, head=replace(m.head, pool=AverageMax)),
        lambda m: replace(m, mirrored=True),
        lambda m: replace(m, nearest=0.0),
        lambda m: replace(m, nearest=1.0),
    ],
    ids=["margin", "scale", "centres", "cosface", "least", "together", "width", "dropout", "pool",
         "mirrored", "mean", "best"],
)  # fmt: skip
def test_settings_reach_the_scores(
    swum: Opened, tmp_path: Path, plain: np.ndarray, change: Callable[[Embedder], Embedder]
) -> None:
    assert not np.array_equal(plain, scores(change(member(swum, "arcface")), job(swum, tmp_path)))


# --- the floor ------------------------------------------------------------------------------------


@pytest.mark.parametrize("components", [5, 500])
def test_the_floor_whitens_the_main_directions_of_its_training_pictures(
    swum: Opened, tmp_path: Path, components: int
) -> None:
    of, work = replace(member(swum, "floor"), components=components), job(swum, tmp_path)
    state = of.fit(work)
    table = of.pictures(work.cases, work.resources)
    pixels = np.stack([table(k).ravel() for k in range(len(work.cases))]).astype(np.float64)
    pixels -= pixels.mean(axis=1, keepdims=True)
    pixels /= np.linalg.norm(pixels, axis=1, keepdims=True)
    learned = pixels[work.train]
    _, singular, directions = np.linalg.svd(learned - learned.mean(axis=0), full_matrices=False)
    kept = min(components, len(learned) - 1)
    variance = singular[:kept] ** 2 / len(learned)
    turn = directions[:kept].T / np.sqrt(variance + FLOOR_OF_VARIANCE * variance[-1])
    places = (pixels - learned.mean(axis=0)) @ turn
    places /= np.linalg.norm(places, axis=1, keepdims=True)
    named = work.train[work.target[work.train] != ""]
    wanted = places[named] @ places[named].T  # directions have no sign
    gallery = state.tensors["gallery"]
    assert gallery.shape == (len(named), kept)
    np.testing.assert_allclose(gallery @ gallery.T, wanted, atol=2e-3)
    np.testing.assert_allclose(unit(gallery), gallery, atol=1e-6)


@pytest.mark.parametrize("size", [40, 400])
def test_copies_of_pictures_add_no_directions(size: int) -> None:
    """Rounding would be blown up to directions as strong as the others."""
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(12, size)).astype(np.float32)
    twice = np.concatenate([seen, seen, np.zeros((3, size), np.float32)])
    variance, directions = _main_directions(twice - twice.mean(axis=0), 30)
    assert directions.shape == (size, len(variance))
    assert len(variance) == 12
    np.testing.assert_allclose(directions.T @ directions, np.eye(12), atol=1e-4)
    variance, directions = _main_directions(np.zeros((5, size), np.float32), 30)
    assert (variance.tolist(), directions.shape) == ([0.0], (size, 1))


def test_the_floors_settings_reach_the_scores(swum: Opened, tmp_path: Path) -> None:
    floor, work = member(swum, "floor"), job(swum, tmp_path)
    before = scores(floor, work)
    for change in ({"components": 4}, {"nearest": 0.0}, {"nearest": 1.0}):
        assert not np.array_equal(before, scores(replace(floor, **change), work))


def test_a_member_of_one_state_keeps_no_snapshots(swum: Opened) -> None:
    of = member(swum, "arcface")
    more = replace(of.training, epochs=2, cycles=2, snapshots=2)
    with pytest.raises(UsageError, match="answers with its last state alone"):
        replace(of, training=more).check()
