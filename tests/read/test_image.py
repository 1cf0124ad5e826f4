"""Every kind of file against a second reader, and every kind of damage against the one error."""

import hashlib
import resource
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from foveal.errors import UnreadableImage
from foveal.manifest import Case
from foveal.read import image as images
from foveal.read.image import Photograph, decode, inspect
from foveal.read.limits import PLANE_LIMIT
from pictures import ALPHA, BITS, GREY, PALETTE, RGB, WIDE, picture, pil, planes, read, seen, tiff

EXACT = {
    "png grey": (pil(GREY, "PNG"), GREY),
    "png colour": (pil(RGB, "PNG"), RGB),
    "png alpha": (pil(ALPHA, "PNG"), RGB),
    "png palette": (pil(PALETTE, "PNG"), np.array(PALETTE.convert("RGB"))),
    "png clear palette": (pil(PALETTE, "PNG", transparency=0), np.array(PALETTE.convert("RGB"))),
    "png 1 bit": (pil(BITS, "PNG"), np.array(BITS)[:, :, None] * np.uint8(255)),
    "png grey with alpha": (pil(np.dstack([GREY, GREY[::-1]]), "PNG"), np.repeat(GREY, 3, axis=2)),
    "png grey 16": (cv2.imencode(".png", WIDE[1])[1].tobytes(), WIDE[1]),
    "png colour 16": (cv2.imencode(".png", WIDE[3][:, :, ::-1])[1].tobytes(), WIDE[3]),
    "bmp": (pil(RGB, "BMP"), RGB),
}


@pytest.mark.parametrize("kind", EXACT)
def test_a_lossless_file_gives_its_pixels(tmp_path, kind):
    data, wanted = EXACT[kind]
    got = read(tmp_path, data)
    assert got.dtype == wanted.dtype
    np.testing.assert_array_equal(got, wanted)


def test_a_grey_png_of_16_bit_with_alpha_is_grey(tmp_path):
    """Decoded as blue, green, red and alpha, as one of 8 bit is."""
    rows = np.dstack([WIDE[1], WIDE[1][::-1]]).astype(">u2").reshape(23, -1)
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", 31, 23, 16, 4, 0, 0, 0),
        b"IDAT": zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)),
        b"IEND": b"",
    }
    png = images.PNG_START
    for name, data in parts.items():
        png += struct.pack(">I", len(data)) + name + data
        png += struct.pack(">I", zlib.crc32(name + data))
    np.testing.assert_array_equal(read(tmp_path, png), np.repeat(WIDE[1], 3, axis=2))


