"""One server process on this machine: `python -m app.serve`. Production uses gunicorn."""

import gc
import socket
from functools import partial
from typing import Any

import uvicorn
from loguru import logger
from pydantic import ValidationError

from app.config import Settings, get_settings
from app.connections import ConnectionLimits, LimitedProtocol, allow_files
from app.http_protocol import StartQueue
from app.shutdown import GracefulServer


class Server(GracefulServer):
    """Says where the pages are, once they can be opened."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and not self.should_exit:
            settle_garbage_collector()
            address = f"http://{self.config.host}:{self.config.port}"
            logger.info("the page is at {}/ and the API's at {}/docs", address, address)


def rest_garbage_collector() -> None:
    """Let the start make its million objects without looking through them again and again.

    Imports and models leave next to nothing to collect, and the looking takes a fifth of the
    start's processor time.
    """
    gc.disable()


def settle_garbage_collector() -> None:
    """Collect garbage from now on, but not among what the start made, and less often.

    The libraries' objects live as long as the process. A collection of all takes half a second,
    in which nobody is answered, and all of them took a third of the time of distinct predictions.
    """
    gc.freeze()
    # What requests leave in cycles is little: the default of 700 collects every other request.
    gc.set_threshold(10_000, 10, 10)
    gc.enable()


def uvicorn_options(settings: Settings) -> dict[str, Any]:
    """What is the same in every way of serving."""
    limits = ConnectionLimits(
        settings.max_connections, settings.max_connections_per_address, settings.trusted_proxies
    )
    return {
        "loop": "uvloop",
        "http": partial(LimitedProtocol, limits=limits, starts=StartQueue()),
        # Loguru has the one configuration of all loggers, and we write the access log.
        "log_config": None,
        "access_log": False,
        # JPEG does not compress any further; trying costs more than the frame's decoding.
        "ws_per_message_deflate": False,
        # Over it the protocol itself closes with 1009, before the frame is in memory.
        "ws_max_size": settings.max_image_bytes + 1,
        # Longer than proxies and clients keep theirs (nginx: 60 s). A request on a connection that
        # is just being closed is lost: 18 of 1,720 were at twice the capacity, with uvicorn's 5 s.
        "timeout_keep_alive": 75,
        "timeout_graceful_shutdown": round(settings.shutdown_timeout_s),
        "server_header": False,
        # uvicorn would trust this machine unasked, and so every local process.
        "proxy_headers": bool(settings.trusted_proxies),
        "forwarded_allow_ips": settings.trusted_proxies,
    }


def main() -> None:
    """Serve until a signal; the process's status is uvicorn's."""
    try:
        settings = get_settings()
    except ValidationError as error:
        raise SystemExit(f"The settings are wrong: {error}") from None
    rest_garbage_collector()
    # Not above: gunicorn's arbiter imports this module, and has no use for models and metrics.
    from app.main import create_app

    allow_files(settings.max_connections)
    app = create_app(settings)
    config = uvicorn.Config(
        app, host=settings.host, port=settings.port, **uvicorn_options(settings)
    )
    server = Server(config, app)
    server.run()
    if not server.started:
        raise SystemExit(3)


if __name__ == "__main__":
    main()
