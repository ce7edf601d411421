"""The worker that gunicorn starts: uvicorn, set up as `app.serve` sets it up."""

import asyncio

from gunicorn.arbiter import Arbiter
from uvicorn import Server
from uvicorn_worker import UvicornWorker

from app.config import get_settings
from app.serve import rest_garbage_collector, settle_garbage_collector, uvicorn_options

_HEARTBEAT_S = 5.0


class LookoutWorker(UvicornWorker):  # type: ignore[misc]  # it carries no types
    """Shows signs of life also while its models load, which takes longer than `timeout`."""

    CONFIG_KWARGS = uvicorn_options(get_settings())

    async def _serve(self) -> None:
        rest_garbage_collector()
        self.config.app = self.wsgi
        server = Server(config=self.config)
        self._install_sigquit_handler()
        heartbeat = asyncio.create_task(self._beat_until_started(server))
        await server.serve(sockets=self.sockets)
        heartbeat.cancel()
        if not server.started:
            # Tells gunicorn not to try again: what stops the start once stops it every time.
            raise SystemExit(Arbiter.WORKER_BOOT_ERROR)

    async def _beat_until_started(self, server: Server) -> None:
        # From then on the server's own clock calls `callback_notify`.
        while not server.started:
            self.notify()
            await asyncio.sleep(_HEARTBEAT_S)
        settle_garbage_collector()
