"""The real application with its real models, and people who use it."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from asgi_lifespan import LifespanManager
from fastapi import FastAPI
from httpx_ws import AsyncWebSocketSession, WebSocketDisconnect, aconnect_ws
from httpx_ws.transport import ASGIWebSocketTransport

from app.auth.models import User
from app.auth.service import Accounts
from app.config import Settings
from app.database import new_id
from app.main import create_app
from tests.support.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
BASE_URL = "http://lookout.test"
START_PATIENCE_S = 180.0


@asynccontextmanager
async def running_app(
    database_url: str, detection_model: Path, **options: Any
) -> AsyncIterator[FastAPI]:
    """The application on a migrated database, started, and stopped at the end."""
    values: dict[str, Any] = {
        "database_url": database_url,
        "models_dir": ROOT / "models",
        "detection_model": str(detection_model),
        # The test runs on the same cores.
        "cpu_threads": 1,
    }
    settings = Settings(_env_file=None, **values | options)
    app = create_app(settings)
    async with LifespanManager(app, startup_timeout=START_PATIENCE_S, shutdown_timeout=PATIENCE_S):
        yield app


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an account, an API key, and an HTTP client that calls with it."""

    user_id: uuid.UUID
    key: str
    key_id: uuid.UUID
    http: httpx.AsyncClient

    async def history(self) -> list[dict[str, Any]]:
        """What is kept of them, newest first."""
        answer = await self.http.get("/history", params={"limit": 100})
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items


def http_client(app: FastAPI, **options: Any) -> httpx.AsyncClient:
    """A client of `app` without an identity."""
    transport = httpx.ASGITransport(app=app, client=("203.0.113.9", 4711))
    return httpx.AsyncClient(transport=transport, base_url=BASE_URL, **options)


@asynccontextmanager
async def new_person(app: FastAPI, *, is_admin: bool = False) -> AsyncIterator[Person]:
    """Open an account of its own, without the price of a password's hash."""
    async with app.state.database.sessions() as session, session.begin():
        user = User(email=f"{new_id()}@example.com", password_hash="none", is_admin=is_admin)
        session.add(user)
    issued = await Accounts(app.state.authenticator).create_api_key(user.id, "test", None)
    async with http_client(app, headers={"X-API-Key": issued.token}) as client:
        yield Person(user.id, issued.token, issued.row.id, client)


class Stream:
    """A client of the WebSocket."""

    def __init__(self, session: AsyncWebSocketSession) -> None:
        self.session = session

    async def send(self, frame: bytes) -> None:
        """Send one encoded image."""
        await self.session.send_bytes(frame)

    async def change(self, **settings: Any) -> None:
        """Send a message that changes the settings."""
        await self.session.send_text(json.dumps(settings))

    async def answer(self) -> dict[str, Any]:
        """The next answer."""
        message: dict[str, Any] = json.loads(await self.session.receive_text(PATIENCE_S))
        return message

    async def vanish(self) -> None:
        """Be gone without a word, as when the network breaks."""
        stream: Any = self.session.stream
        # What servers tell the application then (RFC 6455, 7.4.1).
        await stream.send({"type": "websocket.disconnect", "code": 1006})

    async def closing(self) -> WebSocketDisconnect:
        """How the server closes the stream; answers that come before are passed over."""
        try:
            while True:
                await self.session.receive(PATIENCE_S)
        except WebSocketDisconnect as end:
            return end


@asynccontextmanager
async def open_stream(
    app: FastAPI, *, query: str = "", headers: dict[str, str] | None = None
) -> AsyncIterator[Stream]:
    """Connect to the detector's WebSocket; closed normally at the end, if it is open then."""
    transport = ASGIWebSocketTransport(
        app=app, client=("203.0.113.9", 4711), initial_receive_timeout=PATIENCE_S
    )
    async with (
        httpx.AsyncClient(transport=transport, base_url=BASE_URL, headers=headers) as client,
        aconnect_ws(  # type: ignore[var-annotated]
            f"{BASE_URL}/object-detection{query}",
            client,
            max_message_size_bytes=2**26,
            # The transport knows no control frames.
            keepalive_ping_interval_seconds=None,
        ) as session,
    ):
        yield Stream(session)


async def post_and_leave(
    app: FastAPI, path: str, body: object, key: str, leaves: asyncio.Event
) -> int:
    """Send a request whose caller disconnects when `leaves` is set; the status of its answer."""
    content = json.dumps(body).encode()
    messages = [{"type": "http.request", "body": content, "more_body": False}]
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await leaves.wait()
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = {"content-type": "application/json", "x-api-key": key}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("203.0.113.9", 4711),
        "server": ("lookout.test", 80),
    }
    await app(scope, receive, send)
    return statuses[0]
