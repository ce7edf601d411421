"""Pictures for the tests, in every form that people upload."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def photo(width: int = 64, height: int = 48) -> Image.Image:
    """A smooth RGB picture whose corners all differ: red left, green top, blue right."""
    across = np.linspace(0, 1, width)[None, :]
    down = np.linspace(0, 1, height)[:, None]
    red = 220 * (1 - across) + 20 * down
    green = 220 * (1 - down) + 20 * across
    blue = 220 * across + 30 * down
    channels = np.stack(np.broadcast_arrays(red, green, blue), axis=2)
    return Image.fromarray(channels.round().astype(np.uint8), "RGB")


def encode(image: Image.Image, image_format: str, **options: Any) -> bytes:
    """`image` as a file of `image_format`."""
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def jpeg(width: int = 64, height: int = 48, **options: Any) -> bytes:
    """A JPEG photo of this size."""
    return encode(photo(width, height), "JPEG", **{"quality": 95, **options})


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(width: int, height: int) -> bytes:
    """A PNG that announces a size, with pixels for a few lines only: small, and huge if decoded."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * (1 + 3 * width) * 4)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        png_chunk(kind, data)
        for kind, data in ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    )


def with_orientation(image: Image.Image, orientation: int, image_format: str) -> bytes:
    """A file that stores `image` so that a viewer that heeds `orientation` shows it upright."""
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = image if undo is None else image.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless: dict[str, bool] = {"lossless": True} if image_format == "WEBP" else {}
    return encode(stored, image_format, exif=exif.tobytes(), quality=95, **lossless)
