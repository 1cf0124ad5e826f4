from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from foveal.errors import ManifestError
from foveal.manifest import load
from foveal.options import reader_of
from foveal.read.image import filled
from foveal.survey import measure, survey
from foveal.table import Source
from foveal.transforms.augment import Prepare
from pyramids import noise


def test_facts_are_those_of_the_pictures(eyes: dict) -> None:
    manifest = load(
        Source(table=eyes["table"], images=eyes["images"], target=("grade",), site="clinic")
    )
    measured, facts = measure(manifest, [survey(c) for c in manifest.cases()], target={"grades": 5})
    assert (facts.cases, facts.target) == (36, {"grades": 5})
    assert set(facts.sizes) == {"48x58", "60x72"}
    assert sum(facts.sizes.values()) == 36
    assert (facts.channels, facts.bits, facts.sites) == (3, 8, ("A", "B"))
    assert 0.95 < facts.aspect < 1.15
    read = [cv2.imread(str(case.paths[0]))[:, :, ::-1] / 255 for case in manifest.cases()]
    assert facts.mean == pytest.approx(
        np.mean([p.mean(axis=(0, 1)) for p in read], axis=0), abs=0.02
    )
    assert measured.measured["image_size"][0] == "x".join(map(str, read[0].shape[:2]))
    told = [sha256(Path(case.paths[0]).read_bytes()).hexdigest() for case in manifest.cases()]
    assert measured.measured["sha256"].tolist() == told


def test_a_camera_of_12_bits_fills_its_16(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    dark = rng.integers(0, 4096, (6, 40, 48, 3)).astype(np.uint16)
    dark[0, 0, 0] = 4095
    full, table = dark << 4, tmp_path / "t.csv"
    table.write_text("\n".join(["image,grade", *(f"{k}.png,{k % 2}" for k in range(6))]))
    seen = []
    for name, pictures in (("dark", dark), ("full", full)):
        (tmp_path / name).mkdir()
        for k, picture in enumerate(pictures):
            cv2.imwrite(str(tmp_path / name / f"{k}.png"), picture)
        source = Source(table=str(table), images=f"{tmp_path / name}/{{image}}", target=("grade",))
        cases = load(source).cases()
        _, facts = measure(load(source), [survey(case) for case in cases], target={})
        read = reader_of(facts, Prepare(height=40, width=48))
        seen.append((facts, [read(case) for case in cases]))
    (of_dark, dark_read), (of_full, full_read) = seen
    assert (of_dark.spare_bits, of_full.spare_bits) == (4, 0)
    assert of_dark.mean == pytest.approx(of_full.mean, abs=1e-4)
    assert of_dark.std == pytest.approx(of_full.std, abs=1e-4)
    assert of_dark.aspect == of_full.aspect
    np.testing.assert_array_equal(dark_read, full_read)
    shallow = np.full((40, 48, 3), 200, np.uint8)
    shallow[0, 0] = 255
    cv2.imwrite(str(tmp_path / "dark" / "0.png"), shallow)  # is full, whatever the others leave
    source = replace(source, images=f"{tmp_path / 'dark'}/{{image}}")
    cases = load(source).cases()
    _, of_both = measure(load(source), [survey(case) for case in cases], target={})
    assert of_both.spare_bits == 4
    read = reader_of(of_both, Prepare(height=40, width=48))
    both = np.stack([read(case) for case in cases]) / 65535
    assert of_both.mean == pytest.approx(both.mean(axis=(0, 2, 3)), abs=1e-3)
    assert of_both.std == pytest.approx(both.std(axis=(0, 2, 3)), abs=1e-3)
    brighter = filled(np.array([5000, 4095], np.uint16), 4)
    assert brighter.tolist() == [65520, 65520]


@pytest.mark.parametrize(("common", "odd"), [(3, 4), (3, 2), (1, 4), (4, 1)])
def test_pictures_of_other_channels_than_most_are_named(
    tmp_path: Path, common: int, odd: int
) -> None:
    names = [f"{k}.tif" for k in range(5)]
    for k, name in enumerate(names):
        planes = noise((odd if k == 2 else common), 20, 20)
        tifffile.imwrite(tmp_path / name, planes.squeeze(), photometric="minisblack")
    rows = [f"{name},{k % 2}" for k, name in enumerate(names)]
    (tmp_path / "t.csv").write_text("\n".join(["file,grade", *rows]))
    source = Source(
        table=str(tmp_path / "t.csv"), images=str(tmp_path / "{file}"), target=("grade",)
    )
    manifest = load(source)
    with pytest.raises(ManifestError, match=f"1 pictures have not the {common} channels") as caught:
        measure(manifest, [survey(case) for case in manifest.cases()], target={})
    assert caught.value.culprits == (f"{manifest.name(2)}: {odd} channels",)
