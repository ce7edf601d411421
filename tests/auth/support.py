"""What the accounts' tests share: the application, people using it, a clock, quick passwords."""

import hashlib
import uuid
from typing import Any, Self

import httpx
from fastapi import FastAPI
from passlib.context import CryptContext

from app.auth.authenticator import Authenticator
from app.auth.dependencies import (
    AdminCaller,
    InferenceCaller,
    declare_security_schemes,
)
from app.auth.endpoints import router
from app.config import Settings
from app.exception_handlers import add_exception_handlers
from app.middlewares import RequestIDMiddleware

PASSWORD = "correct horse battery staple"


def make_settings(database_url: str, **options: Any) -> Settings:
    return Settings(_env_file=None, database_url=database_url, **options)


def make_app(authenticator: Authenticator) -> FastAPI:
    app = FastAPI()
    app.state.settings = authenticator.settings
    app.state.database = authenticator.database
    app.state.authenticator = authenticator
    app.include_router(router)
    app.add_middleware(RequestIDMiddleware)
    add_exception_handlers(app)
    declare_security_schemes(app)

    @app.get("/admin")
    async def admin(caller: AdminCaller) -> str | None:
        return caller.email

    @app.post("/inference")
    async def inference(caller: InferenceCaller) -> dict[str, object]:
        return {"key": caller.key, "email": caller.email, "transport": caller.transport}

    return app


class QuickPasswords:
    """argon2 with the least cost, which counts what is asked of it."""

    def __init__(self, **options: Any) -> None:
        cost = {"argon2__memory_cost": 64, "argon2__time_cost": 1, "argon2__parallelism": 1}
        self._context = CryptContext(schemes=["argon2"], **{**cost, **options})
        self.verified: list[tuple[str, str]] = []

    def hash(self, secret: str) -> str:
        return str(self._context.hash(secret))

    def verify_and_update(self, secret: str, hash: str) -> tuple[bool, str | None]:  # noqa: A002
        self.verified.append((secret, hash))
        ok, replacement = self._context.verify_and_update(secret, hash)
        return bool(ok), replacement


class Clock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.present = 1000.0

    def __call__(self) -> float:
        return self.present


def sha256(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


class Visitor:
    """One person with one browser (its cookies are kept) at the application."""

    def __init__(self, app: FastAPI, *, base_url: str = "http://lookout.test") -> None:
        self.email = f"{uuid.uuid4().hex}@example.com"
        self.password = PASSWORD
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app, client=("203.0.113.7", 1234)),
            base_url=base_url,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.http.aclose()

    async def register(self) -> dict[str, Any]:
        answer = await self.http.post(
            "/register", json={"email": self.email, "password": self.password}
        )
        assert answer.status_code == 201, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def token(self) -> str:
        """A new bearer token."""
        answer = await self.http.post(
            "/token", data={"username": self.email, "password": self.password}
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    async def bearer(self) -> dict[str, str]:
        """The headers of a call with a new bearer token."""
        return {"Authorization": f"Bearer {await self.token()}"}

    async def api_key(self, **body: Any) -> dict[str, Any]:
        """A new API key, as answered."""
        answer = await self.http.post(
            "/me/api-keys", json={"name": "script", **body}, headers=await self.bearer()
        )
        assert answer.status_code == 201, answer.text
        key: dict[str, Any] = answer.json()
        return key

    async def login(self) -> httpx.Response:
        """Sign in by cookie."""
        answer = await self.http.post(
            "/login", data={"email": self.email, "password": self.password}
        )
        assert answer.status_code == 204, answer.text
        return answer

    async def csrf(self) -> dict[str, str]:
        """The header of a call that changes something."""
        answer = await self.http.get("/csrf")
        assert answer.status_code == 200, answer.text
        return {"X-CSRF-Token": answer.json()["csrf_token"]}
