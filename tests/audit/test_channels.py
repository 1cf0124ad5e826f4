"""Channels that hold nothing, are copies of each other or have changed places are found."""

from dataclasses import replace

import numpy as np
import pytest

from foveal.audit.channels import FEWEST, light_of, odd_channels
from foveal.manifest import Manifest

STAINS = np.array([[0.10, 0.05], [0.30, 0.12], [0.18, 0.20]])
"""Mean and spread of each channel."""


def light(cases: int = 20, stains: np.ndarray = STAINS, seed: int = 0) -> np.ndarray:
    """Mean and spread of the channels of every case, which differ by a tenth."""
    factor = np.random.default_rng(seed).normal(1, 0.1, (cases, *stains.shape))
    return stains * factor.clip(0.7, 1.3)


def manifest(of: np.ndarray, **roles: np.ndarray) -> Manifest:
    mean, spread = of[:, :, 0], of[:, :, 1]
    return Manifest(
        ids=tuple(f"c{k}" for k in range(len(of))),
        paths=(("/a.png",),) * len(of),
        id_column="id",
        target=np.zeros((len(of), 0), dtype=np.str_),
        target_columns=(),
        roles=roles,
        measured={"channel_light": light_of(mean, spread**2 + mean**2)},
    )


def two(of: np.ndarray) -> np.ndarray:
    """The first half from one source, the other half from another one."""
    return np.where(np.arange(len(of)) < len(of) // 2, "a", "b")


def test_light_is_written_as_mean_and_spread_of_every_channel() -> None:
    pixels = np.random.default_rng(0).random((4, 50, 3))
    told = light_of(pixels.mean(axis=1), (pixels**2).mean(axis=1))
    read = np.array([[float(v) for v in text.split()] for text in told.tolist()])
    wanted = np.stack([pixels.mean(axis=1), pixels.std(axis=1)], axis=2).reshape(4, 6)
    np.testing.assert_allclose(read, wanted, atol=6e-6)


def test_rounding_below_0_is_a_spread_of_0() -> None:
    assert light_of(np.full((1, 1), 0.3), np.full((1, 1), 0.09 - 1e-12)).tolist() == [
        "0.30000 0.00000"
    ]


@pytest.mark.parametrize("role", ["source", "site"])
def test_ordinary_channels_are_nothing_to_say(role: str) -> None:
    of = light()
    assert odd_channels(manifest(of)) == []
    assert odd_channels(manifest(of, **{role: two(of)})) == []


@pytest.mark.parametrize("channels", [1, 3])
def test_a_channel_that_is_the_same_everywhere_is_named_with_its_pictures(channels: int) -> None:
    of = light()[:, :channels]
    of[[3, 7], channels - 1, 1] = 1e-3
    assert odd_channels(manifest(of)) == [
        f"channel {channels} is the same everywhere in 2 pictures: c3, c7"
    ]


def test_of_many_pictures_the_first_are_listed() -> None:
    of = light(50)
    of[:32, 0, 1] = 0
    (found,) = odd_channels(manifest(of))
    assert "in 32 pictures: c0, c1, c2, " in found
    assert found.endswith("c18, c19 and 12 more")


def test_pictures_whose_channels_are_copies_are_found() -> None:
    of = light()
    of[4] = of[4, 1]
    assert odd_channels(manifest(of)) == ["all channels are copies of one in 1 pictures: c4"]


@pytest.mark.parametrize("pair", [(0, 1), (0, 2), (1, 2)])
def test_two_channels_that_are_copies_of_each_other_are_found(pair: tuple[int, int]) -> None:
    of = light()
    a, b = pair
    of[[4, 6], b] = of[[4, 6], a]
    said = f"channels {a + 1} and {b + 1} are copies of each other in"
    assert odd_channels(manifest(of)) == [f"{said} 2 pictures: c4, c6"]
    of[9] = of[9, 1]
    assert odd_channels(manifest(of)) == [
        "all channels are copies of one in 1 pictures: c9",
        f"{said} 2 pictures: c4, c6",
    ]


def test_two_channels_that_are_copies_everywhere_are_found() -> None:
    of = light()
    of[:, 2] = of[:, 0]
    (found,) = odd_channels(manifest(of))
    assert found.startswith("channels 1 and 3 are copies of each other in 20 pictures: ")


def test_two_channels_that_are_near_each_other_or_empty_are_no_copies() -> None:
    of = light()
    of[4, 1] = of[4, 0] + 5e-5
    assert odd_channels(manifest(of)) == []
    of[4, :2] = (0.0, 0.0)
    assert not any("copies" in found for found in odd_channels(manifest(of)))


def test_where_all_pictures_are_grey_that_is_no_news() -> None:
    of = np.repeat(light()[:, :1], 3, axis=1)
    assert odd_channels(manifest(of)) == []
    assert odd_channels(manifest(light()[:, :1])) == []


@pytest.mark.parametrize("channels", [2, 3, 5])
def test_where_all_channels_are_files_of_their_own_copies_are_news(channels: int) -> None:
    of = np.repeat(light()[:, :1], channels, axis=1)
    files = tuple(f"/{k}.png" for k in range(channels))
    (found,) = odd_channels(replace(manifest(of), paths=(files,) * len(of)))
    assert found.startswith("all channels are copies of one in 20 pictures: ")
    assert (odd_channels(manifest(of)) == []) is (channels == 3)


def test_an_empty_picture_is_flat_and_no_copy() -> None:
    of = light()
    of[4] = (0.2, 0.0)
    found = odd_channels(manifest(of))
    assert [text.split(" is ")[0] for text in found] == ["channel 1", "channel 2", "channel 3"]


@pytest.mark.parametrize("role", ["source", "site"])
@pytest.mark.parametrize("order", [(1, 0, 2), (1, 2, 0)])
def test_a_source_whose_channels_have_changed_places_is_found(
    role: str, order: tuple[int, ...]
) -> None:
    of = light(40)
    source = np.array(["a", "b", "b", "b"] * 10)
    of[source == "a"] = of[source == "a"][:, order]
    found = [text for text in odd_channels(manifest(of, **{role: source})) if " a: " in text]
    told = ", ".join(str(k + 1) for k in order)
    assert len(found) == 1
    assert found[0].startswith(f"{role} a: its channels look like channels {told} of the others")


def test_a_source_that_is_only_brighter_has_its_channels_in_order() -> None:
    of = light(40)
    source = two(of)
    of[source == "b"] *= 1.8
    assert odd_channels(manifest(of, source=source)) == []


def test_few_pictures_do_not_tell_the_order() -> None:
    of = light(40)
    for few in (FEWEST - 1, FEWEST):
        source = np.where(np.arange(40) < few, "a", "b")
        swapped = np.where((source == "a")[:, None, None], of[:, [1, 0, 2]], of)
        found = odd_channels(manifest(swapped, source=source))
        assert any("source a" in text for text in found) is (few == FEWEST)
