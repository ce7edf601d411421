"""uvicorn's HTTP protocol, with bounds on a request's head, and answers that leave in one piece."""

import asyncio
import select
from collections import deque
from typing import Any, Protocol

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.presence import ConnectionPresence
from app.scope_keys import PRESENCE, SHEDDER

MAX_HEAD_BYTES = 64 * 1024
HEAD_TIMEOUT_S = 30.0
STARTS_PER_TURN = 128
LAST_LOOK_S = 0.05
"""What a connection whose time is over gets, once and again while something lies there unread: a
busy loop may come to its timers long after it last read."""

_SERVICE_UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\n"
_TOO_LARGE = b"431 Request Header Fields Too Large", b"The head of the request is too large."
_TOO_SLOW = b"408 Request Timeout", b"The head of the request did not arrive in time."


class Shedder(Protocol):
    """Knows who is to be refused at once: `app.shedding.LoadShedder`."""

    @property
    def is_active(self) -> bool:
        """Whether anybody is."""

    def refuse(self, scope: Any, /) -> bytes | None:
        """The answer to a request, after its status line, if its caller is to be refused."""


class StartQueue:
    """Starts the requests of all connections, so many in a turn of the event loop.

    The loop reads what all clients have sent before it runs anything. Were all of it started at
    once, a thousand requests would be on their way before the first learns that there is no room.
    """

    def __init__(self) -> None:
        self._started = 0
        """In this turn."""
        self._waiting: deque[tuple[LookoutHttpProtocol, RequestResponseCycle, ASGI3Application]] = (
            deque()
        )

    def add(
        self, protocol: "LookoutHttpProtocol", cycle: RequestResponseCycle, app: ASGI3Application
    ) -> None:
        """Refuse a request at once, or start it in this turn, or in one of the next."""
        if protocol.shed(cycle):
            return
        if self._started == STARTS_PER_TURN:
            self._waiting.append((protocol, cycle, app))
            return
        if not self._started:
            protocol.loop.call_soon(self._next_turn, protocol.loop)
        self._started += 1
        protocol.start_cycle(cycle, app)

    def _next_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._started = 0
        try:
            while self._waiting and self._started < STARTS_PER_TURN:
                protocol, cycle, app = self._waiting.popleft()
                # By now others may have been refused.
                if not protocol.shed(cycle):
                    self._started += 1
                    protocol.start_cycle(cycle, app)
        finally:
            # Also when one of them raises: the others still wait.
            if self._started or self._waiting:
                loop.call_soon(self._next_turn, loop)


class WholeAnswerTransport:
    """Holds the head of an answer back until its body begins, so that both leave together.

    uvicorn writes them one after the other, and each write is a call of the kernel that wakes the
    client: a quarter of a small answer's processor time. ASGI asks servers to wait for the body
    (https://asgi.readthedocs.io/en/latest/specs/www.html#response-start-send-event).
    """

    __slots__ = ("_held", "raw")

    def __init__(self, raw: asyncio.Transport) -> None:
        self.raw = raw
        self._held = b""

    def write(self, data: bytes) -> None:
        """Send `data` after what is held back, or hold it back if it is the head of an answer."""
        if self._held:
            data = self._held + data
            self._held = b""
        # 100 Continue is an answer of its own, which the client waits for.
        elif data.startswith(b"HTTP/1.1 ") and data.endswith(b"\r\n\r\n") and data[9:10] != b"1":
            self._held = data
            return
        self.raw.write(data)

    def flush(self) -> None:
        """Send what is held back: an answer may end without a body."""
        if self._held:
            held, self._held = self._held, b""
            if not self.raw.is_closing():
                self.raw.write(held)

    def close(self) -> None:
        """Close the connection when all has been sent."""
        self.flush()
        self.raw.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


