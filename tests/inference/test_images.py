"""From bytes to the picture a person sees, or to the right refusal."""

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.inference.images import (
    CorruptImageError,
    ImageLimits,
    ImageTooLargeError,
    UnsupportedImageError,
    open_image,
)
from tests.support.pictures import (
    encode,
    jpeg,
    photo,
    png_bomb,
    png_chunk,
    with_orientation,
)

# Pillow complains of damaged files before it raises, or ignores the damage.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

LIMITS = ImageLimits(max_bytes=2**22, max_pixels=10_000_000)


def decode(data: bytes, size: tuple[int, int] | None = None) -> Image.Image:
    return open_image(data, LIMITS).decode(size)


def pixels(image: Image.Image) -> npt.NDArray[np.int16]:
    assert image.mode == "RGB"
    return np.asarray(image).astype(np.int16)


def difference(one: Image.Image, other: Image.Image) -> float:
    """The mean difference of their 8-bit values."""
    assert one.size == other.size
    return float(np.abs(pixels(one) - pixels(other)).mean())


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
    def test_it_is_applied(self, orientation: int, image_format: str) -> None:
        opened = open_image(with_orientation(photo(), orientation, image_format), LIMITS)
        assert (opened.width, opened.height) == (64, 48)
        assert difference(opened.decode(), photo()) < 3

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_a_resize_is_to_the_size_that_is_seen(self, orientation: int) -> None:
        opened = open_image(with_orientation(photo(640, 480), orientation, "JPEG"), LIMITS)
        resized = opened.decode((64, 48))
        assert resized.size == (64, 48)
        assert difference(resized, photo()) < 3

    @pytest.mark.parametrize("orientation", [0, 9, 65535])
    def test_one_that_does_not_exist_is_ignored(self, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        opened = open_image(jpeg(exif=exif.tobytes()), LIMITS)
        assert (opened.width, opened.height) == (64, 48)
        assert difference(opened.decode(), photo()) < 3

    def test_one_that_is_no_number_is_ignored(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        number, text = (struct.pack(">HH", 0x0112, kind) for kind in (3, 2))
        assert number in exif.tobytes()
        data = jpeg(exif=exif.tobytes().replace(number, text))
        assert difference(decode(data), photo()) < 3

    @pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\xff"])
    def test_exif_that_cannot_be_read_is_ignored(self, exif: bytes) -> None:
        assert difference(decode(jpeg(exif=exif)), photo()) < 3

    def test_other_tags_that_cannot_be_written_do_not_matter(self) -> None:
        # Cameras write tags of the wrong type: here an exposure time that is text.
        exif = Image.Exif()
        exif[0x0112] = 6
        exif[0x829A] = "a while"
        stored = photo().transpose(Image.Transpose.ROTATE_90)
        data = encode(stored, "JPEG", quality=95, exif=_with_text_rational(exif.tobytes()))
        assert difference(decode(data), photo()) < 3


def _with_text_rational(exif: bytes) -> bytes:
    """The same EXIF, whose exposure time says that it is a fraction, which it is not."""
    text, fraction = (struct.pack(">HH", 0x829A, kind) for kind in (2, 5))
    assert text in exif
    return exif.replace(text, fraction)


WHITE, BLACK = (255, 255, 255), (0, 0, 0)


class TestModes:
    @pytest.mark.parametrize("image_format", ["PNG", "WEBP"])
    def test_what_is_transparent_becomes_white(self, image_format: str) -> None:
        image = Image.new("RGBA", (4, 2), (200, 0, 0, 255))
        image.paste((0, 0, 0, 0), (0, 0, 2, 2))
        decoded = decode(encode(image, image_format, lossless=True))
        assert decoded.getpixel((0, 0)) == WHITE
        assert decoded.getpixel((3, 1)) == (200, 0, 0)

    def test_what_is_half_transparent_is_half_white(self) -> None:
        data = encode(Image.new("RGBA", (2, 2), (0, 0, 0, 128)), "PNG")
        assert decode(data).getpixel((0, 0)) == pytest.approx((127, 127, 127), abs=1)

    def test_grey_with_alpha(self) -> None:
        image = Image.new("LA", (2, 1), (10, 255))
        image.putpixel((1, 0), (10, 0))
        decoded = decode(encode(image, "PNG"))
        assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [(10, 10, 10), WHITE]

    def test_a_palette_with_a_transparent_colour(self) -> None:
        image = Image.new("P", (2, 1))
        image.putpalette([10, 20, 30, 200, 100, 50])
        image.putpixel((1, 0), 1)
        decoded = decode(encode(image, "PNG", transparency=0))
        assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [WHITE, (200, 100, 50)]

    def test_a_palette_without_one(self) -> None:
        decoded = decode(encode(photo().quantize(64), "PNG"))
        assert difference(decoded, photo()) < 12

    @pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
    def test_greyscale(self, image_format: str) -> None:
        grey = photo().convert("L")
        options: dict[str, Any] = {"lossless": True} if image_format == "WEBP" else {"quality": 95}
        decoded = decode(encode(grey, image_format, **options))
        assert difference(decoded, grey.convert("RGB")) < 3

    def test_black_and_white_only(self) -> None:
        image = Image.new("1", (3, 1))
        image.putpixel((1, 0), 1)
        decoded = decode(encode(image, "PNG"))
        assert [decoded.getpixel((x, 0)) for x in range(3)] == [BLACK, WHITE, BLACK]

    def test_16_bit_grey_keeps_its_picture(self) -> None:
        levels = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
        decoded = decode(encode(Image.fromarray(levels), "PNG"))
        expected = (levels // 256).astype(np.uint8)
        assert np.abs(pixels(decoded)[:, :, 0] - expected).max() <= 1

    def test_cmyk(self) -> None:
        data = encode(photo().convert("CMYK"), "JPEG", quality=95)
        assert difference(decode(data), photo()) < 4

    def test_a_progressive_jpeg(self) -> None:
        assert difference(decode(jpeg(progressive=True)), photo()) < 3

    @pytest.mark.parametrize("image_format", ["PNG", "WEBP"])
    def test_of_an_animation_the_first_frame(self, image_format: str) -> None:
        frames = [photo(), Image.new("RGB", (64, 48), "black"), Image.new("RGB", (64, 48), "red")]
        data = encode(
            frames[0],
            image_format,
            save_all=True,
            append_images=frames[1:],
            duration=50,
            lossless=True,
        )
        assert difference(decode(data), photo()) < 3


class TestSizes:
    @pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1), (2, 3)])
    @pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
    def test_the_smallest_and_the_thinnest(self, size: tuple[int, int], image_format: str) -> None:
        opened = open_image(encode(Image.new("RGB", size, "navy"), image_format), LIMITS)
        assert (opened.width, opened.height) == size
        assert opened.decode().size == size
        assert opened.decode((16, 32)).size == (16, 32)

    def test_a_jpeg_decoded_at_a_fraction_looks_like_one_decoded_whole(self) -> None:
        data = jpeg(1600, 1200)
        opened = open_image(data, LIMITS)
        small = opened.decode((160, 112))
        # Pillow's own reduced decoding was used: else this proves nothing.
        assert opened.image.size == (400, 300)
        whole = decode(data).resize((160, 112), Image.Resampling.BILINEAR)
        assert difference(small, whole) < 1.5

    def test_a_jpeg_near_the_wanted_size_is_decoded_whole(self) -> None:
        opened = open_image(jpeg(320, 240), LIMITS)
        opened.decode((256, 192))
        assert opened.image.size == (320, 240)

    def test_too_many_bytes(self) -> None:
        data = jpeg()
        with pytest.raises(ImageTooLargeError, match="bytes"):
            open_image(data, ImageLimits(len(data) - 1, 10**6))
        open_image(data, ImageLimits(len(data), 10**6))

    def test_too_many_pixels(self) -> None:
        with pytest.raises(ImageTooLargeError, match="64 x 48"):
            open_image(jpeg(), ImageLimits(2**20, 64 * 48 - 1))
        open_image(jpeg(), ImageLimits(2**20, 64 * 48))

    @pytest.mark.parametrize("size", [(50_000, 50_000), (2**31 - 1, 2**31 - 1), (1, 2**31 - 1)])
    def test_a_png_bomb_is_refused_before_its_pixels_are_decoded(
        self, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_image: Image.Image) -> None:
            raise AssertionError("pixels were decoded")

        monkeypatch.setattr(Image.Image, "load", refuse)
        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", refuse)
        bomb = png_bomb(50_000, 10)
        data = bomb[:16] + struct.pack(">II", *size) + bomb[24:]
        header = data[16:29]
        data = data[:8] + png_chunk(b"IHDR", header) + data[33:]
        with pytest.raises(ImageTooLargeError, match="pixels"):
            open_image(data, LIMITS)

    def test_a_jpeg_bomb_is_refused(self) -> None:
        data = bytearray(jpeg())
        start = data.index(b"\xff\xc0") + 5
        data[start : start + 4] = struct.pack(">HH", 65_500, 65_500)
        with pytest.raises(ImageTooLargeError, match="pixels"):
            open_image(bytes(data), LIMITS)


