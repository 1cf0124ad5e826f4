"""Every part on every shelf keeps the contract of its protocol (see contracts.py)."""

import dataclasses
import inspect
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import contracts
from conftest import CELLS, FAST, INLINE, NEW, SWIM, TISSUE, job_of
from contracts import GRADES, LABELS, label, parts
from foveal import stages
from foveal.combine.blend import PowerMean
from foveal.decide.share import AsTheyAre
from foveal.errors import UnreadableImage
from foveal.manifest import Case, Truth
from foveal.metrics import FBeta, MacroF1, MapAtK
from foveal.metrics.overlap import CellFBeta
from foveal.models.heads import Attention, AverageMax, GeM, Head
from foveal.read.image import Photograph
from foveal.recipes import identify
from foveal.scan import region_profile
from foveal.ship.panels import GRADE_PANELS, IDENTITY_PANELS, LABEL_PANELS, Section
from foveal.slides import WithTissue
from foveal.split import Folds, QueryFolds, by_label
from foveal.split.volumes import VolumeFolds
from foveal.stages.address import families, recipes_of
from foveal.stages.open import Opened, open_study
from foveal.task import Asked
from foveal.transforms import views
from foveal.transforms.mix import CellCutmix, Cutmix, FirstOf, Mixup

OUTPUTS = {
    "squared_error": 1,
    "cumulative_bce": GRADES - 1,
    "ExpectedGrade": GRADES,
    "class_entropy": GRADES,
}
RULES = {"identity": 1, "passed_steps": GRADES - 1, "expectation": GRADES}
SURE = {
    1: lambda g: g[:, None].float(),
    GRADES - 1: lambda g: 12 * (2.0 * (g[:, None] > torch.arange(GRADES - 1)) - 1),
    GRADES: lambda g: 12 * torch.eye(GRADES)[g],
}
"""Logits that are right and sure of it, by the number of outputs."""
GRADE = torch.tensor([0, 1, 2, 3, 4, 4, 2])
OF_CELLS = {"CrossEntropyAndFBeta", "foreground", "CellFBeta", "Absolute", "Share", "MaskFolder"}
"""Parts that are about planes of cells; of the others, about cases."""
OF_LABELS = {
    *("label_bce", "Focal", "SoftMacroF1", "probability"),
    *("OwnCuts", "CommonCut", "SharedOut", "ShrunkCuts", "LabelProbabilities"),
    *("Mixture", "LabelTable"),
}
"""Parts that are about any number of labels a case; of the others, about grades."""
OF_CLASSES = {"class_probability", "Likeliest", "EvenClasses"}
"""Parts that are about one label a case."""
HAS = torch.tensor(contracts.labels_truth(7).target).float()
SURE_OF_LABELS = 12 * (2 * HAS - 1)


@pytest.mark.parametrize("loss", parts("losses", "logits", "target"), ids=label)
def test_losses(loss: object) -> None:
    if label(loss) in OF_CELLS:
        share = torch.randint(0, 2, (7, 4, 5), generator=torch.Generator().manual_seed(0)).float()
        target = torch.stack([share, torch.ones_like(share)], 1)
        contracts.check_loss(loss, target, 12 * (2 * share - 1))
        return
    if label(loss) in OF_LABELS:
        contracts.check_loss(loss, HAS, SURE_OF_LABELS)
        contracts.check_loss(loss, 0.1 + 0.8 * HAS, 2 * HAS - 1)
        return
    right = SURE[OUTPUTS[label(loss)]](GRADE)
    contracts.check_loss(loss, torch.eye(GRADES)[GRADE], right)


@pytest.mark.parametrize("settings", parts("losses", "individuals", "width", method="build"),
                         ids=label)  # fmt: skip
@pytest.mark.parametrize("centres", [1, 3])
def test_margins(settings: object, centres: int) -> None:
    contracts.check_margin(dataclasses.replace(settings, centres=centres))


@pytest.mark.parametrize("rule", parts("losses", "logits"), ids=label)
def test_score_rules(rule: object) -> None:
    if label(rule) in OF_CELLS:
        contracts.check_score_of_cells(rule)
        return
    if label(rule) in OF_LABELS:
        contracts.check_score_of_labels(rule, SURE_OF_LABELS, HAS)
        return
    if label(rule) in OF_CLASSES:
        contracts.check_score_of_classes(rule, SURE[GRADES](GRADE), torch.eye(GRADES)[GRADE])
        return
    outputs = RULES[label(rule)]
    contracts.check_score_rule(rule, outputs, SURE[outputs](GRADE), GRADE)


