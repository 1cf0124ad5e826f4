"""Small tables for tests, loaded or refused."""

from pathlib import Path

import pytest

from foveal.errors import ManifestError
from foveal.manifest import Manifest, load
from foveal.table import Source

IMAGES = "img/{image}"


def table(folder: Path, text: str | bytes) -> str:
    path = folder / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def loaded(folder: Path, text: str | bytes, images: str = IMAGES, **roles) -> Manifest:
    return load(Source(table=table(folder, text), images=images, **roles))


def refusal(folder: Path, text: str | bytes, images: str = IMAGES, **roles) -> str:
    with pytest.raises(ManifestError) as error:
        loaded(folder, text, images, **roles)
    return str(error.value) + " | " + " | ".join(error.value.culprits)
