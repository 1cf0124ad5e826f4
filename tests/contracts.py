"""What every part of a shelf must keep, one check a protocol, and how parts are found.

`test_contracts.py` runs a check over everything that stands on its shelf, so a new part is tested
the moment it is written. A part is told by the names of what it takes: a loss takes
`(logits, target)`, a decoder is fitted on `(predictions, truth)`.
"""

import dataclasses
import inspect
import json
import pkgutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from foveal.decide.thresholds import ClosedFormCuts
from foveal.digests import describe, digest, revive
from foveal.lattice import Planes
from foveal.losses.margin import UNKNOWN
from foveal.manifest import Facts, Truth
from foveal.predictions import NO_FOLD, Predictions
from foveal.split.record import NONE
from foveal.stages.address import meanings, options_of
from foveal.stages.train import FOR_NEW, load_state
from foveal.task import Given

GRADES = 5
LATTICE = 4
LABELS = ("common", "half", "some", "rare")
NEW = "new"
NAMES = tuple(f"w{k}" for k in range(8))
BUILT_WITH = {
    "grades": GRADES,
    "cuts": (0.5, 1.5, 2.5, 3.5),
    "height": 24,
    "width": 32,
    "k": 5,
    "lattice": LATTICE,
    "names": LABELS,
    "decode": ClosedFormCuts(GRADES),
    "side": 8,
}
"""What parts that cannot be built from nothing are built with."""


# --- finding parts ------------------------------------------------------------------------------


def modules(shelf: str) -> list[Any]:
    """All modules of a shelf."""
    package = import_module(f"foveal.{shelf}")
    if not hasattr(package, "__path__"):
        return [package]
    names = [m.name for m in pkgutil.iter_modules(package.__path__)]
    return [import_module(f"{package.__name__}.{name}") for name in names]


def parts(shelf: str, *takes: str, method: str = "__call__") -> list[Any]:
    """Public functions and frozen records of a shelf, built, that take just these arguments."""
    found = []
    for module in modules(shelf):
        for name, thing in sorted(vars(module).items()):
            if name.startswith("_") or getattr(thing, "__module__", "") != module.__name__:
                continue
            if inspect.isfunction(thing) and method == "__call__" and arguments(thing) == takes:
                found.append(thing)
            elif inspect.isclass(thing) and dataclasses.is_dataclass(thing):
                call = vars(thing).get(method)
                if call is not None and arguments(call) == ("self", *takes):
                    found.append(built(thing))
    assert found, f"nothing on the shelf {shelf} takes {takes}"
    return found


def arguments(function: Callable) -> tuple[str, ...]:
    """The names of what a function takes."""
    return tuple(inspect.signature(function).parameters)