def judged(kind: type) -> tuple[object, Truth, object]:
    """Labels with faults, the truth, and labels without."""
    of, rng = contracts.truth(), np.random.default_rng(0)
    if kind is CellFBeta:
        of = contracts.planes_truth()
        right = [positive > 0 for positive in of.target.positive]
        return [rng.random(r.shape) < 0.5 for r in right], of, right
    if kind is MapAtK:
        names = np.array([f"n{k}" for k in of.target])
        guesses = np.array([[f"n{k}" for k in rng.permutation(7)[:5]] for _ in names])
        right = guesses.copy()
        right[:, 0] = names
        return guesses, dataclasses.replace(of, target=names), right
    if kind in (FBeta, MacroF1):
        target = rng.integers(0, 2, (60, 6)) != 0
        return rng.integers(0, 2, (60, 6)) != 0, dataclasses.replace(of, target=target), target
    return rng.permutation(of.target), of, of.target


@pytest.mark.parametrize("metric", parts("metrics", "labels", "truth", method="tally"), ids=label)
def test_metrics(metric: object) -> None:
    labels, of, right = judged(type(metric))
    contracts.check_metric(metric, labels, of, right)


FITTED = parts("decide", "predictions", "truth", method="fit")
SHARES = [part for part in FITTED if label(part) == "GradeProbabilities"]
CHANCES = [part for part in FITTED if label(part) == "NewProbability"]
NAMES = [part for part in FITTED if hasattr(part, "new") and part not in CHANCES]
PLANES = [part for part in FITTED if label(part) in OF_CELLS]
ODDS = [part for part in FITTED if label(part) == "LabelProbabilities"]
SUMS = [part for part in FITTED if label(part) == "ClassProbabilities"]
OF_EACH = [part for part in FITTED if label(part) in OF_LABELS and part not in ODDS]
OF_ONE = [part for part in FITTED if label(part) in OF_CLASSES]
OTHERS = [*SHARES, *CHANCES, *NAMES, *PLANES, *ODDS, *SUMS, *OF_EACH, *OF_ONE, AsTheyAre()]
CUTS = [part for part in FITTED if part not in OTHERS]


@pytest.mark.parametrize("decoder", CUTS, ids=label)
def test_decoders(decoder: object) -> None:
    contracts.check_decoder(decoder)


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("new", [None, contracts.NEW])
@pytest.mark.parametrize("decoder", NAMES, ids=label)
def test_decoders_of_names(decoder: object, new: str | None, k: int) -> None:
    contracts.check_decoder_of_names(dataclasses.replace(decoder, new=new, k=k))


@pytest.mark.parametrize("beta", [0.5, 2.0])
@pytest.mark.parametrize("decoder", PLANES, ids=label)
def test_decoders_of_planes(decoder: object, beta: float) -> None:
    contracts.check_decoder_of_planes(dataclasses.replace(decoder, beta=beta))


@pytest.mark.parametrize("decoder", OF_EACH, ids=label)
def test_decoders_of_labels(decoder: object) -> None:
    contracts.check_decoder_of_labels(decoder)


@pytest.mark.parametrize("decoder", OF_ONE, ids=label)
def test_decoders_of_classes(decoder: object) -> None:
    contracts.check_decoder_of_classes(decoder)


@pytest.mark.parametrize("probabilities", ODDS, ids=label)
def test_probabilities_of_labels(probabilities: object) -> None:
    contracts.check_probabilities_of_labels(probabilities)


@pytest.mark.parametrize("probabilities", SUMS, ids=label)
def test_probabilities_of_classes(probabilities: object) -> None:
    contracts.check_probabilities_of_classes(probabilities)


@pytest.mark.parametrize("chance", CHANCES, ids=label)
def test_chances_of_somebody_new(chance: object) -> None:
    contracts.check_chance_of_new(dataclasses.replace(chance, new=contracts.NEW))


@pytest.mark.parametrize("probabilities", SHARES, ids=label)
def test_probabilities(probabilities: object) -> None:
    contracts.check_probabilities(probabilities)