OTHER_TYPES: dict[str, Callable[[], bytes]] = {
    "GIF": lambda: encode(photo(), "GIF"),
    "BMP": lambda: encode(photo(), "BMP"),
    "TIFF": lambda: encode(photo(), "TIFF"),
    "ICO": lambda: encode(photo(), "ICO"),
    "SVG": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "PDF": lambda: b"%PDF-1.7\n",
    "text": lambda: b"not an image",
    "EPS": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n",
    "nothing": lambda: b"",
    "one byte": lambda: b"\xff",
    "a WAV file": lambda: b"RIFF\x24\x00\x00\x00WAVEfmt ",
}


@pytest.mark.parametrize("kind", OTHER_TYPES)
def test_other_types_are_refused(kind: str) -> None:
    with pytest.raises(UnsupportedImageError):
        open_image(OTHER_TYPES[kind](), LIMITS)


WHOLE = {
    "JPEG": encode(photo(), "JPEG", quality=95),
    "progressive JPEG": encode(photo(), "JPEG", quality=95, progressive=True),
    "PNG": encode(photo(), "PNG"),
    "interlaced-like PNG": encode(photo().quantize(16), "PNG"),
    "WebP": encode(photo(), "WEBP"),
    "lossless WebP": encode(photo(), "WEBP", lossless=True),
    "animated WebP": encode(
        photo(), "WEBP", save_all=True, append_images=[Image.new("RGB", (64, 48))], duration=9
    ),
    "JPEG with EXIF": with_orientation(photo(), 6, "JPEG"),
    "PNG with EXIF": with_orientation(photo(), 6, "PNG"),
}
MAGIC = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n", "WebP": b"RIFF\xff\0\0\0WEBP"}


