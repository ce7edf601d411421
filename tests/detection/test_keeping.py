"""The copies of images that the history keeps: how they look, and that they hold nobody up."""

import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from app.detection.keeping import THUMBNAIL_EDGE, PictureKeeper, make_copy
from app.inference.images import CorruptImageError, ImageLimits, ImageTooLargeError
from tests.support.pictures import encode, jpeg, photo, png_bomb, with_orientation

LIMITS = ImageLimits(max_bytes=2**22, max_pixels=4_000_000)


def copy(data: bytes, longest_edge: int = 128) -> tuple[Image.Image, Image.Image]:
    """The copy and its thumbnail, opened."""
    made = make_copy(data, LIMITS, longest_edge)
    return Image.open(io.BytesIO(made.image)), Image.open(io.BytesIO(made.thumbnail))


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean difference of the channels, from 0 to 255."""
    pair = [np.asarray(picture.convert("RGB"), np.float32) for picture in (one, other)]
    return float(np.abs(pair[0] - pair[1]).mean())


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((400, 300), (128, 96)),
        ((300, 400), (96, 128)),
        ((1999, 1001), (128, 65)),
        ((128, 96), (128, 96)),
        ((64, 48), (64, 48)),
        ((1500, 1), (128, 1)),
        ((1, 1), (1, 1)),
    ],
)
def test_it_is_scaled_down_to_its_longest_edge_and_never_up(
    image_format: str, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    picture, thumbnail = copy(encode(photo(*size), image_format, quality=95))
    assert (picture.format, picture.mode) == ("JPEG", "RGB")
    if image_format == "JPEG":
        # Its decoder gives some sizes for nothing.
        assert 0.75 * max(expected) <= max(picture.size) <= max(expected)
    else:
        assert picture.size == expected
    assert thumbnail.format == "JPEG"
    assert max(thumbnail.size) <= THUMBNAIL_EDGE
    if min(expected) > 8:
        assert difference(picture, photo(*size).resize(picture.size)) < 4
        assert size[0] / size[1] == pytest.approx(picture.width / picture.height, rel=0.02)


@pytest.mark.parametrize("edge", range(96, 400, 7))
def test_a_jpeg_that_fits_keeps_its_size(edge: int) -> None:
    picture, _ = copy(jpeg(edge, edge // 2), longest_edge=edge)
    assert picture.size == (edge, edge // 2)


def test_thumbnails_are_small() -> None:
    made = make_copy(jpeg(1200, 900), LIMITS, 1024)
    thumbnail = Image.open(io.BytesIO(made.thumbnail))
    assert thumbnail.size == (THUMBNAIL_EDGE, 120)
    assert made.size == len(made.image) + len(made.thumbnail)
    assert len(made.thumbnail) < len(made.image) / 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_it_is_upright(image_format: str, orientation: int) -> None:
    upright = photo(400, 200)
    picture, thumbnail = copy(with_orientation(upright, orientation, image_format))
    assert picture.width == 2 * picture.height
    assert difference(picture, upright.resize(picture.size)) < 4
    assert difference(thumbnail, picture) < 4


def _secret_exif() -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "SECRET camera"
    return exif.tobytes()


def _secret_text() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "SECRET text")
    return info


@pytest.mark.parametrize(
    ("image_format", "metadata"),
    [
        ("JPEG", lambda: {"comment": b"SECRET comment"}),
        ("JPEG", lambda: {"exif": _secret_exif(), "icc_profile": b"SECRET profile" * 20}),
        ("JPEG", lambda: {"xmp": b"SECRET xmp"}),
        ("PNG", lambda: {"pnginfo": _secret_text(), "icc_profile": b"SECRET profile"}),
        ("WEBP", lambda: {"exif": _secret_exif(), "xmp": b"SECRET xmp"}),
    ],
)
@pytest.mark.parametrize("size", [(64, 48), (400, 300)])
def test_what_cameras_and_programs_write_along_is_not_in_it(
    image_format: str, metadata: Callable[[], dict[str, Any]], size: tuple[int, int]
) -> None:
    made = make_copy(encode(photo(*size), image_format, **metadata()), LIMITS, 128)
    for data in (made.image, made.thumbnail):
        assert b"SECRET" not in data
        assert not Image.open(io.BytesIO(data)).getexif()
        assert "icc_profile" not in Image.open(io.BytesIO(data)).info


def test_transparent_parts_are_white() -> None:
    picture, _ = copy(encode(Image.new("RGBA", (20, 20), (255, 0, 0, 0)), "PNG"))
    assert difference(picture, Image.new("RGB", (20, 20), "white")) < 1


def test_what_is_too_large_is_not_decoded() -> None:
    with pytest.raises(ImageTooLargeError):
        make_copy(png_bomb(30_000, 30_000), LIMITS, 128)


class TestKeeper:
    async def test_a_copy_is_taken(self) -> None:
        keeper = PictureKeeper(longest_edge=128, limits=LIMITS)
        data = jpeg(400, 300)
        async with keeper.copying(data, time.monotonic() + 60) as take:
            assert await take() == make_copy(data, LIMITS, 128)
        keeper.close()

    @pytest.mark.parametrize(
        ("data", "seconds"), [(jpeg()[:200], 60), (b"no image", 60), (jpeg(), -1)]
    )
    async def test_what_cannot_be_made_is_none(self, data: bytes, seconds: float) -> None:
        keeper = PictureKeeper(longest_edge=128, limits=LIMITS)
        async with keeper.copying(data, time.monotonic() + seconds) as take:
            assert await take() is None
        keeper.close()

    async def test_an_error_within_is_the_callers_own(self) -> None:
        keeper = PictureKeeper(longest_edge=128, limits=LIMITS)
        with pytest.raises(CorruptImageError):
            async with keeper.copying(jpeg(), time.monotonic() + 60):
                raise CorruptImageError
        keeper.close()
