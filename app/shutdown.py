"""How a server process ends: readiness first, then the door, then what is inside."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, cast

import uvicorn
from loguru import logger
from uvicorn.server import HANDLED_SIGNALS

from app.http_protocol import LookoutHttpProtocol

if TYPE_CHECKING:
    from starlette.applications import Starlette

_TICK_S = 0.1
# libuv, and so uvloop, accepts one connection of a listening socket in each turn of its loop. At
# twice the capacity a turn takes 20 ms, and 300 who came at once were answered after 1 to 4 s
# (median); with eight names for the socket, after 0.2 to 0.5 s.
_ACCEPTS_PER_TURN = 8
# A request that was on its way when the door closed arrives within this time. Until then its
# connection stays open, and is closed by the answer.
_LINGER_S = 1.0


class GracefulServer(uvicorn.Server):
    """Ends in order, so that nobody who was accepted is lost.

    1. At the signal `GET /health/ready` answers 503, and each answer closes its connection. All
       else goes on for `SHUTDOWN_DELAY_S`, in which a load balancer learns of it.
    2. It stops listening. Streams close with 1012 and leave their records; connections without a
       request get a moment, since one may be on its way.
    3. uvicorn waits for the requests in progress, `SHUTDOWN_TIMEOUT_S` at most, and the
       lifespan ends the rest.

    Any of `impatient_signals` during this ends the process at once.
    """

    impatient_signals: tuple[int, ...] = HANDLED_SIGNALS

    def __init__(self, config: uvicorn.Config, app: "Starlette") -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end, or end at once."""
        if self.should_exit:
            if sig in self.impatient_signals:
                end_at_once(sig)
            return
        super().handle_exit(sig, frame)
        self._begin_to_end()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, and accept more than one connection in a turn of the event loop."""
        await super().startup(sockets)
        if not self.started or self.should_exit:
            return
        make_protocol: Callable[[], asyncio.Protocol] = partial(
            cast("Callable[..., asyncio.Protocol]", self.config.http_protocol_class),
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        loop = asyncio.get_running_loop()
        listening = [listener for server in self.servers for listener in server.sockets]
        for listener in listening:
            for _ in range(_ACCEPTS_PER_TURN - 1):
                # Another name for the same socket, which the loop takes for one more.
                twin = socket.socket(fileno=os.dup(listener.fileno()))
                self.servers.append(
                    await loop.create_server(
                        make_protocol,
                        sock=twin,
                        ssl=self.config.ssl,
                        backlog=self.config.backlog,
                    )
                )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Run the steps above. Called when the main loop has ended, for whatever reason."""
        self._begin_to_end()
        settings = self._app.state.settings
        await self._serve_for(settings.shutdown_delay_s)
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        await asyncio.gather(
            self._linger(), self._app.state.streams.close_all(settings.shutdown_timeout_s)
        )
        await super().shutdown(sockets)

    def _begin_to_end(self) -> None:
        self._app.state.is_ending = True
        # Connections look for it when they are made.
        self.server_state.is_ending = True  # type: ignore[attr-defined]
        for connection in list(self.server_state.connections):
            if isinstance(connection, LookoutHttpProtocol):
                connection.is_ending = True

    async def _serve_for(self, seconds: float) -> None:
        """Go on as before, heartbeat and Date header included."""
        if seconds:
            logger.info("not ready any more; still serving for {:g} s", seconds)
        for tick in range(round(seconds / _TICK_S)):
            await self.on_tick(tick)
            await asyncio.sleep(_TICK_S)

    async def _linger(self) -> None:
        for _ in range(round(_LINGER_S / _TICK_S)):
            if not self.server_state.connections:
                return
            await asyncio.sleep(_TICK_S)


def end_at_once(sig: int) -> None:
    """End this process without another step, as `sig` does to a process that does not handle it.

    Called by handlers of signals, and so in the middle of anything: it must not log.
    """
    signal.signal(sig, signal.SIG_DFL)
    os.kill(os.getpid(), sig)