@pytest.mark.parametrize("blend", parts("combine", "parts", "truth", method="fit"), ids=label)
def test_blends(blend: object) -> None:
    contracts.check_blend(blend)


@pytest.mark.parametrize("blend", identify.POWERS, ids=lambda blend: blend.name)
def test_blends_of_names(blend: object) -> None:
    contracts.check_blend_of_names(blend)


@pytest.mark.parametrize("blend", [PowerMean(), PowerMean("sure", 3.0)], ids=lambda b: b.name)
def test_blends_of_labels(blend: object) -> None:
    contracts.check_blend_of_labels(blend)


@pytest.mark.parametrize("blend", [PowerMean(), PowerMean("sure", 3.0)], ids=lambda b: b.name)
def test_blends_of_planes(blend: object) -> None:
    contracts.check_blend_of_planes(blend)


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("transform", parts("transforms", "image", "rng"), ids=label)
def test_transforms(transform: object, dtype: type, channels: int) -> None:
    vivid = dataclasses.replace(
        transform, flip_horizontal=0.5, rotate_degrees=20.0, brightness=0.1, contrast=0.2
    )
    rng = np.random.default_rng(0)
    image = (rng.random((24, 32, channels)) * np.iinfo(dtype).max).astype(dtype)
    contracts.check_transform(vivid, image)
    contracts.check_transform(dataclasses.replace(vivid, quarter_turns=True), image)


@pytest.mark.parametrize(
    "mix", [Mixup(), Cutmix(), FirstOf((Mixup(probability=0.5), Cutmix()))], ids=label
)
def test_mixes(mix: object) -> None:
    contracts.check_mix(mix)


@pytest.mark.parametrize(
    "mix", [CellCutmix(1.0), Mixup(), FirstOf((CellCutmix(0.5), Mixup()))], ids=label
)
def test_mixes_of_cells(mix: object) -> None:
    contracts.check_mix(mix, of_cells=True)


def test_no_mix_is_forgotten() -> None:
    module = inspect.getmodule(Mixup)
    kinds = {n for n, t in vars(module).items() if dataclasses.is_dataclass(t)}
    assert kinds == {"Mixup", "Cutmix", "CellCutmix", "FirstOf"}


VIEWS = [v for value in vars(views).values() if isinstance(value, tuple) for v in value]


@pytest.mark.parametrize("view", VIEWS)
def test_views(view: object) -> None:
    contracts.check_view(view, height=16 if isinstance(view.forward, views.Turned) else 12)


OF_INDIVIDUALS = {"PerIndividual"}
"""Samplers whose targets are individuals; of the others, shares of grades, or labels."""


@pytest.mark.parametrize("sampler", parts("train", "target", "weight", "rng"), ids=label)
def test_samplers(sampler: object) -> None:
    grades = contracts.truth().target
    if label(sampler) in OF_LABELS:
        target = contracts.labels_truth().target.astype(np.float32)
        contracts.check_sampler(sampler, target)
        contracts.check_sampler(dataclasses.replace(sampler, shares=(0.2, 0.0, 0.8)), target)
    if label(sampler) not in OF_INDIVIDUALS:
        contracts.check_sampler(sampler, np.eye(GRADES, dtype=np.float32)[grades])
        return
    for least, together in ((1, 1), (20, 1), (1, 3), (20, 3)):
        vivid = dataclasses.replace(sampler, least=least, together=together)
        contracts.check_sampler(vivid, grades - 1)


@pytest.mark.parametrize("pool", [AverageMax, GeM, Attention])
def test_poolings(pool: type) -> None:
    contracts.check_pooling(pool)


@pytest.mark.parametrize("outputs", parts("models", "share", method="start"), ids=label)
def test_heads(outputs: object) -> None:
    share = (1.0, 0.9, 0.5, 0.1, 0.0) if label(outputs) == "Labels" else (0.4, 0.3, 0.1, 0.1, 0.1)
    head = Head(outputs).build(6, share)
    given = torch.randn(4, 6, requires_grad=True)
    out = head(given)
    out.sum().backward()
    assert out.shape == (4, len(outputs.start(share)))
    assert all(torch.isfinite(p.grad).all() and (p.grad != 0).any() for p in head.parameters())
    assert (given.grad != 0).any()