def expect_an_image_or_a_refusal(data: bytes) -> bool:
    """Whether `data` decodes; anything but success or an error for the caller fails the test."""
    try:
        assert decode(data, (32, 32)).mode == "RGB"
    except (CorruptImageError, UnsupportedImageError, ImageTooLargeError):
        return False
    return True


class TestDamage:
    @pytest.mark.parametrize("kind", WHOLE)
    def test_cut_off_anywhere(self, kind: str) -> None:
        data = WHOLE[kind]
        assert expect_an_image_or_a_refusal(data)
        # Every place in the header, and many in the pixels.
        for end in [*range(1, min(700, len(data))), *range(700, len(data), 37)]:
            expect_an_image_or_a_refusal(data[:end])

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP"])
    def test_half_a_file_is_corrupt(self, kind: str) -> None:
        with pytest.raises(CorruptImageError):
            decode(WHOLE[kind][: len(WHOLE[kind]) // 2])

    @pytest.mark.parametrize("kind", MAGIC)
    def test_the_right_beginning_and_then_nothing_or_garbage(self, kind: str) -> None:
        for rest in (b"", b"\0" * 100, bytes(range(256)) * 4, b"\xff" * 1000):
            with pytest.raises(CorruptImageError):
                decode(MAGIC[kind] + rest)

    @settings(max_examples=300, deadline=None)
    @given(
        st.sampled_from(sorted(WHOLE)),
        st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), max_size=8),
    )
    def test_changed_bytes(self, kind: str, changes: list[tuple[float, bytes]]) -> None:
        data = bytearray(WHOLE[kind])
        for place, new in changes:
            start = int(place * (len(data) - 1))
            data[start : start + len(new)] = new
        expect_an_image_or_a_refusal(bytes(data))

    @settings(max_examples=100, deadline=None)
    @given(st.sampled_from(sorted(MAGIC)), st.binary(max_size=300))
    def test_the_right_beginning_and_then_anything(self, kind: str, rest: bytes) -> None:
        expect_an_image_or_a_refusal(MAGIC[kind] + rest)

    @settings(max_examples=200, deadline=None)
    @given(
        st.sampled_from(
            [b"gAMA", b"tRNS", b"PLTE", b"eXIf", b"iCCP", b"tEXt", b"iTXt", b"zTXt", b"acTL"]
        ),
        st.binary(max_size=60),
    )
    def test_png_chunks_with_anything_in_them(self, kind: bytes, data: bytes) -> None:
        whole = WHOLE["PNG"]
        # Behind the header chunk, which ends at byte 33.
        expect_an_image_or_a_refusal(whole[:33] + png_chunk(kind, data) + whole[33:])

    def test_a_file_that_says_two_things_is_what_its_first_bytes_say(self) -> None:
        assert not expect_an_image_or_a_refusal(MAGIC["PNG"] + WHOLE["JPEG"])


def test_decoding_leaves_the_bytes_as_they_are() -> None:
    data = jpeg()
    copy = bytes(bytearray(data))
    decode(data)
    assert io.BytesIO(data).getvalue() == copy
