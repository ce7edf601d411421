"""Where a page of the history ended, as an opaque string."""

import base64
import struct
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from app.history.exceptions import InvalidCursorError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LAYOUT = struct.Struct(">q16s")


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last item of a page. The next page holds what sorts before it by time, then by id."""

    created_at: datetime
    id: uuid.UUID

    def encode(self) -> str:
        """URL-safe base64 of the microseconds since 1970 and the id."""
        moment = (self.created_at - _EPOCH) // _MICROSECOND
        return base64.urlsafe_b64encode(_LAYOUT.pack(moment, self.id.bytes)).decode()

    @classmethod
    def decode(cls, encoded: str) -> Self:
        """Read what `encode` wrote; raises `InvalidCursorError` for anything else."""
        try:
            moment, identifier = _LAYOUT.unpack(
                base64.b64decode(encoded, altchars=b"-_", validate=True)
            )
            return cls(_EPOCH + moment * _MICROSECOND, uuid.UUID(bytes=identifier))
        except (ValueError, OverflowError, struct.error) as error:
            raise InvalidCursorError from error
