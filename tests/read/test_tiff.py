"""TIFF as a container: whatever holds the pixels, and every place where a file may be cut."""

import gc
import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from foveal.errors import UnreadableImage
from foveal.read.image import decode, decode_mask
from foveal.read.slices import find_slices
from pictures import ALPHA, BITS, GREY, OPAQUE, RGB, WIDE, picture, pil, planes, read, seen, tiff

# --- one picture ----------------------------------------------------------------------------------

EXACT = {
    "opaque": (pil(OPAQUE, "TIFF"), RGB),
    "that may have a fourth stain": (pil(ALPHA, "TIFF"), np.array(ALPHA)),
    "1 bit": (pil(BITS, "TIFF"), np.array(BITS)[:, :, None] * np.uint8(255)),
    "big": (tiff(RGB, photometric="rgb", bigtiff=True), RGB),
    "big-endian": (tiff(WIDE[3], photometric="rgb", byteorder=">"), WIDE[3]),
    "tiles": (tiff(RGB, photometric="rgb", tile=(16, 16)), RGB),
    "lzw": (tiff(RGB, photometric="rgb", compression="lzw"), RGB),
    "deflate": (tiff(WIDE[1][:, :, 0], compression="zlib", predictor=True), WIDE[1]),
}


@pytest.mark.parametrize("kind", EXACT)
def test_a_lossless_file_gives_its_pixels(tmp_path: Path, kind: str) -> None:
    data, wanted = EXACT[kind]
    got = read(tmp_path, data)
    assert got.dtype == wanted.dtype
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("decoded", [decode, decode_mask])
def test_files_that_were_decoded_are_held_no_longer(
    tmp_path: Path, decoded: Callable[[str], np.ndarray]
) -> None:
    path = tmp_path / "slice.tif"
    tifffile.imwrite(path, np.zeros((512, 512), dtype=np.uint8))
    decoded(str(path))
    gc.disable()  # a few large slices would not call it
    tracemalloc.start()
    try:
        for _ in range(4):
            decoded(str(path))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert held < 512 * 512


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [2, 5, 7])
def test_channels_may_be_pages_or_planes(tmp_path: Path, channels: int, dtype: type) -> None:
    image = picture(channels, dtype)
    for options in (
        {},
        {"metadata": None},
        {"planarconfig": "separate"},
        {"imagej": True, "metadata": {"axes": "CYX"}},
        {"compression": "zlib"},
    ):
        np.testing.assert_array_equal(read(tmp_path, tiff(planes(image), **options)), image)


@pytest.mark.parametrize("channels", [3, 5, 7])
def test_channels_may_be_samples(tmp_path: Path, channels: int) -> None:
    image = picture(channels)
    np.testing.assert_array_equal(read(tmp_path, tiff(image, planarconfig="contig")), image)


def by_pages(*pages: np.ndarray, **options: object) -> bytes:
    """A file whose pages were written one by one."""
    out = io.BytesIO()
    with tifffile.TiffWriter(out, ome=options.pop("ome", None)) as file:
        for page in pages:
            file.write(page, **{"photometric": "minisblack"} | options)
    return out.getvalue()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    "options",
    [{}, {"metadata": None}, {"ome": True}, {"compression": "zlib"}, {"contiguous": False}],
    ids=str,
)
def test_channels_may_be_pages_that_were_written_one_by_one(
    tmp_path: Path, dtype: type, options: dict
) -> None:
    image = picture(5, dtype)
    np.testing.assert_array_equal(read(tmp_path, by_pages(*planes(image), **options)), image)


def test_channels_may_be_appended_to_a_file(tmp_path: Path) -> None:
    image, path = picture(5), tmp_path / "a.tif"
    for page in planes(image):
        tifffile.imwrite(path, page, append=True, photometric="minisblack")
    np.testing.assert_array_equal(decode(str(path)), image)
    tifffile.imwrite(path, planes(image)[:2], append=True, photometric="minisblack")
    wanted = np.dstack([image, image[:, :, :2]])
    np.testing.assert_array_equal(decode(str(path)), wanted)


def test_pages_whose_0_is_white_are_turned_wherever_they_stand(tmp_path: Path) -> None:
    image = picture(2)
    data = by_pages(*planes(image), photometric="miniswhite")
    np.testing.assert_array_equal(read(tmp_path, data), np.invert(image))


