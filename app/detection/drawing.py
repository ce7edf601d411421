"""Draws detections into the picture they were found in."""

import colorsys
import hashlib
import io

from PIL import ImageDraw, ImageFont

from app.inference.images import ImageLimits, open_image
from app.inference.yolos import Detections

_FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG"}
# Without chroma subsampling, which would smear thin coloured lines.
_OPTIONS: dict[str, dict[str, int]] = {
    "image/png": {},
    "image/jpeg": {"quality": 90, "subsampling": 0},
}


def draw(data: bytes, detections: Detections, limits: ImageLimits, media_type: str) -> bytes:
    """The picture `data` with boxes, labels and scores, encoded as `media_type`.

    `media_type` is `image/png` or `image/jpeg`. Computes: not for the event loop. Raises as
    `open_image` and `OpenedImage.decode`.
    """
    picture = open_image(data, limits).decode()
    canvas = ImageDraw.Draw(picture)
    # Readable at any resolution: two percent of the shorter edge.
    text_size = max(12, min(picture.size) // 40)
    font = ImageFont.load_default(text_size)
    line = max(2, text_size // 7)
    # Best last, so that it lies on top.
    for found in reversed(detections.objects):
        colour = label_colour(found.label)
        x1, y1, x2, y2 = found.box
        # A box ends where its last pixel does, which at the picture's edge is beyond the canvas.
        right, bottom = min(x2, picture.width - 1), min(y2, picture.height - 1)
        canvas.rectangle((x1, y1, max(x1, right), max(y1, bottom)), outline=colour, width=line)
        caption = f"{found.label} {found.score:.0%}"
        left, top, *end = canvas.textbbox((0, 0), caption, font=font)
        width, height = end[0] - left + 2 * line, end[1] - top + 2 * line
        # Above the box where there is room, and never beyond the picture's edges.
        caption_x = max(0, min(x1, picture.width - width))
        caption_y = y1 - height if y1 >= height else min(y1, picture.height - height)
        canvas.rectangle((caption_x, caption_y, caption_x + width, caption_y + height), fill=colour)
        position = (caption_x + line - left, caption_y + line - top)
        canvas.text(position, caption, font=font, fill=_ink_on(colour))
    encoded = io.BytesIO()
    picture.save(encoded, _FORMATS[media_type], **_OPTIONS[media_type])
    return encoded.getvalue()


def label_colour(label: str) -> tuple[int, int, int]:
    """A label's own colour, the same in every picture and on every machine."""
    hue = hashlib.blake2b(label.encode(), digest_size=2).digest()
    red, green, blue = colorsys.hls_to_rgb(int.from_bytes(hue) / 65536, 0.5, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)


def _ink_on(colour: tuple[int, int, int]) -> str:
    # Perceived brightness (ITU-R BT.601): the eye weighs green most.
    brightness = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    return "black" if brightness > 140 else "white"
