"""Copies of uploaded images for the history: small, upright, and without what cameras write along.

A copy is made in threads of its own while the detector works on the image, so that no other
request waits for it, and it never decides about an answer: see docs/adr/0011.
"""

import asyncio
import io
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from loguru import logger
from PIL import Image

from app.history.records import PictureCopy
from app.inference.images import ImageLimits, open_image

# As many as images are decoded at once for the detector.
_THREADS = 2
THUMBNAIL_EDGE = 160
# Of the longest edge: a resize costs as much as all the rest.
_ENOUGH = 0.75
_QUALITY = 85
_THUMBNAIL_QUALITY = 75

TakeCopy = Callable[[], Awaitable[PictureCopy | None]]


async def take_nothing() -> None:
    """The `TakeCopy` of a call of which nothing is kept."""


class PictureKeeper:
    """Makes the copies. `longest_edge` is theirs in pixels; smaller images keep their size."""

    def __init__(self, *, longest_edge: int, limits: ImageLimits) -> None:
        self._longest_edge = longest_edge
        self._limits = limits
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="pictures")

    @asynccontextmanager
    async def copying(self, data: bytes, deadline: float) -> AsyncIterator[TakeCopy]:
        """Make a copy of an encoded image during the context, and give it up at its end.

        What the context is given waits for the copy: None where there was none at `deadline`, on
        the clock of `time.monotonic`, or where it could not be made, which is logged.
        """
        # A task begins at the next turn of the event loop: a call that is refused at once, since
        # the queue is full, costs no copy.
        task = asyncio.create_task(self._copy(data, deadline))

        async def take() -> PictureCopy | None:
            made = await task
            if isinstance(made, Exception):
                logger.warning("an image was not kept: {!r}", made)
                return None
            return made

        try:
            yield take
        finally:
            task.cancel()

    def close(self) -> None:
        """End the threads; copies that wait are given up."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _copy(self, data: bytes, deadline: float) -> PictureCopy | Exception:
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.get_running_loop().run_in_executor(
                    self._pool, self._copy_in_time, data, deadline
                )
        except Exception as error:
            return error

    def _copy_in_time(self, data: bytes, deadline: float) -> PictureCopy:
        if time.monotonic() >= deadline:
            raise TimeoutError
        return make_copy(data, self._limits, self._longest_edge)


def make_copy(data: bytes, limits: ImageLimits, longest_edge: int) -> PictureCopy:
    """The copy of an encoded image, and a thumbnail of it, as JPEG.

    A larger image ends at `longest_edge`; a JPEG at three quarters of it or more, where that is
    what its decoder gives without a resize. Computes: not for the event loop. Raises as
    `open_image` and `OpenedImage.decode`.
    """
    opened = open_image(data, limits)
    # Decoded at a half, a quarter or an eighth, as long as that is large enough.
    opened.image.draft("RGB", _fit(opened.image.size, longest_edge * _ENOUGH))
    picture = opened.decode()
    if max(picture.size) > longest_edge:
        picture = picture.resize(_fit(picture.size, longest_edge), Image.Resampling.BILINEAR)
    thumbnail = picture.resize(_fit(picture.size, THUMBNAIL_EDGE), Image.Resampling.BILINEAR)
    return PictureCopy(
        image=_encode(picture, _QUALITY), thumbnail=_encode(thumbnail, _THUMBNAIL_QUALITY)
    )


def _fit(size: tuple[int, int], longest_edge: float) -> tuple[int, int]:
    """`size` scaled down to `longest_edge`, where it is longer; no edge vanishes."""
    scale = min(1.0, longest_edge / max(size))
    return max(1, math.ceil(size[0] * scale)), max(1, math.ceil(size[1] * scale))


def _encode(picture: Image.Image, quality: int) -> bytes:
    # Pillow writes what it finds here: comments, colour profiles and more of the camera's.
    picture.info.clear()
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()