@pytest.mark.parametrize(
    ("page", "options"),
    [
        (GREY[::2, ::2, 0], {}),
        (GREY[::2, ::2, 0], {"subfiletype": 1}),
        (GREY[:, :, 0], {"subfiletype": 1}),
        (RGB, {"photometric": "rgb"}),
        (WIDE[1][:, :, 0], {}),
        (GREY[:, :, 0] > 9, {}),
    ],
    ids=["preview", "level", "equal level", "colour", "deeper", "1 bit"],
)
def test_what_is_no_page_like_the_others_is_no_channel(
    tmp_path: Path, page: np.ndarray, options: dict
) -> None:
    image = picture(2)
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as file:
        for one in planes(image):
            file.write(one, photometric="minisblack")
        file.write(page, **{"photometric": "minisblack"} | options)
    np.testing.assert_array_equal(read(tmp_path, out.getvalue()), image)


def test_a_pyramid_is_one_picture(tmp_path: Path) -> None:
    image = np.tile(RGB, (12, 12, 1))
    for subifds in (0, 2):
        out, said = io.BytesIO(), {"photometric": "rgb", "tile": (64, 64)}
        with tifffile.TiffWriter(out) as file:
            file.write(image, subifds=subifds, **said)
            for factor in (2, 4):
                file.write(image[::factor, ::factor], subfiletype=1, **said)
        np.testing.assert_array_equal(read(tmp_path, out.getvalue()), image)


def test_pages_that_are_all_called_smaller_copies_are_slices(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "s.tif") as file:
        for plane in PLANES[:3]:
            said = {"photometric": "minisblack", "compression": "zlib", "metadata": None}
            file.write(plane, subfiletype=1, **said)
    np.testing.assert_array_equal(stacked(tmp_path / "s.tif"), PLANES[:3])


def test_smaller_copies_are_no_slices(tmp_path: Path) -> None:
    for count in (1, 3):
        path = tmp_path / f"{count}.tif"
        with tifffile.TiffWriter(path) as file:
            for plane in PLANES[:count]:
                file.write(plane, photometric="minisblack", metadata=None)
            file.write(PLANES[0][::2, ::2], subfiletype=1, metadata=None)
        np.testing.assert_array_equal(stacked(path), PLANES[:count])


def test_several_pictures_in_colour_are_refused_however_they_were_written(tmp_path: Path) -> None:
    for data in (
        by_pages(RGB, RGB, photometric="rgb"),
        tiff(np.stack([RGB, RGB]), photometric="rgb"),
    ):
        with pytest.raises(UnreadableImage, match="are no single picture; cure: one"):
            read(tmp_path, data)


def test_pages_that_were_written_one_by_one_may_not_be_too_many(tmp_path: Path) -> None:
    data = by_pages(*[GREY[:, :, 0]] * 9)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(UnreadableImage, match="its planes take 6417 bytes"):
        decode(str(tmp_path / "a.tif"), limit=23 * 31)


def test_a_mask_is_no_stack_however_it_was_written(tmp_path: Path) -> None:
    pages, path = np.repeat(GREY[None, :, :, 0], 4, axis=0), tmp_path / "m.tif"
    for data in (by_pages(*pages), by_pages(*pages, metadata=None), tiff(pages)):
        path.write_bytes(data)
        with pytest.raises(UnreadableImage, match=r"of \(4, 23, 31\), where a mask is one picture"):
            decode_mask(str(path))
    path.write_bytes(by_pages(GREY[:, :, 0], GREY[::2, ::2, 0]))
    np.testing.assert_array_equal(decode_mask(str(path)), GREY[:, :, 0] != 0)


@pytest.mark.parametrize(
    "data",
    [
        pil(RGB, "TIFF", compression="jpeg"),
        pil(Image.fromarray(RGB).convert("CMYK"), "TIFF"),
    ],
    ids=["jpeg", "cmyk"],
)
def test_a_picture_looks_as_pillow_sees_it(tmp_path: Path, data: bytes) -> None:
    assert np.abs(read(tmp_path, data).astype(int) - seen(data)).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_camera_is_turned_as_pillow_turns_it(tmp_path: Path, orientation: int) -> None:
    tag = [(0x0112, 3, 1, orientation, False)]
    data = tiff(RGB, photometric="rgb", extratags=tag)
    np.testing.assert_array_equal(read(tmp_path, data), seen(data))


