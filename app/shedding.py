"""Load shedding: who was refused a moment ago is refused again at the door.

Over its capacity a service spends its time on refusals, and a refusal by the application (a task,
all middlewares, the caller, the body) costs nearly as much as an answer. So the first one is
remembered with its answer, which the HTTP protocol sends to the same caller again without asking
the application (docs/adr/0051). As the queue drains, those remembered may pass again, as many as
there are places; when it is nearly empty, they are forgotten.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.types import Scope

from app.inference.base import QueueFullError
from app.middlewares import choose_request_id
from app.monitoring.middleware import RequestObserver
from app.schemas import ErrorResponse

MAX_BODY_BYTES = 32 * 1024
"""A refused body is read and thrown away; a larger one is left to the application's limits."""

# Without a batch for so long the model has more to tell than that its queue is full.
_LONGEST_S = 1.0
# Callers remembered.
_MOST = 1000

_MARK = "@"

_Key = tuple[str, str, bytes]


@dataclass(slots=True)
class _Refusal:
    """What is said to one caller at one door."""

    model: str
    scope: Scope
    """Of the request that the application refused."""
    head: bytes
    """The headers that are its own."""
    body: tuple[bytes, bytes]
    """Before and after the request's id."""
    until: float
    passes: int = 0
    """Requests that may ask the application."""


class LoadShedder:
    """Remembers who was refused. `security_headers` are those of every answer."""

    def __init__(
        self,
        observer: RequestObserver,
        security_headers: Sequence[tuple[bytes, bytes]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts: Counter[str] = Counter()
        """Requests refused early, by model; read by monitoring."""
        self._clock = clock
        self._observer = observer
        self._security_headers = security_headers
        # In the order in which they were allowed to pass.
        self._refusals: dict[_Key, _Refusal] = {}

    @property
    def is_active(self) -> bool:
        """Whether anybody is to be refused."""
        return bool(self._refusals)

    def remember(self, scope: Scope, error: QueueFullError) -> None:
        """The application refused a request.

        Nothing is remembered of those that browsers send, whose answers have headers of their
        own, and of an error that says nothing of the caller's next request.
        """
        key = _find_key(scope)
        if error.full is None or key is None or len(self._refusals) >= _MOST:
            return
        told = ErrorResponse(detail=error.detail, code=error.code, request_id=_MARK)
        before, after = json.dumps(told.model_dump()).encode().split(_MARK.encode())
        headers = [(k.lower().encode(), v.encode()) for k, v in error.headers.items()]
        headers += [(b"content-type", b"application/json"), *self._security_headers]
        self._refusals[key] = _Refusal(
            model=error.full,
            scope=scope,
            head=b"".join(b"%b: %b\r\n" % pair for pair in headers),
            body=(before, after),
            until=self._clock() + _LONGEST_S,
        )

    def on_batch(self, model: str, batch: int, waiting: int, size: int) -> None:
        """A model has done `batch` inputs, and `waiting` are left in its queue of `size`."""
        if not self._refusals:
            return
        refused = [key for key, refusal in self._refusals.items() if refusal.model == model]
        if waiting <= size // 16:
            for key in refused:
                del self._refusals[key]
            return
        # Where others fill each place at once, those remembered ask for the next batch's: the
        # queue makes room for who has less waiting.
        free = max(batch, size - waiting)
        now = self._clock()
        for place, key in enumerate(refused):
            refusal = self._refusals[key]
            refusal.until = now + _LONGEST_S
            if place < free:
                refusal.passes = max(1, free // len(refused))
                # Where there are more callers than places, others are first the next time.
                self._refusals[key] = self._refusals.pop(key)

    def refuse(self, scope: Scope) -> bytes | None:
        """The answer, after its status line, to one who is refused; None for all others."""
        key = _find_key(scope)
        if key is None:
            return None
        refusal = self._refusals.get(key)
        if refusal is None:
            return None
        if refusal.until < self._clock():
            del self._refusals[key]
            return None
        if refusal.passes:
            refusal.passes -= 1
            return None
        request_id = choose_request_id(scope["headers"])
        self.counts[refusal.model] += 1
        self._observer.observe(refusal.scope, QueueFullError.status, 0.0, request_id=request_id)
        body = request_id.encode().join(refusal.body)
        return b"%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n%b" % (
            refusal.head,
            request_id.encode(),
            len(body),
            body,
        )


def _find_key(scope: Scope) -> _Key | None:
    """Door and credentials of a request that can be refused early; None for others."""
    credentials: bytes | None = None
    length = b"none"
    for name, value in scope["headers"]:
        if name in (b"x-api-key", b"authorization"):
            if credentials is not None:
                return None
            credentials = value.strip()
            if name == b"authorization":
                # Others are no credentials of ours: a proxy's, which all callers share.
                scheme, _, credentials = credentials.partition(b" ")
                if scheme.lower() != b"bearer":
                    return None
                credentials = credentials.strip()
        elif name == b"content-length":
            length = value
        elif name in (b"origin", b"cookie", b"transfer-encoding", b"expect"):
            return None
    # Its length first: Python refuses to read thousands of digits.
    if not length.isdigit() or len(length) > 9 or int(length) > MAX_BODY_BYTES:
        return None
    # A query could be written in any number of ways, each remembered on its own.
    if not credentials or scope["query_string"]:
        return None
    return scope["method"], scope["path"], credentials
