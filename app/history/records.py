"""What the inference doors hand over for keeping: plain values, made before the commit.

The id is made here, so that an answer can carry it while its record is still being written.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from app.database import new_id, now
from app.history.models import join_labels

MAX_NAME_LENGTH = 255


def _storable(text: str) -> str:
    """`text` as both databases hold it: NUL and lone surrogates become U+FFFD."""
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8")
    return text.replace("\x00", "\ufffd")


@dataclass(frozen=True, slots=True)
class PictureCopy:
    """What is kept of an uploaded image: two JPEGs."""

    image: bytes
    thumbnail: bytes

    @property
    def size(self) -> int:
        """Bytes of both."""
        return len(self.image) + len(self.thumbnail)


@dataclass(frozen=True, slots=True)
class PredictionRecord:
    """One answered prediction (`text`) or detection (`image`) of a signed-in caller.

    `result` holds the answer's own fields and must be JSON; `labels` are the labels found in it,
    `latency_ms` runs from the request's arrival to its answer.
    """

    user_id: uuid.UUID
    kind: Literal["text", "image"]
    model: str
    model_version: str
    result: Mapping[str, Any]
    labels: tuple[str, ...]
    latency_ms: float
    input_text: str | None = None
    input_name: str | None = None
    cached: bool = False
    picture: PictureCopy | None = None
    id: uuid.UUID = field(default_factory=new_id)
    created_at: datetime = field(default_factory=now)

    def to_row(self) -> dict[str, Any]:
        """The values of its row in `predictions`, by column."""
        text, name = self.input_text, self.input_name
        return {
            "id": self.id,
            "user_id": self.user_id,
            "kind": self.kind,
            "model": self.model,
            "model_version": self.model_version,
            "created_at": self.created_at,
            "input_text": None if text is None else _storable(text),
            "input_name": None if name is None else _storable(name)[:MAX_NAME_LENGTH],
            "result": self.result,
            "labels": join_labels(self.labels),
            "latency_ms": self.latency_ms,
            "cached": self.cached,
        }

    def to_picture_row(self) -> dict[str, Any] | None:
        """The values of its row in `pictures`, by column; None where no picture is kept."""
        if self.picture is None:
            return None
        return {
            "prediction_id": self.id,
            "thumbnail": self.picture.thumbnail,
            "image": self.picture.image,
        }


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """One WebSocket stream that has ended; the fields are those of the `streams` table."""

    user_id: uuid.UUID
    model: str
    model_version: str
    duration_s: float
    frames_received: int
    frames_processed: int
    frames_dropped: int
    frames_failed: int
    latency_ms: float | None
    label_counts: Mapping[str, int]
    close_code: int
    id: uuid.UUID = field(default_factory=new_id)
    created_at: datetime = field(default_factory=now)

    def to_row(self) -> dict[str, Any]:
        """The values of its row in `streams`, by column."""
        return {
            "id": self.id,
            "user_id": self.user_id,
            "model": self.model,
            "model_version": self.model_version,
            "created_at": self.created_at,
            "duration_s": self.duration_s,
            "frames_received": self.frames_received,
            "frames_processed": self.frames_processed,
            "frames_dropped": self.frames_dropped,
            "frames_failed": self.frames_failed,
            "latency_ms": self.latency_ms,
            "label_counts": self.label_counts,
            "labels": join_labels(self.label_counts),
            "close_code": self.close_code,
        }


Record = PredictionRecord | StreamRecord