DAMAGED = {
    "plain": tiff(RGB, photometric="rgb"),
    "tiles": tiff(RGB, photometric="rgb", tile=(16, 16), compression="zlib"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_file_cut_anywhere_is_no_picture(tmp_path: Path, kind: str) -> None:
    whole = DAMAGED[kind]
    assert read(tmp_path, whole).shape[:2] == (23, 31)
    ends = range(len(whole) - 12, len(whole))
    for kept in {*range(0, len(whole), 1 + len(whole) // 90), *ends}:
        with pytest.raises(UnreadableImage, match=str(tmp_path)):
            read(tmp_path, whole[:kept])


# --- a stack --------------------------------------------------------------------------------------

PLANES = np.random.default_rng(0).integers(0, 255, (11, 6, 8), np.uint8)


def stacked(place: Path) -> np.ndarray:
    """All slices of a file."""
    stack = find_slices(str(place))
    return np.stack([stack.read(k) for k in range(len(stack))])


def by_tifffile(**options: object) -> Callable[[Path], object]:
    said = {"photometric": "minisblack", "metadata": {"axes": "ZYX"}, **options}
    return lambda path: tifffile.imwrite(path, PLANES, **said)


STACKS: dict[str, Callable[[Path], object]] = {
    "libtiff": lambda path: cv2.imwritemulti(str(path), list(PLANES)),
    "libtiff, not compressed": lambda path: cv2.imwritemulti(
        str(path), list(PLANES), [cv2.IMWRITE_TIFF_COMPRESSION, 1]
    ),
    "pages": by_tifffile(metadata=None),
    "pages that are described": by_tifffile(),
    "pages one by one": lambda path: path.write_bytes(by_pages(*PLANES)),
    "ImageJ": by_tifffile(imagej=True),
    "ImageJ, one page for all": by_tifffile(imagej=True, truncate=True),
    "one page for all": by_tifffile(truncate=True),
    "OME": by_tifffile(ome=True),
    "big, deflate": by_tifffile(bigtiff=True, compression="zlib"),
    "other bytes first": by_tifffile(byteorder=">", compression="lzw"),
    "tiles": by_tifffile(tile=(16, 16)),
}


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_one_page_for_all_of_16_bit_is_read_in_either_order_of_bytes(
    tmp_path: Path, byteorder: str
) -> None:
    wide = PLANES.astype(np.uint16) * 257 - 5
    tifffile.imwrite(tmp_path / "s.tif", wide, imagej=True, byteorder=byteorder, truncate=True)
    got = stacked(tmp_path / "s.tif")
    assert got.dtype == np.uint16
    np.testing.assert_array_equal(got, wide)


@pytest.mark.parametrize("form", STACKS)
def test_a_whole_stack_is_read_and_no_cut_makes_it_shallower(tmp_path: Path, form: str) -> None:
    """A cut in the padding or in the notes of a program takes no pixel, and may go unnoticed."""
    path = tmp_path / "s.tif"
    STACKS[form](path)
    np.testing.assert_array_equal(stacked(path), PLANES)
    whole = path.read_bytes()
    shares = {round(len(whole) * share) for share in (0.05, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99)}
    for kept in {*range(0, len(whole), 1 + len(whole) // 90), *shares, len(whole) - 30}:
        path.write_bytes(whole[:kept])
        with pytest.raises(UnreadableImage, match=str(path)):
            find_slices(str(path))
    for kept in range(len(whole) - 30, len(whole)):
        path.write_bytes(whole[:kept])
        try:
            np.testing.assert_array_equal(stacked(path), PLANES)
        except UnreadableImage:
            continue


def test_a_stack_whose_words_are_cut_off_is_refused(tmp_path: Path) -> None:
    """OME's words stand at the end; without them two channels would be twice as many slices."""
    path = tmp_path / "s.ome.tif"
    values = PLANES[:8].reshape(4, 2, 6, 8)
    tifffile.imwrite(path, values, ome=True, metadata={"axes": "ZCYX"}, photometric="minisblack")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UnreadableImage, match="the file is truncated"):
        find_slices(str(path))


def test_words_of_a_program_that_lie_nowhere_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.tif"
    notes = [(50_000, 2, 40, "n" * 39, False)]
    tifffile.imwrite(path, PLANES, photometric="minisblack", metadata=None, extratags=notes)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        tags = [page.aspage().tags for page in file.pages]
        places = [of[50_000].offset + 8 for of in tags if 50_000 in of]
    assert places
    for place in places:
        data[place : place + 4] = b"\xff\xff\xff\x7f"
    path.write_bytes(data)
    np.testing.assert_array_equal(stacked(path), PLANES)


@pytest.mark.parametrize("data", [b"", b"II*\0", b"II*\0 is a stack", b"hello"])
def test_what_is_no_stack_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "s.tif").write_bytes(data)
    with pytest.raises(UnreadableImage, match=r"s\.tif"):
        find_slices(str(tmp_path / "s.tif"))


def test_a_page_that_is_harmed_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s.tif"
    by_tifffile(compression="zlib")(path)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        start = file.pages[7].dataoffsets[0]
    data[start : start + 9] = b"\xaa" * 9
    path.write_bytes(data)
    stack = find_slices(str(path))
    np.testing.assert_array_equal(stack.read(6), PLANES[6])
    with pytest.raises(UnreadableImage, match=f"{path} page 7: the page does not decode"):
        stack.read(7)


@pytest.mark.parametrize("axes", ["ZYX", "ZCYX", "TZYX"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_a_tiff_that_describes_its_first_page_only(
    tmp_path: Path, photometric: str, axes: str
) -> None:
    deep = PLANES.astype(np.uint16) * 3
    shape = [len(deep) if name == "Z" else 1 for name in axes[:-2]]
    path = tmp_path / "long.tif"
    tifffile.imwrite(
        path,
        deep.reshape(*shape, *deep.shape[1:]),
        truncate=True,
        photometric=photometric,
        metadata={"axes": axes},
    )
    with tifffile.TiffFile(path) as file:
        assert len(file.pages) == 1
    wanted = np.invert(deep) if photometric == "miniswhite" else deep
    np.testing.assert_array_equal(stacked(path), wanted)


@pytest.mark.parametrize("axes", ["TYX", "CYX", "TCYX", "CZYX"])
@pytest.mark.parametrize("kind", ["imagej", "ome", "truncate"])
def test_moments_or_channels_alone_are_slices(tmp_path: Path, kind: str, axes: str) -> None:
    values = PLANES.reshape(len(PLANES), *[1] * (len(axes) - 3), *PLANES.shape[1:])
    if kind == "imagej":
        axes, values = (
            "TZCYX",
            PLANES.reshape(*((-1, 1, 1) if axes[0] == "T" else (1, 1, -1)), 6, 8),
        )
    tifffile.imwrite(
        tmp_path / "s.tif",
        values,
        photometric="minisblack",
        metadata={"axes": axes},
        **{kind: True},
    )
    np.testing.assert_array_equal(stacked(tmp_path / "s.tif"), PLANES)


@pytest.mark.parametrize("axes", ["ZCYX", "CZYX", "TZYX", "TCYX"])
def test_a_stack_of_several_channels_or_moments_is_refused(tmp_path: Path, axes: str) -> None:
    shape = {"Z": 4, "C": 2, "T": 2, "Y": 8, "X": 9}
    values = np.zeros([shape[a] for a in axes], np.uint16)
    tifffile.imwrite(tmp_path / "s.ome.tif", values, ome=True, metadata={"axes": axes})
    with pytest.raises(UnreadableImage, match=r"[CT] of 2"):
        find_slices(str(tmp_path / "s.ome.tif"))


def test_pages_whose_0_is_white_are_turned_as_a_single_one_is(tmp_path: Path) -> None:
    planes = PLANES[:3]
    tifffile.imwrite(tmp_path / "all.tif", planes, photometric="miniswhite")
    tifffile.imwrite(tmp_path / "one.tif", planes[0], photometric="miniswhite")
    stack = find_slices(str(tmp_path / "all.tif"))
    np.testing.assert_array_equal(stack.read(0), 255 - planes[0])
    np.testing.assert_array_equal(stack.read(0), find_slices(str(tmp_path / "one.tif")).read(0))


@pytest.mark.parametrize("scale", [256, 257])
def test_a_palette_of_8_bit_shows_8_bit(tmp_path: Path, scale: int) -> None:
    shown, index = picture(3)[0, :16], np.arange(16, dtype=np.uint8).reshape(4, 4)
    colours = np.zeros((3, 256), dtype=np.uint16)
    colours[:, :16] = shown.T.astype(np.uint16) * scale
    file = tiff(index, photometric="palette", colormap=colours)
    np.testing.assert_array_equal(read(tmp_path, file), shown[index])
    colours[0, 0] = 0x1234
    deep = read(tmp_path, tiff(index, photometric="palette", colormap=colours))
    assert (deep.dtype, deep[0, 0, 0]) == (np.uint16, 0x1234)


@pytest.mark.parametrize("kind", ["YCbCr", "LAB"])
def test_colours_that_are_not_red_green_and_blue_are_refused_by_name(
    tmp_path: Path, kind: str
) -> None:
    with pytest.raises(UnreadableImage, match=r"(YCBCR|CIELAB) is not read; cure: save it as RGB"):
        read(tmp_path, pil(Image.fromarray(RGB).convert(kind), "TIFF"))


def noisy(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)


def test_a_small_copy_before_the_picture_is_no_picture(tmp_path: Path) -> None:
    large, small = noisy(80, 120, 3), noisy(8, 12, 3)
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(small, subfiletype=1, photometric="rgb")
        file.write(large, photometric="rgb")
    np.testing.assert_array_equal(decode(str(path)), large)
    mask = tmp_path / "m.tif"
    with tifffile.TiffWriter(mask) as file:
        file.write(small[:, :, 0], subfiletype=1)
        file.write((large[:, :, 0] > 99).astype(np.uint8))
    np.testing.assert_array_equal(decode_mask(str(mask)), large[:, :, 0] > 99)
    stack = find_slices(str(path))
    assert len(stack) == 3
    assert stack.form()[0] == (80, 120)


@pytest.mark.parametrize("is_raw", [False, True])
def test_the_picture_behind_a_small_copy_is_read_unless_it_is_raw(
    tmp_path: Path, *, is_raw: bool
) -> None:
    path, large = tmp_path / "a.tif", noisy(80, 120, 3)
    pattern = [(33421, "H", 2, (2, 2), True), (33422, "B", 4, bytes([0, 1, 1, 2]), True)]
    with tifffile.TiffWriter(path) as file:
        small = noisy(8, 12, 3)
        file.write(small, subfiletype=1, photometric="rgb", subifds=1, metadata=None)
        if is_raw:  # as cameras write them
            file.write(large[:, :, 0], photometric="cfa", metadata=None, extratags=pattern)
        else:
            file.write(large, photometric="rgb", metadata=None)
    if is_raw:
        with pytest.raises(UnreadableImage, match="CFA is not read; cure: save it as RGB"):
            decode(str(path))
    else:
        np.testing.assert_array_equal(decode(str(path)), large)


def test_pages_of_one_bit_are_slices_as_files_of_one_bit_are(tmp_path: Path) -> None:
    bits = noisy(3, 20, 30) > 99
    tifffile.imwrite(tmp_path / "a.tif", bits, photometric="minisblack")
    stack = find_slices(str(tmp_path / "a.tif"))
    np.testing.assert_array_equal(stack.read(1), bits[1] * np.uint8(255))


OME = """<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{own}">
<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="60"
SizeY="40" SizeZ="{z}" SizeC="{c}" SizeT="1">{planes}</Pixels></Image></OME>"""


def write_planes(folder: Path, axis: str) -> list[Path]:
    """Three files of one plane each, as Bio-Formats exports them, that tell of each other."""
    ids = [f"00000000-0000-0000-0000-00000000000{k}" for k in range(3)]
    planes = "".join(
        f'<TiffData IFD="0" First{axis}="{k}" PlaneCount="1">'
        f'<UUID FileName="p{k}.ome.tif">urn:uuid:{ids[k]}</UUID></TiffData>'
        for k in range(3)
    )
    paths = [folder / f"p{k}.ome.tif" for k in range(3)]
    for k, path in enumerate(paths):
        size = {"z": 3 if axis == "Z" else 1, "c": 3 if axis == "C" else 1}
        words = OME.format(own=ids[k], planes=planes, **size)
        picture = np.full((40, 60), 50 * k + 1, np.uint8)
        tifffile.imwrite(path, picture, description=words, metadata=None)
    return paths


def test_files_that_tell_of_each_other_are_slices_or_pictures_of_their_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = write_planes(tmp_path, "Z")
    stack = find_slices(str(tmp_path))
    assert [int(stack.read(k).max()) for k in range(len(stack))] == [1, 51, 101]
    for k, path in enumerate(paths):
        assert decode(str(path)).max() == 50 * k + 1
        assert len(find_slices(str(path))) == 1
    assert capfd.readouterr().err == ""


def test_channels_that_lie_in_other_files_are_refused(tmp_path: Path) -> None:
    for path in write_planes(tmp_path, "C"):
        with pytest.raises(UnreadableImage, match="other files; cure: save all in one"):
            decode(str(path))