class LookoutHttpProtocol(HttpToolsProtocol):
    """Closes a connection whose request line and headers grow too large, or do not arrive in time.

    A head that arrives in one piece may be larger by as much as one read, which is bounded too.
    """

    head_timeout_s = HEAD_TIMEOUT_S
    is_ending = False
    """Whether the process ends: each answer then closes its connection."""

    def __init__(self, *args: Any, starts: StartQueue | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._starts = starts or StartQueue()
        self._head_bytes = 0
        self._head_began: float | None = None
        """On the loop's clock; None while no head is awaited."""
        self._head_timer: asyncio.TimerHandle | None = None
        self._is_overdue = False
        self._answers: WholeAnswerTransport
        self._presence = ConnectionPresence()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.is_ending = getattr(self.server_state, "is_ending", False)
        self._answers = WholeAnswerTransport(transport)
        super().connection_made(self._answers)  # type: ignore[arg-type]  # all that it is asked for
        # Also for who connects and says nothing.
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_began = None
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().connection_lost(exc)
        self._presence.leave()

    def data_received(self, data: bytes) -> None:
        self._is_overdue = False
        super().data_received(data)
        if self._head_began is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(*_TOO_LARGE)
        elif self.cycle is None or self.cycle.response_complete:
            # A blank line, or more of a body that was answered before its end.
            self._await_anything()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        # Armed by the answer to a request before it in the same read.
        self._unset_keepalive_if_required()
        self.scope["state"][PRESENCE] = self._presence
        if self._head_began is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        self._head_began = None
        super().on_headers_complete()
        if self.is_ending and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if self.parser.should_upgrade() and self._should_upgrade():
            return
        # Answered before its body was there: what waits now is the connection.
        if self.cycle is not None and self.cycle.response_complete and not self.pipeline:
            self._head_began = None
            self._await_anything()

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            # A WebSocket has it now: its handshake came behind a request that was still answered.
            return
        if not self._gets_another_look():
            super().timeout_keep_alive_handler()
        else:
            self.timeout_keep_alive_task = self.loop.call_later(
                LAST_LOOK_S, self.timeout_keep_alive_handler
            )

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._starts.add(self, cycle, app)

    def start_cycle(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Hand a request to the application."""
        super()._start_asgi_task(cycle, app)

    def shed(self, cycle: RequestResponseCycle) -> bool:
        """Answer a request whose caller is to be refused; whether that was so."""
        shedder: Shedder | None = self.app_state.get(SHEDDER)
        if shedder is None or not shedder.is_active:
            return False
        if not cycle.keep_alive or self.is_ending or cycle.disconnected:
            return False
        # Who does not read its answers waits for them as the application has it wait; and who has
        # sent many requests at once has one after the other begun, not each from within the last.
        if self.flow.write_paused or self.pipeline:
            return False
        answer = shedder.refuse(cycle.scope)
        if answer is None:
            return False
        date = b"".join(b"%b: %b\r\n" % pair for pair in cycle.default_headers)
        cycle.transport.write(_SERVICE_UNAVAILABLE + date + answer)
        cycle.response_started = cycle.response_complete = True
        self.on_response_complete()
        if cycle.more_body and not self.transport.is_closing():
            # It is read and thrown away, and must end in time as a head must.
            self._await_head()
        return True

    def on_response_complete(self) -> None:
        self._answers.flush()
        super().on_response_complete()

    def handle_websocket_upgrade(self) -> None:
        # Its handshake looks like the head of an answer, and no body follows.
        self.transport = self._answers.raw
        self._unset_keepalive_if_required()
        super().handle_websocket_upgrade()

    def _gets_another_look(self) -> bool:
        """Whether what is awaited may have come in time, and not been read yet."""
        was_overdue, self._is_overdue = self._is_overdue, True
        return not was_overdue or self._has_unread()

    def _has_unread(self) -> bool:
        """Whether the system holds something of the client's that the loop has not read."""
        socket = self.transport.get_extra_info("socket")
        if socket is None or self.transport.is_closing():
            return False
        poller = select.poll()
        poller.register(socket.fileno(), select.POLLIN)
        return bool(poller.poll(0))

    def _await_anything(self) -> None:
        if self.timeout_keep_alive_task is not None or self.transport.is_closing():
            return
        # Not where a WebSocket has it now.
        if self.transport.get_protocol() is self:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_began = self.loop.time()
        # One timer serves all requests of a connection: most heads arrive at once, and to start
        # and stop one for each would cost more than reading it.
        if self._head_timer is None:
            self._start_timer(self.head_timeout_s)

    def _start_timer(self, seconds: float) -> None:
        self._head_timer = self.loop.call_later(seconds, self._on_timer)

    def _on_timer(self) -> None:
        self._head_timer = None
        if self._head_began is None:
            return
        remaining_s = self._head_began + self.head_timeout_s - self.loop.time()
        if remaining_s > 0:
            self._start_timer(remaining_s)
        elif not self._head_bytes and self._gets_another_look():
            self._start_timer(LAST_LOOK_S)
        else:
            self._refuse(*_TOO_SLOW)

    def _refuse(self, status: bytes, message: bytes) -> None:
        self._head_began = None
        if self.transport.is_closing():
            return
        answer_in_progress = self.cycle is not None and not self.cycle.response_complete
        if self._head_bytes and not answer_in_progress:
            self.transport.write(
                b"HTTP/1.1 %b\r\ncontent-type: text/plain; charset=utf-8\r\n"
                b"content-length: %d\r\nconnection: close\r\n\r\n%b"
                % (status, len(message), message)
            )
        self.transport.close()
