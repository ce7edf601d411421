"""From uploaded bytes to an RGB image as a person sees it."""

import io
import struct
from dataclasses import dataclass

from PIL import Image

from app.exceptions import PayloadTooLargeError, UnprocessableError, UnsupportedMediaTypeError

# Every size is checked here before pixels are decoded, by our own limit; Pillow's global
# guess would only warn, or refuse images that the operator allows.
Image.MAX_IMAGE_PIXELS = None

_ORIENTATION_TAG = 0x0112
# Not Pillow's `exif_transpose`: it also writes the EXIF anew, which fails on damaged tags.
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TRANSPOSED_ORIENTATIONS = frozenset({5, 6, 7, 8})


class UnsupportedImageError(UnsupportedMediaTypeError):
    code = "unsupported_image"
    detail = "This is not a JPEG, PNG or WebP image."


class ImageTooLargeError(PayloadTooLargeError):
    code = "image_too_large"


class CorruptImageError(UnprocessableError):
    code = "corrupt_image"
    detail = "The image is truncated or corrupt."


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """The largest image that is decoded."""

    max_bytes: int
    max_pixels: int


@dataclass(frozen=True, slots=True)
class OpenedImage:
    """An image whose header has been read; its pixels have not."""

    image: Image.Image
    orientation: int
    width: int
    """Pixels, orientation applied."""
    height: int

    def decode(self, size: tuple[int, int] | None = None) -> Image.Image:
        """Decode to RGB with the orientation applied, resized to `size` (width, height) if given.

        Transparent parts become white, as most viewers show them; 16-bit greyscale keeps its
        upper 8 bits. Resizing is Pillow's bilinear, as the YOLOS image processor's. Raises
        `CorruptImageError`.
        """
        try:
            image = self.image
            if size is not None:
                stored = size[::-1] if self.orientation in _TRANSPOSED_ORIENTATIONS else size
                # A JPEG that is much larger than needed is decoded at a half, a quarter or an
                # eighth; twice the target leaves the filter enough to average over.
                image.draft("RGB", (stored[0] * 2, stored[1] * 2))
            image.load()
            image = _to_rgb(image)
            if size is not None and image.size != stored:
                image = image.resize(stored, Image.Resampling.BILINEAR)
            return _orient(image, self.orientation)
        except _DECODE_ERRORS as error:
            raise CorruptImageError from error


# What Pillow's decoders raise on damaged files: besides OSError also plain SyntaxError (PNG
# chunks), and whatever their parsers stumble over.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    ArithmeticError,
    LookupError,
    EOFError,
    TypeError,
    struct.error,
)


def open_image(data: bytes, limits: ImageLimits) -> OpenedImage:
    """Read an image's header and check it against `limits`, before any pixel is decoded.

    Raises `UnsupportedImageError`, `ImageTooLargeError` or `CorruptImageError`.
    """
    if len(data) > limits.max_bytes:
        raise ImageTooLargeError(
            f"The image has {len(data):,} bytes; at most {limits.max_bytes:,} are accepted."
        )
    image_format = _sniff(data)
    if image_format is None:
        raise UnsupportedImageError
    try:
        image = Image.open(io.BytesIO(data), formats=[image_format])
    except _DECODE_ERRORS as error:
        raise CorruptImageError from error
    width, height = image.size
    if width * height > limits.max_pixels:
        raise ImageTooLargeError(
            f"The image has {width} x {height} pixels; at most {limits.max_pixels:,} are accepted."
        )
    orientation = _read_orientation(image)
    if orientation in _TRANSPOSED_ORIENTATIONS:
        width, height = height, width
    return OpenedImage(image, orientation, width, height)


def _read_orientation(image: Image.Image) -> int:
    try:
        # The EXIF of a PNG may stand behind its pixels, so they are decoded here, which is why
        # this comes after the check of the size.
        if image.format == "PNG":
            image.load()
    except _DECODE_ERRORS as error:
        raise CorruptImageError from error
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
    except _DECODE_ERRORS:
        # Every viewer shows a picture whose EXIF alone is damaged.
        return 1
    return orientation if isinstance(orientation, int) else 1


def _sniff(data: bytes) -> str | None:
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        # Pillow clips 16-bit values at 255 when it converts; scaling keeps the picture.
        return image.convert("I").point(lambda value: value / 256).convert("L").convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _orient(image: Image.Image, orientation: int) -> Image.Image:
    transposition = _TRANSPOSITIONS.get(orientation)
    return image if transposition is None else image.transpose(transposition)