@pytest.mark.parametrize("pool", [AverageMax, GeM, Attention])
@pytest.mark.parametrize("head", parts("models", "features", method="build"), ids=label)
def test_embeddings(head: object, pool: type) -> None:
    contracts.check_embedding(dataclasses.replace(head, pool=pool, width=8))


def test_readers(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((9, 12, 3), 77, np.uint8))
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    case, broken = (Case(id=n, paths=(str(tmp_path / f"{n}.png"),)) for n in "ab")
    contracts.check_reader(Photograph(), case, broken, UnreadableImage)


def test_readers_of_a_file_a_channel(tmp_path: Path) -> None:
    names = [str(tmp_path / f"{k}.png") for k in range(5)]
    for k, name in enumerate(names):
        cv2.imwrite(name, np.full((9, 12), 40 * k, np.uint8))
    cut = tmp_path / "cut.png"
    cut.write_bytes(Path(names[4]).read_bytes()[:40])
    whole = Case(id="a", paths=tuple(names))
    broken = Case(id="b", paths=(*names[:4], str(cut)))
    contracts.check_reader(Photograph(channels=5), whole, broken, UnreadableImage)


SMALL_FLOOR = {"features_size": 64}
"""In a tenth of the time."""


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, eyes: dict) -> Opened:
    folder = tmp_path_factory.mktemp("contracts") / "study"
    study = stages.init(folder, recipe="grade:small", options={**FAST, **SMALL_FLOOR}, **eyes)
    stages.split(study, INLINE)
    return open_study(study)


@pytest.mark.parametrize("name", ["floor", "patches", "regression", "cumulative", "expectation"])
def test_members(opened: Opened, tmp_path: Path, name: str) -> None:
    assert [m.name for m in opened.recipe.members].count(name) == 1
    (member,) = [m for m in opened.recipe.members if m.name == name]
    contracts.check_member(member, job_of(opened, tmp_path / "job"), tmp_path / "state")


@pytest.mark.parametrize("name", ["floor", "arcface", "cosface"])
def test_members_that_recognise(swum: Opened, tmp_path: Path, name: str) -> None:
    (member,) = [m for m in swum.recipe.members if m.name == name]
    contracts.check_member(member, job_of(swum, tmp_path / "job"), tmp_path / "state")


@pytest.mark.parametrize("name", ["floor", "network"])
def test_members_that_find(inked: Opened, tmp_path: Path, name: str) -> None:
    (member,) = [m for m in inked.recipe.members if m.name == name]
    contracts.check_member(member, job_of(inked, tmp_path / "job"), tmp_path / "state")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, cells: dict) -> Opened:
    """A study of cells with folds, nothing trained."""
    folder = tmp_path_factory.mktemp("labelled") / "study"
    study = stages.init(
        folder, recipe="multilabel:small", options={**CELLS, **SMALL_FLOOR}, **cells
    )
    stages.split(study, INLINE)
    return open_study(study)


@pytest.mark.parametrize("name", ["floor", "patches", "entropy", "focal", "soft_f1"])
def test_members_that_label(labelled: Opened, tmp_path: Path, name: str) -> None:
    (member,) = [m for m in labelled.recipe.members if m.name == name]
    contracts.check_member(member, job_of(labelled, tmp_path / "job"), tmp_path / "state")


@pytest.fixture(scope="module")
def cored(tmp_path_factory: pytest.TempPathFactory, slides: dict) -> Opened:
    """A study of slides with folds, nothing trained; one slide is blank."""
    folder, options = tmp_path_factory.mktemp("cored") / "study", {**TISSUE, "pooling": "attention"}
    study = stages.init(folder, recipe="slide:small", options=options, **slides)
    stages.split(study, INLINE)
    return open_study(study)


@pytest.mark.parametrize("name", ["floor", "regression", "cumulative", "expectation"])
def test_members_that_look_at_tiles(cored: Opened, tmp_path: Path, name: str) -> None:
    (member,) = [m for m in cored.recipe.members if m.name == name]
    contracts.check_member(member, job_of(cored, tmp_path / "job"), tmp_path / "state")


def test_no_member_is_forgotten(
    opened: Opened, swum: Opened, inked: Opened, labelled: Opened, cored: Opened
) -> None:
    studies = (opened, swum, inked, labelled, cored)
    names = [{m.name for m in study.recipe.members} for study in studies]
    assert names[0] == {"floor", "patches", "regression", "cumulative", "expectation"}
    assert names[1] == {"floor", "keypoints", "arcface", "cosface"}
    assert names[2] == {"floor", "network"}
    assert names[3] == {"floor", "patches", "entropy", "focal", "soft_f1"}
    assert names[4] == {"floor", "regression", "cumulative", "expectation"}