def built(kind: type) -> Any:
    """A record from its defaults and `BUILT_WITH`."""
    fields = dataclasses.fields(kind)
    needed = [
        f.name
        for f in fields
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    unknown = set(needed) - set(BUILT_WITH)
    assert not unknown, f"say in BUILT_WITH how {kind.__name__} is built: {unknown}"
    return kind(**{name: BUILT_WITH[name] for name in needed})


def label(part: Any) -> str:
    """The name of a part, for the list of tests."""
    return getattr(part, "__name__", type(part).__name__)


# --- examples -------------------------------------------------------------------------------------


def truth(n: int = 60, seed: int = 0) -> Truth:
    """Grades in groups of three, weights that differ, folds."""
    rng = np.random.default_rng(seed)
    return Truth(
        target=rng.integers(0, GRADES, n),
        weight=rng.uniform(0.5, 2, n),
        group=np.arange(n) // 3,
        fold=np.arange(n) // 3 % 5,
    )


def scores(of: Truth, noise: float = 0.7, seed: int = 1) -> Predictions:
    """The truth with noise, on a scale of its own."""
    rng = np.random.default_rng(seed)
    values = 0.6 * of.target + 0.5 + rng.normal(0, noise, len(of.target))
    ids = [f"c{k}" for k in range(len(of.target))]
    seconds = float(rng.uniform(0, 1))
    return Predictions.of(
        ids, values[:, None].astype(np.float32), columns=("expected",), seconds=seconds
    )


def names_truth(n: int = 60, seed: int = 0) -> Truth:
    """Names of individuals, a third of them new, otherwise as `truth`."""
    names = np.random.default_rng(seed).choice([*NAMES, *[NEW] * 4], n)
    return dataclasses.replace(truth(n, seed), target=names)


def likeness(of: Truth, noise: float = 0.2, seed: int = 1) -> Predictions:
    """How alike queries and individuals are, 0 to 1; each fold has never seen one of them."""
    rng = np.random.default_rng(seed)
    values = 0.3 + 0.4 * (of.target[:, None] == np.array(NAMES))
    values = (values + rng.normal(0, noise, values.shape)).clip(0, 1)
    return Predictions.of(
        [f"c{k}" for k in range(len(of.target))],
        values.astype(np.float32),
        columns=NAMES,
        fold=of.fold,
        known={k: tuple(n for n in NAMES if n != NAMES[k]) for k in range(5)},
        seconds=float(rng.uniform(0, 1)),
    )


def labels_truth(n: int = 60, seed: int = 0) -> Truth:
    """Any number of labels a case, each label of some, otherwise as `truth`."""
    has = np.random.default_rng(seed).random((n, len(LABELS))) < (0.7, 0.5, 0.3, 0.1)
    has[: len(LABELS)] = np.eye(len(LABELS))
    return dataclasses.replace(truth(n, seed), target=has.astype(np.int64))


def label_scores(of: Truth, noise: float = 0.25, seed: int = 1) -> Predictions:
    """The truth with noise, 0 to 1, some scores equal."""
    rng = np.random.default_rng(seed)
    values = (0.3 + 0.4 * of.target + rng.normal(0, noise, of.target.shape)).clip(0, 1)
    return Predictions.of(
        [f"c{k}" for k in range(len(values))],
        values.round(2).astype(np.float32),
        columns=LABELS,
        fold=of.fold,
        seconds=float(rng.uniform(0, 1)),
    )


def planes_truth(n: int = 9, seed: int = 0) -> Truth:
    """Planes of cells, no two as large, some outside the region, weights that differ."""
    rng = np.random.default_rng(seed)
    area = [rng.integers(0, 3, (4 + k % 3, 9 - k % 4)) * (LATTICE**2 / 2) for k in range(n)]
    positive = [a * (rng.random(a.shape) < 0.3) for a in area]
    planes = ([p.astype(np.float32) for p in some] for some in (positive, area))
    return dataclasses.replace(truth(n, seed), target=Planes(*map(tuple, planes)))


def plane_scores(of: Truth, noise: float = 0.2, seed: int = 1) -> Predictions:
    """The truth with noise, above 0 to 1 inside the region, 0 outside."""
    rng = np.random.default_rng(seed)
    made = []
    for positive, area in zip(of.target.positive, of.target.area, strict=True):
        score = 0.2 + 0.5 * (positive > 0) + rng.normal(0, noise, area.shape)
        made.append(np.where(area > 0, score.clip(1e-6, 1), 0).astype(np.float32))
    n = len(made)
    return Predictions(
        ids=tuple(f"c{k}" for k in range(n)),
        values=np.concatenate([m.reshape(-1) for m in made]),
        shapes=tuple(m.shape for m in made),
        columns=(),
        fold=np.full(n, NO_FOLD),
        seconds=rng.uniform(0, 1, n),
        peak_bytes=np.zeros(n),
    )


def planes_of(predictions: Predictions) -> list[np.ndarray]:
    """The plane of every unit."""
    return [plane for _, plane in predictions.arrays()]


def some_of(labels: Any, rows: np.ndarray) -> Any:
    """The labels of some cases: an array, or one of each."""
    return labels[rows] if isinstance(labels, np.ndarray) else [labels[k] for k in rows.tolist()]


def unchanged(call: Callable, *given: Any) -> Any:
    """What a call returns, after a look that nothing handed in was written to."""
    before = [digest_of(g) for g in given]
    out = call(*given)
    assert [digest_of(g) for g in given] == before, "it writes to what it is given"
    return out


def digest_of(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return digest(value.numpy())
    if isinstance(value, list | tuple):
        return digest([digest_of(v) for v in value])
    return digest(value)


# --- decisions ------------------------------------------------------------------------------------


def check_metric(metric: Any, labels: Any, of: Truth, perfect: Any) -> None:
    """Additive, best where all is right, blind for cases of no weight, able to judge one case."""
    tally = unchanged(metric.tally, labels, of)
    assert tally.shape[0] == len(labels)
    assert np.isfinite(tally).all()
    value = float(metric.value(tally.sum(axis=0)))
    parts_of = [tally[: len(tally) // 2].sum(axis=0), tally[len(tally) // 2 :].sum(axis=0)]
    assert abs(float(metric.value(parts_of[0] + parts_of[1])) - value) < 1e-12
    assert metric.value(np.stack(parts_of)).shape == (2,)
    best = float(metric.value(metric.tally(perfect, of).sum(axis=0)))
    assert abs(best - 1) < 1e-12
    assert value < best
    order = np.random.default_rng(0).permutation(len(labels))
    moved = metric.tally(some_of(labels, order), of.take(order))
    np.testing.assert_array_equal(moved, tally[order])
    mute = dataclasses.replace(of, weight=np.where(np.arange(len(labels)) == 0, 0.0, of.weight))
    np.testing.assert_allclose(
        metric.tally(labels, mute).sum(axis=0), tally[1:].sum(axis=0), atol=1e-9
    )
    pieces, group = unchanged(metric.pieces, tally, labels, of)
    assert len(pieces) == len(group)
    np.testing.assert_allclose(pieces.sum(axis=0), tally.sum(axis=0), rtol=1e-9)
    one = np.arange(1)
    assert metric.tally(some_of(labels, one), of.take(one)).shape == tally[:1].shape
    assert isinstance(metric.name, str)


def check_decoder(decoder: Any) -> None:
    """Labels are grades, rise with the score, and come back from JSON as they went."""
    of = truth()
    given = scores(of)
    fitted = unchanged(decoder.fit, given, of)
    labels = unchanged(fitted, given)
    assert labels.dtype.kind == "i"
    assert labels.min() >= 0
    assert labels.max() < GRADES
    order = np.argsort(given.matrix().values[:, 0], kind="stable")
    assert (np.diff(labels[order]) >= 0).all()
    moved = given.take([given.ids[k] for k in order])
    np.testing.assert_array_equal(fitted(moved), labels[order])
    again = revive(json.loads(json.dumps(describe(fitted))))
    np.testing.assert_array_equal(again(given), labels)
    assert describe(decoder.fit(given, of)) == describe(fitted)
    one_class = dataclasses.replace(of, target=np.full(len(of.target), 2))
    assert (decoder.fit(given, one_class)(given) < GRADES).all()
    one = np.arange(1)
    assert decoder.fit(given.take(given.ids[:1]), of.take(one))(given).shape == labels.shape


def check_decoder_of_names(decoder: Any) -> None:
    """Every answer has different names, none that its fold does not know, and comes from JSON."""
    of = names_truth()
    given = likeness(of)
    fitted = unchanged(decoder.fit, given, of)
    labels = unchanged(fitted, given)
    assert labels.shape == (len(of.target), decoder.k)
    for row, fold in zip(labels.tolist(), of.fold.tolist(), strict=True):
        assert len(set(row)) == len(row)
        assert set(row) <= {*given.known[fold], decoder.new}
        assert row.count(decoder.new) <= 1
    order = np.random.default_rng(0).permutation(len(labels))
    moved = given.take([given.ids[k] for k in order])
    np.testing.assert_array_equal(fitted(moved), labels[order])
    assert decoder.fit(moved, of.take(order)) == fitted
    again = revive(json.loads(json.dumps(describe(fitted))))
    np.testing.assert_array_equal(again(given), labels)
    one = np.arange(1)
    assert decoder.fit(given.take(given.ids[:1]), of.take(one))(given).shape == labels.shape
    assert fitted(given.take([])).shape == (0, decoder.k)


def check_decoder_of_planes(decoder: Any) -> None:
    """A mask a unit that rises with the score, never outside the region, the same from JSON."""
    of = planes_truth()
    given = plane_scores(of)
    fitted = unchanged(decoder.fit, given, of)
    labels = unchanged(fitted, given)
    assert sum(int(label.sum()) for label in labels) > 0
    for label, plane in zip(labels, planes_of(given), strict=True):
        assert (label.shape, label.dtype) == (plane.shape, bool)
        assert not label[plane == 0].any()
        if label.any() and not label.all():
            assert plane[label].min() > plane[~label].max()
    order = np.random.default_rng(0).permutation(len(labels))
    ids = [given.ids[k] for k in order]
    moved = fitted(given.take(ids))
    assert all(np.array_equal(m, labels[k]) for m, k in zip(moved, order, strict=True))
    assert decoder.fit(given.take(ids), of.take(order)) == fitted
    again = revive(json.loads(json.dumps(describe(fitted))))
    assert all(np.array_equal(a, b) for a, b in zip(again(given), labels, strict=True))
    one = np.arange(1)
    assert len(decoder.fit(given.take(given.ids[:1]), of.take(one))(given)) == len(labels)
    assert fitted(given.take([])) == []


def check_decoder_of_labels(decoder: Any) -> None:
    """Who has a label scores above who has not; the same from JSON, also for a label of nobody."""
    of = labels_truth()
    given = label_scores(of)
    fitted = unchanged(decoder.fit, given, of)
    labels = unchanged(fitted, given)
    assert (labels.shape, labels.dtype) == (of.target.shape, bool)
    assert labels.any(axis=0).all()
    for told, score in zip(labels.T, given.matrix().values.T, strict=True):
        assert told.all() or score[told].min() > score[~told].max()
    order = np.random.default_rng(0).permutation(len(labels))
    moved = given.take([given.ids[k] for k in order])
    np.testing.assert_array_equal(fitted(moved), labels[order])
    assert decoder.fit(moved, of.take(order)) == fitted
    lacking = dataclasses.replace(of, target=of.target * (np.arange(len(LABELS)) != 1))
    for one in (fitted, decoder.fit(given, lacking)):
        again = revive(json.loads(json.dumps(describe(one))))
        np.testing.assert_array_equal(again(given), one(given))
    always = dataclasses.replace(decoder, at_least_one=True).fit(given, lacking)(given)
    assert always.any(axis=1).all()
    assert (fitted.given(np.zeros((3, len(LABELS)))).sum(axis=1) == 0).all()
    one = np.arange(1)
    assert decoder.fit(given.take(given.ids[:1]), of.take(one))(given).shape == labels.shape
    assert fitted(given.take([])).shape == (0, len(LABELS))


def check_decoder_of_classes(decoder: Any) -> None:
    """One label a case, given where its score is sure, the same from JSON."""
    of = labels_truth()
    given = label_scores(of)
    fitted = unchanged(decoder.fit, given, of)
    labels = unchanged(fitted, given)
    assert (labels.shape, labels.dtype) == (of.target.shape, bool)
    assert (labels.sum(axis=1) == 1).all()
    values = np.eye(len(LABELS), dtype=np.float32)
    sure = Predictions.of([str(k) for k in range(len(values))], values, columns=LABELS)
    np.testing.assert_array_equal(fitted(sure), values == 1)
    again = revive(json.loads(json.dumps(describe(fitted))))
    np.testing.assert_array_equal(again(given), labels)
    assert fitted(given.take([])).shape == (0, len(LABELS))


def check_probabilities_of_classes(probabilities: Any) -> None:
    """Shares that sum to 1, in the order of the scores, the same from JSON."""
    of = labels_truth()
    given = label_scores(of)
    fitted = unchanged(probabilities.fit, given, of)
    shares, scores = unchanged(fitted, given), given.matrix().values
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert shares.min() >= 0
    rising = np.take_along_axis(shares, np.argsort(scores, axis=1, kind="stable"), axis=1)
    assert (np.diff(rising, axis=1) >= 0).all()
    again = revive(json.loads(json.dumps(describe(fitted))))
    np.testing.assert_array_equal(again(given), shares)
    assert fitted(given.take([])).shape == (0, len(LABELS))


def check_probabilities_of_labels(probabilities: Any) -> None:
    """A share a label, 0 to 1, that rises with the score, the same from JSON."""
    of = labels_truth()
    given = label_scores(of)
    fitted = unchanged(probabilities.fit, given, of)
    shares = unchanged(fitted, given)
    assert shares.shape == of.target.shape
    assert shares.min() >= 0
    assert shares.max() <= 1
    for share, score in zip(shares.T, given.matrix().values.T, strict=True):
        assert (np.diff(share[np.argsort(score, kind="stable")]) >= 0).all()
    order = np.random.default_rng(0).permutation(len(shares))
    ids = [given.ids[k] for k in order]
    np.testing.assert_array_equal(fitted(given.take(ids)), shares[order])
    np.testing.assert_allclose(probabilities.fit(given.take(ids), of.take(order))(given), shares)
    again = revive(json.loads(json.dumps(describe(fitted))))
    np.testing.assert_array_equal(again(given), shares)
    one_kind = dataclasses.replace(of, target=np.ones_like(of.target) * (1, 0, 1, 0))
    assert np.isfinite(probabilities.fit(given, one_kind)(given)).all()
    assert fitted(given.take([])).shape == (0, len(LABELS))


def check_chance_of_new(chance: Any) -> None:
    """A probability a query, lower where an individual is more alike, the same from JSON."""
    of = names_truth()
    given = likeness(of)
    fitted = unchanged(chance.fit, given, of)
    shares = unchanged(fitted, given)
    assert shares.shape == (len(of.target),)
    assert shares.min() >= 0
    assert shares.max() <= 1
    block = given.matrix()
    order = np.argsort(np.where(block.present, block.values, 0).max(axis=1))
    assert (np.diff(shares[order]) <= 1e-9).all()
    assert shares[of.target == NEW].mean() > shares[of.target != NEW].mean()
    again = revive(json.loads(json.dumps(describe(fitted))))
    np.testing.assert_array_equal(again(given), shares)


def check_probabilities(probabilities: Any) -> None:
    """One share a grade, summing to 1, higher grades for higher scores, the same from JSON."""
    of = truth()
    given = scores(of)
    fitted = unchanged(probabilities.fit, given, of)
    shares = unchanged(fitted, given)
    assert shares.shape == (len(of.target), GRADES)
    assert shares.min() >= 0
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    order = np.argsort(given.matrix().values[:, 0], kind="stable")
    assert (np.diff((shares @ np.arange(GRADES))[order]) >= -1e-9).all()
    again = revive(json.loads(json.dumps(describe(fitted))))
    np.testing.assert_array_equal(again(given), shares)


def check_blend(blend: Any) -> None:
    """Cases stay in their order, costs add up, and one part alone keeps its ranking."""
    of = truth()
    given = [scores(of, seed=k) for k in (1, 2, 3)]
    fitted = unchanged(blend.fit, given, of)
    joined = unchanged(fitted, given)
    assert joined.ids == given[0].ids
    assert np.isfinite(joined.values).all()
    np.testing.assert_allclose(joined.seconds, np.sum([g.seconds for g in given], axis=0))
    again = revive(json.loads(json.dumps(describe(fitted))))
    np.testing.assert_array_equal(again(given).values, joined.values)
    order = np.random.default_rng(0).permutation(len(of.target))
    ids = [given[0].ids[k] for k in order]
    moved = fitted([g.take(ids) for g in given])
    np.testing.assert_allclose(moved.values, joined.values[order], rtol=1e-5)
    alone = blend.fit(given[:1], of)(given[:1]).values
    assert (np.diff(alone[np.argsort(given[0].values)]) >= -1e-6).all()
    assert isinstance(blend.name, str)


def check_blend_of_names(blend: Any) -> None:
    """Scores stay between the parts' own; whom no part knows for a fold, the blend does not."""
    of = names_truth()
    given = [likeness(of, seed=k) for k in (1, 2, 3)]
    given[1] = dataclasses.replace(given[1], known=dict.fromkeys(range(5), NAMES[3:]))
    fitted = unchanged(blend.fit, given, of)
    joined = unchanged(fitted, given)
    assert (joined.ids, joined.columns) == (given[0].ids, NAMES)
    np.testing.assert_array_equal(joined.fold, of.fold)
    np.testing.assert_allclose(joined.seconds, np.sum([g.seconds for g in given], axis=0))
    got = joined.matrix()
    values, present = (np.stack(v) for v in zip(*(g.matrix() for g in given), strict=True))
    np.testing.assert_array_equal(got.present, present.any(axis=0))
    low, high = (np.where(present, values, fill) for fill in (np.inf, -np.inf))
    assert (got.values + 1e-6 >= low.min(axis=0))[got.present].all()
    assert (got.values - 1e-6 <= high.max(axis=0))[got.present].all()
    again = revive(json.loads(json.dumps(describe(fitted))))
    np.testing.assert_array_equal(again(given).values, joined.values)
    alone = blend.fit(given[:1], of)(given[:1]).matrix()
    np.testing.assert_allclose(alone.values[alone.present], values[0][present[0]], atol=1e-6)
    ids = [given[0].ids[k] for k in np.random.default_rng(0).permutation(len(of.target))]
    np.testing.assert_array_equal(fitted([g.take(ids) for g in given]).values,
                                  joined.take(ids).values)  # fmt: skip


def check_blend_of_labels(blend: Any) -> None:
    """Scores stay between the parts' own, the order of cases does not matter."""
    of = labels_truth()
    given = [label_scores(of, seed=k) for k in (1, 2, 3)]
    fitted = unchanged(blend.fit, given, of)
    joined = unchanged(fitted, given)
    assert (joined.ids, joined.columns) == (given[0].ids, LABELS)
    np.testing.assert_allclose(joined.seconds, np.sum([g.seconds for g in given], axis=0))
    values = np.stack([g.values for g in given])
    assert (joined.values >= values.min(axis=0) - 1e-6).all()
    assert (joined.values <= values.max(axis=0) + 1e-6).all()
    again = revive(json.loads(json.dumps(describe(fitted))))
    np.testing.assert_array_equal(again(given).values, joined.values)
    alone = blend.fit(given[:1], of)(given[:1])
    np.testing.assert_allclose(alone.values, given[0].values, atol=1e-6)
    ids = [given[0].ids[k] for k in np.random.default_rng(0).permutation(len(of.weight))]
    moved = fitted([g.take(ids) for g in given])
    np.testing.assert_array_equal(moved.values, joined.take(ids).values)


def check_blend_of_planes(blend: Any) -> None:
    """Scores stay between the parts' own, and 0 where all are."""
    of = planes_truth()
    given = [plane_scores(of, seed=k) for k in (1, 2, 3)]
    fitted = unchanged(blend.fit, given, of)
    joined = unchanged(fitted, given)
    assert (joined.ids, joined.shapes) == (given[0].ids, given[0].shapes)
    np.testing.assert_allclose(joined.seconds, np.sum([g.seconds for g in given], axis=0))
    values = np.stack([g.values for g in given])
    assert (joined.values >= values.min(axis=0) - 1e-6).all()
    assert (joined.values <= values.max(axis=0) + 1e-6).all()
    np.testing.assert_array_equal(joined.values > 0, values[0] > 0)
    again = revive(json.loads(json.dumps(describe(fitted))))
    np.testing.assert_array_equal(again(given).values, joined.values)
    alone = blend.fit(given[:1], of)(given[:1])
    np.testing.assert_allclose(alone.values, given[0].values, rtol=1e-6)
    ids = [given[0].ids[k] for k in np.random.default_rng(0).permutation(len(of.weight))]
    moved = fitted([g.take(ids) for g in given])
    np.testing.assert_array_equal(moved.values, joined.take(ids).values)


def check_splitter(splitter: Any, manifest: Any) -> None:
    """No fold learns from a group that it judges, and the same table gives the same folds."""
    made = unchanged(splitter, manifest)
    assert made.fold.shape == made.group.shape == (len(manifest),)
    for fold in range(made.folds):
        judged = made.fold == fold
        assert judged.any()
        assert made.learns(fold).any()
        assert not np.isin(made.group[judged], made.group[made.learns(fold)]).any()
    assert set(np.unique(made.fold).tolist()) - {NONE} == set(range(made.folds))
    assert 0 <= made.imbalance <= 1
    np.testing.assert_array_equal(splitter(manifest).fold, made.fold)
    np.testing.assert_array_equal(splitter(manifest).hidden, made.hidden)


# --- pixels ---------------------------------------------------------------------------------------


def check_loss(loss: Any, target: torch.Tensor, right: torch.Tensor) -> None:
    """Finite, differentiable, lower where the logits are right, blind for the order of cases."""
    torch.manual_seed(0)
    logits = torch.randn(right.shape, requires_grad=True)
    value = loss(logits, target)
    assert value.shape == ()
    assert torch.isfinite(value)
    value.backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad != 0).any(dim=0).all()
    order = torch.randperm(len(target))
    torch.testing.assert_close(loss(logits[order], target[order]), value)
    assert loss(right, target) < value
    huge = loss(1e4 * torch.randn(right.shape), target)
    assert torch.isfinite(huge)
    assert torch.isfinite(loss(logits[:1], target[:1]))


def check_margin(settings: Any) -> None:
    """As a loss, over embeddings: finite, differentiable, lower where the pictures are apart."""
    individuals, width = 4, 6
    torch.manual_seed(0)
    loss = settings.build(individuals, width)
    whose = torch.tensor([0, 1, 2, 3, UNKNOWN, 0, UNKNOWN])
    embedding = torch.randn(len(whose), width, requires_grad=True)
    value = loss(embedding, whose)
    assert value.shape == ()
    assert value.dtype == torch.float32
    value.backward()
    for given in (embedding, *loss.parameters()):
        assert torch.isfinite(given.grad).all()
        assert (given.grad != 0).any()
    order = torch.randperm(len(whose))
    torch.testing.assert_close(loss(embedding[order], whose[order]), value)
    with torch.no_grad():
        centres = loss.centres.unflatten(0, (individuals, -1))[:, 0]
        away = torch.linalg.svd(loss.centres).Vh[-1]
        right = torch.where((whose >= 0)[:, None], centres[whose.clamp(min=0)], away)
        assert loss(right, whose) < value
        for scale in (0.0, 1e-8, 1e8):
            assert torch.isfinite(loss(scale * embedding, whose))
        assert torch.isfinite(loss(embedding[:1], whose[:1]))
    assert digest(settings) == digest(dataclasses.replace(settings))


def check_score_rule(rule: Any, outputs: int, right: torch.Tensor, grades: torch.Tensor) -> None:
    """One finite score a case, near the grade where the logits are sure of it."""
    assert rule(torch.randn(7, outputs)).shape == (7,)
    torch.testing.assert_close(rule(right), grades.float(), atol=0.05, rtol=0)


def check_score_of_labels(rule: Any, right: torch.Tensor, target: torch.Tensor) -> None:
    """A probability a label, higher for a higher logit, near the label where logits are sure."""
    logits = torch.randn(7, len(LABELS))
    found = rule(logits)
    assert found.shape == logits.shape
    assert found.min() >= 0
    assert found.max() <= 1
    assert (found.flatten()[logits.flatten().argsort()].diff() > 0).all()
    torch.testing.assert_close(rule(logits[:1]), found[:1])
    torch.testing.assert_close(rule(right), target, atol=0.05, rtol=0)


def check_score_of_classes(rule: Any, right: torch.Tensor, target: torch.Tensor) -> None:
    """A probability a label that sum to 1, near the label where the logits are sure of it."""
    found = rule(torch.randn(7, GRADES))
    assert found.shape == (7, GRADES)
    assert found.min() >= 0
    torch.testing.assert_close(found.sum(1), torch.ones(7))
    torch.testing.assert_close(rule(right), target, atol=0.05, rtol=0)


def check_score_of_cells(rule: Any) -> None:
    """A probability a cell, higher for a higher logit, at any size."""
    logits = torch.randn(3, 4, 5)
    found = rule(logits)
    assert found.shape == logits.shape
    assert found.min() >= 0
    assert found.max() <= 1
    assert (found.flatten()[logits.flatten().argsort()].diff() > 0).all()
    torch.testing.assert_close(rule(logits[:1, :2]), found[:1, :2])


def check_transform(transform: Any, image: np.ndarray) -> None:
    """Shape and depth stay; the same generator gives the same picture, another one another."""
    made = unchanged(lambda x: transform(x, np.random.default_rng(0)), image)
    assert made.shape == image.shape
    assert made.dtype == image.dtype
    np.testing.assert_array_equal(made, transform(image, np.random.default_rng(0)))
    assert any((made != transform(image, np.random.default_rng(k))).any() for k in range(1, 9))


def check_mix(mix: Any, *, of_cells: bool = False) -> None:
    """What a case gives away another one takes; the same generator mixes the same way."""
    images, target = torch.rand(6, 3, 8, 10), torch.eye(6)
    if of_cells:
        target = target[:, :, None, None].repeat(1, 1, 4, 5)
    mixed, owed = unchanged(lambda a, b: mix(a, b, np.random.default_rng(0)), images, target)
    assert mixed.shape == images.shape
    assert owed.shape == target.shape
    torch.testing.assert_close(owed.sum(1), torch.ones_like(target[:, 0]))
    again = mix(images, target, np.random.default_rng(0))
    assert torch.equal(again[0], mixed)
    assert torch.equal(again[1], owed)


def check_view(view: Any, height: int = 12) -> None:
    """Pictures keep their shape, scores theirs."""
    images = torch.rand(2, 3, height, 16)
    seen = unchanged(view.forward, images)
    assert seen.shape == images.shape
    assert torch.isfinite(seen).all()
    assert view.inverse(torch.rand(2)).shape == (2,)


def check_sampler(sampler: Any, target: np.ndarray) -> None:
    """As many draws as cases, none of no weight, the same for the same generator."""
    weight = np.where(np.arange(len(target)) < 10, 0.0, 1.0)
    draws = unchanged(lambda t, w: sampler(t, w, np.random.default_rng(0)), target, weight)
    assert draws.shape == (len(target),)
    assert draws.min() >= 10
    assert draws.max() < len(target)
    np.testing.assert_array_equal(draws, sampler(target, weight, np.random.default_rng(0)))
    assert sampler(target[:1], np.ones(1), np.random.default_rng(0)).tolist() == [0]


def check_embedding(head: Any) -> None:
    """So many numbers a case about 0, to which every feature and every free parameter matters."""
    for features in (torch.rand(5, 4, 3, 2), torch.rand(5, 4)):
        flat = features.ndim == 2
        built = (dataclasses.replace(head, pool=None) if flat else head).build(4)
        given = (0.1 + features).requires_grad_()
        out = built(given)
        assert out.shape == (5, head.width)
        torch.testing.assert_close(out.mean(0), torch.zeros(head.width), atol=1e-5, rtol=0)
        out[0].square().sum().backward()
        assert (given.grad[0].flatten(1) if not flat else given.grad[:1]).ne(0).any()
        free = [p for p in built.parameters() if p.requires_grad]
        assert all(torch.isfinite(p.grad).all() and (p.grad != 0).any() for p in free)
        torch.optim.SGD(built.parameters(), lr=0.1).step()
        torch.testing.assert_close(built(given).mean(0), torch.zeros(head.width), atol=1e-5, rtol=0)
        built.eval()
        torch.testing.assert_close(built(given)[:1], built(given[:1]))


def check_pooling(kind: Any) -> None:
    """A vector a case, as wide as it says, to which every feature and every parameter matters."""
    features = (0.1 + torch.rand(3, 4, 5, 6)).requires_grad_()
    pool = kind(4)
    out = pool(features)
    assert out.shape == (3, pool.width)
    out.sum().backward()
    assert (features.grad.abs().sum((0, 2, 3)) > 0).all()
    assert all((p.grad != 0).any() for p in pool.parameters())


def check_reader(reader: Any, case: Any, broken: Any, error: type) -> None:
    """Channel first, the same twice, and an error of foveal's own tree for what is no picture."""
    image = reader(case)
    assert image.ndim == 3
    assert image.shape[0] == reader.channels
    np.testing.assert_array_equal(image, reader(case))
    try:
        reader(broken)
    except error:
        return
    raise AssertionError("a broken file is read")


def check_member(member: Any, job: Any, folder: Path) -> None:
    """Its state survives a file; scores do not depend on order, company or a second look."""
    member.check()
    assert member.estimate(100, job.resources) > 0
    state = member.fit(job)
    folder.mkdir()
    tensors = {**state.tensors, **{FOR_NEW + k: v for k, v in state.for_new.items()}}
    tensors = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
    save_file(tensors, folder / "state.safetensors")
    (folder / "state.json").write_text(json.dumps(state.notes))
    back = load_state(folder)
    (plain,) = member.score([state], job.cases, job.held, job.resources)
    assert plain.ids == tuple(job.cases[k].id for k in job.held)
    assert np.isfinite(plain.values).all()
    assert (plain.seconds > 0).all()
    both = member.score([back, back], job.cases, job.held, job.resources)
    for one in both:
        np.testing.assert_array_equal(one.values, plain.values)
    turned = member.score([state], job.cases, job.held[::-1].copy(), job.resources)[0]
    turned = turned.take(plain.ids)
    np.testing.assert_allclose(turned.values, plain.values, atol=1e-4)
    (none,) = member.score([state], job.cases, job.held[:0], job.resources)
    assert len(none) == 0
    assert isinstance(member.kind, str)
    assert digest(member) == digest(dataclasses.replace(member))


# --- roof -----------------------------------------------------------------------------------------


def check_answer(form: Any, path: Path, asked: Any, of: Truth) -> None:
    """A row for each row asked for, in its order, also where nothing is known."""
    prior = json.loads(json.dumps(form.prior(of.target, of.weight)))
    form.write(path, asked, Given(prior=prior))
    lines = path.read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == list(asked.ids)
    assert revive(json.loads(json.dumps(describe(form)))) == form


def check_answer_of_masks(form: Any, folder: Path, asked: Any, of: Truth) -> None:
    """A mask and a row for each row asked for, in its order, also where nothing is known."""
    masks = np.array([f"m{k}.png" for k in range(len(of.weight))])
    prior = json.loads(json.dumps(form.prior(masks, of.weight)))
    form.write(folder, asked, Given(prior=prior))
    lines = (folder / "masks.csv").read_text().splitlines()
    assert lines == ["id,rle", *(f"{name}," for name in asked.ids)]
    names = {f"{name}.png" for name in asked.ids}
    assert {p.name for p in folder.glob("*.png")} == names
    assert {p.name for p in folder.glob("probability/*")} == (names if asked.scores else set())
    assert revive(json.loads(json.dumps(describe(form)))) == form


def check_recipe(function: Any, facts: Facts) -> None:
    """Built from facts, told apart by digest, all options said and typed."""
    made = function(facts, weights="none")
    names = [m.name for m in made.members]
    assert len(set(names)) == len(names)
    assert made.floor in names
    assert digest(made) == digest(function(facts, weights="none"))
    assert digest(made) != digest(function(facts, weights="none", seed=1))
    options, told = options_of(function), meanings(function)[1]
    always = {"folds", "epochs", "size", "backbone", "weights", "seed", "batch", "members"}
    assert always <= set(options)
    for name in options:
        assert told.get(name), f"{name} is not explained"
