"""The limit on all requests of one address, in one process and through Redis in two."""

from pathlib import Path

import httpx
from httpx_ws import WebSocketDisconnect

from tests.databases import temporary_database
from tests.support.redis_server import redis_server
from tests.support.service import BASE_URL, open_stream, running_app

LIMIT = 4


def client_at(app: object, address: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, client=(address, 4711))  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url=BASE_URL)


async def test_every_request_and_stream_of_an_address_counts(detection_model: Path) -> None:
    async with (
        temporary_database("sqlite") as url,
        running_app(url, detection_model, requests_per_minute_per_address=LIMIT) as app,
        client_at(app, "203.0.113.9") as client,
        client_at(app, "2001:db8::1") as other,
        client_at(app, "2001:db8::2") as neighbour,
    ):
        for path in ("/me", "/nothing", "/register", "/docs"):
            assert (await client.get(path)).status_code != 429
        answer = await client.post("/register", json={"email": "a@example.com", "password": "b"})
        assert answer.status_code == 429
        assert answer.json()["code"] == "too_many_requests"
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["x-content-type-options"] == "nosniff"
        async with open_stream(app) as stream:
            closed = await stream.closing()
            assert isinstance(closed, WebSocketDisconnect)
            assert closed.code == 1013
        # Probes and Prometheus are answered at all times.
        for path in ("/health/live", "/health/ready", "/metrics"):
            for _ in range(LIMIT + 1):
                assert (await client.get(path)).status_code == 200
        # Who has one IPv6 address has the whole network.
        for one in (other, neighbour, other, neighbour):
            assert (await one.get("/me")).status_code == 401
        assert (await other.get("/me")).status_code == 429


async def test_processes_count_together_in_redis_and_alone_without(
    detection_model: Path,
) -> None:
    address = "203.0.113.9"
    with redis_server() as redis:
        async with temporary_database("sqlite") as url:
            options = {"requests_per_minute_per_address": LIMIT, "redis_url": redis.url}
            async with (
                running_app(url, detection_model, **options) as one,
                running_app(url, detection_model, **options) as two,
                client_at(one, address) as first,
                client_at(two, address) as second,
            ):
                for client in (first, second, first, second):
                    assert (await client.get("/me")).status_code == 401
                assert (await first.get("/me")).status_code == 429
                assert (await second.get("/me")).status_code == 429
                redis.kill()
                for client in (first, second):
                    for _ in range(LIMIT):
                        assert (await client.get("/me")).status_code == 401
                    assert (await client.get("/me")).status_code == 429