@pytest.mark.parametrize("folds", [Folds(3), Folds(4, seed=3)])
def test_splitters(opened: Opened, folds: Folds) -> None:
    contracts.check_splitter(folds, opened.manifest)


@pytest.mark.parametrize("folds", [Folds(2), Folds("site")])
def test_splitters_of_slides(cored: Opened, folds: Folds) -> None:
    contracts.check_splitter(WithTissue(folds), cored.manifest)


@pytest.mark.parametrize("near", [False, True])
def test_splitters_of_labels(labelled: Opened, near: bool) -> None:  # noqa: FBT001
    contracts.check_splitter(Folds(3, 1, by_label, near), labelled.manifest)


@pytest.mark.parametrize("new", [None, NEW])
@pytest.mark.parametrize("share", [0.1, 0.9])
def test_splitters_of_queries(swum: Opened, new: str | None, share: float) -> None:
    folds = QueryFolds(new, folds=3, new_share=share, per_identity=2, seed=1)
    contracts.check_splitter(folds, swum.manifest)


@pytest.mark.parametrize("folds", [2, 4])
@pytest.mark.parametrize("seed", [0, 3])
def test_splitters_of_volumes(inked: Opened, folds: int, seed: int) -> None:
    splitter = VolumeFolds(folds, contracts.LATTICE, region_profile, seed)
    contracts.check_splitter(splitter, inked.manifest)


@pytest.mark.parametrize("form", parts("ship", "path", "asked", "given", method="write"), ids=label)
def test_answers(tmp_path: Path, form: object) -> None:
    if label(form) in OF_CELLS:
        cv2.imwrite(str(tmp_path / "a.png"), np.full((9, 12), 77, np.uint8))
        cases = tuple(Case(id=n, paths=(str(tmp_path / f"{n}.png"),)) for n in "ba")
        for scores in (False, True):
            asked = Asked(
                ids=("b", "a"), cases=cases, id_column="id", target_columns=("m",), scores=scores
            )
            contracts.check_answer_of_masks(
                form, tmp_path / str(scores), asked, contracts.planes_truth()
            )
        return
    if label(form) in OF_LABELS:
        for scores in (False, True):
            for columns in (("words",), LABELS):
                asked = Asked(ids=("b", "a"), id_column="id", target_columns=columns, scores=scores)
                contracts.check_answer(form, tmp_path / "a.csv", asked, contracts.labels_truth())
        return
    names = hasattr(form, "new")
    forms = [dataclasses.replace(form, new=new) for new in (None, NEW)] if names else [form]
    of = contracts.names_truth() if names else contracts.truth()
    for scores in (False, True):
        asked = Asked(ids=("b", "a"), id_column="id", target_columns=("g",), scores=scores)
        for one in forms:
            contracts.check_answer(one, tmp_path / "a.csv", asked, of)


@pytest.mark.parametrize("family", ["grade", "identify", "multilabel"])
def test_panels(tmp_path: Path, family: str, eyes: dict, flukes: dict, cells: dict) -> None:
    given, options, panels = {
        "grade": (eyes, {**FAST, "members": "floor,patches"}, GRADE_PANELS),
        "identify": (flukes, {**SWIM, "members": "floor"}, IDENTITY_PANELS),
        "multilabel": (cells, {**CELLS, "members": "floor,entropy"}, LABEL_PANELS),
    }[family]
    study = stages.init(tmp_path / "study", recipe=f"{family}:small", options=options, **given)
    stages.run(study, INLINE)
    for panel in panels:
        section = panel(study)
        assert isinstance(section, Section)
        assert section.title


@pytest.mark.parametrize("family", families())
def test_recipes(
    opened: Opened, swum: Opened, inked: Opened, labelled: Opened, family: str
) -> None:
    studies = {"grade": opened, "slide": opened, "identify": swum, "segment": inked}
    study = studies.get(family, labelled)
    for function in recipes_of(__import__(f"foveal.recipes.{family}", fromlist=["_"])).values():
        contracts.check_recipe(function, study.settings.facts)