@pytest.mark.parametrize(
    "data",
    [
        pil(RGB, "JPEG", quality=90),
        pil(RGB, "JPEG", progressive=True),
        pil(Image.fromarray(RGB).convert("CMYK"), "JPEG"),
    ],
    ids=["jpeg", "progressive", "cmyk"],
)
def test_a_picture_looks_as_pillow_sees_it(tmp_path, data):
    assert np.abs(read(tmp_path, data).astype(int) - seen(data)).max() <= 2
    assert read(tmp_path, pil(GREY, "JPEG")).shape == (23, 31, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_camera_is_turned_as_pillow_turns_it(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for data in (pil(RGB, "JPEG", exif=exif), pil(RGB, "PNG", exif=exif)):
        np.testing.assert_array_equal(read(tmp_path, data), seen(data))


THUMBNAIL = b"Exif\0\0II*\0" + struct.pack("<IHI", 8, 0, 0) + pil(GREY, "JPEG")
JPEG = pil(RGB, "JPEG")
DAMAGED = {
    "jpeg": JPEG,
    "progressive": pil(RGB, "JPEG", progressive=True),
    "jpeg with a thumbnail": b"".join(
        [JPEG[:2], b"\xff\xe1", struct.pack(">H", len(THUMBNAIL) + 2), THUMBNAIL, JPEG[2:]]
    ),
    "png": pil(RGB, "PNG"),
    "gif": pil(PALETTE, "GIF"),
    "bmp": pil(RGB, "BMP"),
    "webp": pil(RGB, "WEBP"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_file_cut_anywhere_is_no_picture(tmp_path, kind):
    whole = DAMAGED[kind]
    assert read(tmp_path, whole).shape[:2] == (23, 31)
    ends = range(len(whole) - 12, len(whole))
    for kept in {*range(0, len(whole), 1 + len(whole) // 90), *ends}:
        with pytest.raises(UnreadableImage, match=str(tmp_path)):
            read(tmp_path, whole[:kept])


@pytest.mark.parametrize("kind", ["jpeg", "progressive", "png", "bmp", "webp"])
def test_changed_bytes_end_in_a_picture_or_the_one_error(tmp_path, kind):
    whole = DAMAGED[kind]
    refused = 0
    for seed in range(80):
        rng = np.random.default_rng(seed)
        data = np.frombuffer(whole, np.uint8).copy()
        places = rng.integers(0, len(data) if seed % 2 else 60, size=rng.integers(1, 6))
        data[places] = rng.integers(0, 256, size=len(places))
        try:
            read(tmp_path, data.tobytes())
        except UnreadableImage:
            refused += 1
    assert refused > 0
    assert refused == 80 or kind != "png"  # which carries checksums


def test_bytes_after_the_end_of_a_jpeg_are_left_alone(tmp_path):
    for rubbish in (b"\0" * 5000, b"garbage", b"\xff\xd9 again"):
        np.testing.assert_array_equal(read(tmp_path, JPEG + rubbish), seen(JPEG))


@pytest.mark.parametrize("data", [b"", b"hello", b"\xff\xd8\xff\xd9", b"II*\0", b"%PDF-1.4\n"])
def test_what_is_no_picture_is_refused(tmp_path, data):
    with pytest.raises(UnreadableImage):
        read(tmp_path, data)


def test_folders_missing_files_and_impossible_names_are_refused(tmp_path):
    for path in (str(tmp_path), str(tmp_path / "none.png"), "/nul\0.png"):
        with pytest.raises(UnreadableImage):
            decode(path)


def photograph(folder: Path, data: bytes, **wanted) -> np.ndarray:
    (folder / "file").write_bytes(data)
    return Photograph(**wanted)(Case(id="a", paths=(str(folder / "file"),)))


def test_a_photograph_has_the_channels_and_bits_of_the_study(tmp_path):
    np.testing.assert_array_equal(photograph(tmp_path, EXACT["png colour"][0]), planes(RGB))
    repeated = np.repeat(planes(GREY), 3, axis=0)
    np.testing.assert_array_equal(photograph(tmp_path, EXACT["png grey"][0]), repeated)
    up = photograph(tmp_path, EXACT["png grey"][0], channels=1, bits=16)
    np.testing.assert_array_equal(up, planes(GREY).astype(np.uint16) * 257)
    with pytest.raises(UnreadableImage, match="16 bit, where the study has 8"):
        photograph(tmp_path, EXACT["png grey 16"][0], channels=1)
    deep = {"channels": 1, "bits": 16, "spare_bits": 4}
    dark = np.full((20, 30), 900, dtype=np.uint16)
    dark[0] = 5000  # a twentieth of it: the same camera in brighter light
    peaks = photograph(tmp_path, cv2.imencode(".png", dark)[1].tobytes(), **deep)
    assert (peaks.min(), peaks.max()) == (900 << 4, 4095 << 4)
    with pytest.raises(UnreadableImage, match=r"100% of its values are above 4095.*use 12 of 16"):
        photograph(tmp_path, cv2.imencode(".png", dark << 3)[1].tobytes(), **deep)
    stretched = cv2.imencode(".png", GREY.astype(np.uint16) * 257)[1].tobytes()
    np.testing.assert_array_equal(photograph(tmp_path, stretched, channels=1), planes(GREY))
    for wanted in (1, 4):
        with pytest.raises(UnreadableImage, match=f"3 channels, where the study has {wanted}"):
            photograph(tmp_path, EXACT["png colour"][0], channels=wanted)


def test_an_inspection_measures_what_was_decoded(tmp_path):
    for data, image in (*EXACT.values(), (tiff(ALPHA, photometric="rgb"), ALPHA)):
        (tmp_path / "file").write_bytes(data)
        facts, decoded = inspect(Case(id="a", paths=(str(tmp_path / "file"),)))
        np.testing.assert_array_equal(decoded, image)
        unit = image.reshape(-1, image.shape[2]) / np.iinfo(image.dtype).max
        assert (facts.height, facts.width, facts.channels) == image.shape
        assert facts.bits == image.dtype.itemsize * 8
        np.testing.assert_allclose(facts.mean, unit.mean(0))
        np.testing.assert_allclose(facts.square, (unit**2).mean(0))


@pytest.mark.parametrize(("side", "factor"), [(64, 8), (65, 4), (128, 4), (129, 2), (257, 1)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_large_jpeg_is_decoded_at_a_fraction(tmp_path, side, factor, mode):
    coarse = Image.fromarray(RGB).resize((768, 512), Image.Resampling.BICUBIC).convert(mode)
    (tmp_path / "file").write_bytes(pil(coarse, "JPEG", quality=95))
    path = str(tmp_path / "file")
    small, full = decode(path, (side, side)), decode(path)
    assert small.shape[:2] == (512 // factor, 768 // factor)
    wanted = cv2.resize(full, small.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(small.squeeze().astype(int) - wanted.squeeze()).max() <= 6


def test_what_is_no_jpeg_or_small_enough_is_decoded_in_full(tmp_path):
    for data in (pil(RGB, "PNG"), pil(RGB, "JPEG"), tiff(RGB, photometric="rgb")):
        (tmp_path / "file").write_bytes(data)
        assert decode(str(tmp_path / "file"), (20, 31)).shape == RGB.shape


def test_the_camera_is_honoured_at_a_fraction_too(tmp_path):
    image = Image.fromarray(RGB).resize((768, 512))
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "file").write_bytes(pil(image, "JPEG", exif=exif.tobytes()))
    assert decode(str(tmp_path / "file"), (384, 256)).shape == (384, 256, 3)


# --- a file a channel -----------------------------------------------------------------------------


def case_of(folder: Path, *files: bytes) -> Case:
    """One case of several files, called 0, 1, 2, ..."""
    for k, data in enumerate(files):
        (folder / str(k)).write_bytes(data)
    return Case(id="a", paths=tuple(str(folder / str(k)) for k in range(len(files))))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [2, 3, 4, 7])
def test_several_files_are_channels_in_their_order(
    tmp_path: Path, channels: int, dtype: type
) -> None:
    whole = picture(channels, dtype)
    case = case_of(tmp_path, *(tiff(whole[:, :, k]) for k in range(channels)))
    bits = 8 * np.dtype(dtype).itemsize
    np.testing.assert_array_equal(Photograph(channels, bits)(case), planes(whole))
    facts, decoded = inspect(case)
    np.testing.assert_array_equal(decoded, whole)
    assert (facts.height, facts.width, facts.channels, facts.bits) == (23, 31, channels, bits)
    np.testing.assert_allclose(facts.mean, (whole / np.iinfo(dtype).max).mean((0, 1)))
    turned = Case(id="a", paths=case.paths[::-1])
    np.testing.assert_array_equal(Photograph(channels, bits)(turned), planes(whole)[::-1])


def test_of_a_file_in_colour_the_brightest_plane_is_the_channel(tmp_path: Path) -> None:
    files = []
    for k in range(3):
        tinted = (RGB * (0.2 + 0.8 * (np.arange(3) == k))).astype(np.uint8)
        files.append(pil(tinted, "PNG"))
    case = case_of(tmp_path, *files, pil(GREY, "PNG"))
    wanted = np.concatenate([planes(RGB), planes(GREY)])
    np.testing.assert_array_equal(Photograph(4)(case), wanted)
    np.testing.assert_array_equal(inspect(case)[1], np.dstack(list(wanted)))


@pytest.mark.parametrize(
    ("odd", "told"),
    [(GREY[:-1], "22x31 uint8"), (GREY[:, 1:], "23x30 uint8"), (WIDE[1], "23x31 uint16")],
    ids=["rows", "columns", "depth"],
)
def test_channels_that_differ_in_size_or_depth_are_refused_by_name(
    tmp_path: Path, odd: np.ndarray, told: str
) -> None:
    case = case_of(tmp_path, tiff(GREY[:, :, 0]), tiff(odd[:, :, 0]), tiff(GREY[:, :, 0]))
    for read_it in (Photograph(3), inspect):
        with pytest.raises(UnreadableImage, match="differ in size or depth") as error:
            read_it(case)
        assert f"{tmp_path}/0 23x31 uint8, {tmp_path}/1 {told}" in str(error.value)


def test_as_many_files_as_channels_are_wanted(tmp_path: Path) -> None:
    case = case_of(tmp_path, *[pil(GREY, "PNG")] * 4)
    with pytest.raises(UnreadableImage, match="4 channels, where the study has 3"):
        Photograph(3)(case)


def test_a_channel_that_does_not_decode_is_named(tmp_path: Path) -> None:
    whole = pil(GREY, "PNG")
    case = case_of(tmp_path, whole, whole[:90], whole)
    for read_it in (Photograph(3), inspect):
        with pytest.raises(UnreadableImage, match=f"{tmp_path}/1"):
            read_it(case)


def test_the_digest_is_of_all_files_and_of_their_order(tmp_path: Path) -> None:
    one, two, other = (pil(GREY + np.uint8(k), "PNG") for k in range(3))
    told = {
        inspect(case_of(tmp_path, *files))[0].sha256
        for files in ((one, two), (two, one), (one, other), (other, two), (one, one), (one,))
    }
    assert len(told) == 6
    again = inspect(case_of(tmp_path, one, two))[0].sha256
    assert again == inspect(case_of(tmp_path, one, two))[0].sha256
    assert inspect(case_of(tmp_path, one))[0].sha256 == hashlib.sha256(one).hexdigest()


def test_a_png_that_does_not_say_how_it_was_held_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow would decode all of it to look behind the pixels for such a word."""
    (tmp_path / "a.png").write_bytes(pil(RGB, "PNG"))
    monkeypatch.setattr(images.PngImageFile, "load", lambda self: pytest.fail("decoded twice"))
    np.testing.assert_array_equal(decode(str(tmp_path / "a.png")), RGB)


def test_grey_that_was_saved_as_colours_is_grey_where_that_is_wanted(tmp_path: Path) -> None:
    grey = picture(1)
    as_colours = photograph(tmp_path, pil(np.repeat(grey, 3, axis=2), "PNG"), channels=1)
    np.testing.assert_array_equal(as_colours, planes(grey))
    with pytest.raises(UnreadableImage, match="3 channels, where the study has 1"):
        photograph(tmp_path, pil(RGB, "PNG"), channels=1)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt"])
def test_long_words_beside_the_pixels_of_a_png_change_nothing(tmp_path: Path, kind: bytes) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8)
    data = cv2.imencode(".png", picture)[1].tobytes()
    body = zlib.compress(np.random.default_rng(1).bytes(2_000_000))
    words = chunk(kind, b"name\0\0" + body)
    path = tmp_path / "a.png"
    path.write_bytes(data[:33] + words + data[33:])
    np.testing.assert_array_equal(decode(str(path)), picture[:, :, ::-1])


def test_a_file_much_longer_than_any_picture_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with path.open("wb") as file:
        file.write(b"II*\0")
        file.truncate(3 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnreadableImage, match=r"more than a picture of .* can be; cure"):
        decode(str(path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_a_bmp_is_as_large_as_its_header_says(tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"
    cv2.imwrite(str(path), np.full((5, 9, 3), 7, np.uint8))
    assert decode(str(path)).shape == (5, 9, 3)
    data = bytearray(path.read_bytes())
    data[18:26] = struct.pack("<ii", 13_400, -13_400)
    path.write_bytes(data)
    with pytest.raises(UnreadableImage, match="13400 x 13400 is more than"):
        decode(str(path))
    with pytest.raises(UnreadableImage, match="does not decode"):
        decode(str(path), limit=PLANE_LIMIT)
    data[18:26] = struct.pack("<ii", 1, 1_100_000)
    path.write_bytes(data)
    with pytest.raises(UnreadableImage, match="does not decode"):
        decode(str(path))
