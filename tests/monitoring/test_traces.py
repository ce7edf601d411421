"""With `OPENTELEMETRY=true` the service sends traces to whom OpenTelemetry's variables name."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.databases import temporary_database
from tests.support.servers import running_servers
from tests.support.waiting import until

Received = list[tuple[str, bytes]]


@contextmanager
def collector() -> Iterator[tuple[str, Received]]:
    """A server that takes what an OpenTelemetry collector takes, and keeps it: path and body."""
    received: Received = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Nothing to standard error."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", received
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("is_on", [True, False])
async def test_traces_are_sent_when_asked_for_and_carry_no_secrets(
    detection_model: Path, tmp_path: Path, is_on: bool
) -> None:
    with collector() as (url, received):
        async with (
            temporary_database("sqlite") as database_url,
            running_servers(
                1,
                tmp_path,
                DATABASE_URL=database_url,
                DETECTION_MODEL=str(detection_model),
                OPENTELEMETRY=str(is_on),
                FASTAPI_OTEL_AUTO_CONFIGURE="true",
                OTEL_EXPORTER_OTLP_ENDPOINT=url,
                OTEL_EXPORTER_OTLP_COMPRESSION="none",
                OTEL_SERVICE_NAME="lookout-traced",
                OTEL_BSP_SCHEDULE_DELAY="100",
            ) as (server,),
            server.client() as client,
        ):
            account = {"email": "ada@example.com", "password": "a password to be kept"}
            await client.post("/register", json=account)
            form = {"username": account["email"], "password": account["password"]}
            token = (await client.post("/token", data=form)).json()["access_token"]
            client.headers["Authorization"] = f"Bearer {token}"
            answer = await client.post("/prediction", json={"text": "a text that is mine"})
            assert answer.status_code == 200

            def traced() -> bytes:
                return b"".join(body for path, body in received if path == "/v1/traces")

            if is_on:
                await until(lambda: b"/prediction" in traced())
                assert b"lookout-traced" in traced()
            else:
                await asyncio.sleep(0.5)
                assert received == []
        everything = b"".join(body for _, body in received)
    for secret in (token, account["password"], "a text that is mine"):
        assert secret.encode() not in everything
