from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import pytest

from foveal.manifest import Source, load
from foveal.survey import measure, survey


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
