"""A real nginx with our configuration, in front of two workers."""

import asyncio
import json
import os
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.databases import temporary_database
from tests.support.gunicorn import Gunicorn, free_port, running_gunicorn
from tests.support.pictures import jpeg
from tests.support.service import ROOT
from tests.support.waiting import PATIENCE_S, until

FORM_LIMIT = 16448 * 1024


@dataclass(frozen=True, slots=True)
class Site:
    """The service as the outside sees it."""

    gunicorn: Gunicorn
    http_port: int
    https_port: int
    tls: ssl.SSLContext
    logs: Path
    token: str

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=f"https://localhost:{self.https_port}",
            verify=self.tls,
            timeout=PATIENCE_S,
            headers={"Authorization": f"Bearer {self.token}"},
        )

    def stream(self, token: str) -> connect:
        url = f"wss://localhost:{self.https_port}/object-detection?token={token}"
        return connect(url, ssl=self.tls)

    @property
    def written(self) -> str:
        """All that nginx has logged."""
        return "".join(file.read_text() for file in self.logs.iterdir())


def make_certificate(folder: Path) -> ssl.SSLContext:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", "key.pem", "-out", "cert.pem"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return ssl.create_default_context(cafile=str(folder / "cert.pem"))


def write_configuration(folder: Path, service_port: int, http_port: int, https_port: int) -> Path:
    """Our file with the paths and ports of this test: everything else as it is deployed."""
    text = (ROOT / "deploy" / "nginx" / "lookout.conf").read_text()
    certificates = "/etc/letsencrypt/live/lookout.example.com"
    for old, new in {
        f"{certificates}/fullchain.pem": str(folder / "cert.pem"),
        f"{certificates}/privkey.pem": str(folder / "key.pem"),
        "/var/log/nginx/": f"{folder}/logs/",
        "listen 80;": f"listen 127.0.0.1:{http_port};",
        "listen 443 ssl http2;": f"listen 127.0.0.1:{https_port} ssl http2;",
        "listen [::]:80;": "",
        "listen [::]:443 ssl http2;": "",
        "server 127.0.0.1:8000;": f"server 127.0.0.1:{service_port};",
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "logs").mkdir()
    configuration = folder / "nginx.conf"
    # As root, nginx's workers are somebody else, who may not see a test's folder.
    user = "user root;\n" if os.getuid() == 0 else ""
    configuration.write_text(
        f"{user}daemon off;\npid {folder}/pid;\nerror_log {folder}/logs/error.log;\nevents {{}}\n"
        f"http {{\n{temporary}{text}\n}}\n"
    )
    return configuration


@contextmanager
def running_nginx(configuration: Path) -> Iterator[None]:
    process = subprocess.Popen(["nginx", "-c", configuration], stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


async def sign_up(client: httpx.AsyncClient) -> str:
    account = {"email": "ada@example.com", "password": "a long enough password"}
    assert (await client.post("/register", json=account)).status_code == 201
    form = {"username": account["email"], "password": account["password"]}
    token: str = (await client.post("/token", data=form)).json()["access_token"]
    return token


@pytest.fixture(scope="module")
async def site(
    detection_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    if shutil.which("nginx") is None or shutil.which("openssl") is None:
        pytest.skip("nginx or openssl is not installed (Debian's packages of these names)")
    folder = tmp_path_factory.mktemp("nginx")
    tls = make_certificate(folder)
    http_port, https_port = free_port(), free_port()
    async with (
        temporary_database("sqlite") as url,
        running_gunicorn(
            url,
            detection_model,
            folder,
            workers=2,
            ENVIRONMENT="production",
            ACCESS_LOG="true",
            TRUSTED_PROXIES="127.0.0.1",
        ) as gunicorn,
    ):
        configuration = write_configuration(folder, gunicorn.port, http_port, https_port)
        with running_nginx(configuration):
            async with httpx.AsyncClient(verify=tls, timeout=PATIENCE_S) as client:
                client.base_url = httpx.URL(f"https://localhost:{https_port}")
                await asyncio.to_thread(_wait_for, folder / "pid")
                token = await sign_up(client)
            yield Site(gunicorn, http_port, https_port, tls, folder / "logs", token)


def _wait_for(file: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < deadline, "nginx did not start"
        time.sleep(0.02)


async def closing(connection: ClientConnection) -> int | None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                await connection.recv()
    except ConnectionClosed as end:
        return end.rcvd.code if end.rcvd else None


async def test_requests_pass_over_tls_and_answers_keep_their_headers(site: Site) -> None:
    async with site.client() as client:
        answer = await client.post("/prediction", json={"text": "computer cpu memory"})
        assert answer.status_code == 200
        assert answer.http_version in ("HTTP/1.1", "HTTP/2")
        assert "max-age" in answer.headers["strict-transport-security"]
        assert answer.headers["x-request-id"]
        assert "inference;dur=" in answer.headers["server-timing"]


async def test_plain_http_is_sent_to_tls(site: Site) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://localhost:{site.http_port}/docs?x=1")
    assert answer.status_code == 301
    assert answer.headers["location"] == "https://localhost/docs?x=1"


async def test_the_client_has_its_own_address_and_cannot_choose_another(site: Site) -> None:
    # Another address of this machine than the one nginx calls from.
    transport = httpx.AsyncHTTPTransport(verify=site.tls, local_address="127.0.0.2")
    async with httpx.AsyncClient(transport=transport, timeout=PATIENCE_S) as client:
        await client.get(
            f"https://localhost:{site.https_port}/me/tokens",
            headers={
                "Authorization": f"Bearer {site.token}",
                "X-Forwarded-For": "203.0.113.66",
                "X-Request-ID": "spoof",
            },
        )
    await until(lambda: "spoof" in site.gunicorn.log)
    (line,) = [json.loads(it) for it in site.gunicorn.log.splitlines() if "spoof" in it]
    assert line["client"] == "127.0.0.2"
    assert line["user_id"]


async def test_an_address_has_so_many_requests_at_once(site: Site) -> None:
    head = b"POST /prediction HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
    address = "127.0.0.3"
    writers: list[asyncio.StreamWriter] = []
    try:
        for _ in range(100):
            _, writer = await asyncio.open_connection(
                "localhost", site.https_port, ssl=site.tls, local_addr=(address, 0)
            )
            writers.append(writer)
            writer.write(head)
            await writer.drain()
        transport = httpx.AsyncHTTPTransport(verify=site.tls, local_address=address)
        url = f"https://localhost:{site.https_port}/health/live"
        async with httpx.AsyncClient(transport=transport, timeout=PATIENCE_S) as client:
            async with asyncio.timeout(PATIENCE_S):
                # Until nginx has read the last of the heads above.
                while (answer := await client.get(url)).status_code == 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        assert answer.status_code == 429
        assert answer.json()["code"] == "too_many_connections"
        assert answer.headers["retry-after"] == "1"
        async with site.client() as client:
            assert (await client.get("/health/live")).status_code == 200
    finally:
        for writer in writers:
            writer.transport.abort()


async def test_a_body_over_the_limit_gets_an_error_and_one_just_below_reaches_us(
    site: Site,
) -> None:
    async with site.client() as client:
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        over = await client.post(
            "/object-detection", content=bytes(FORM_LIMIT + 1), headers=headers
        )
        assert over.status_code == 413
        assert over.json()["code"] == "payload_too_large"
        below = await client.post("/object-detection", content=bytes(FORM_LIMIT), headers=headers)
        assert below.status_code in (400, 422), below.text


async def test_a_stream_is_upgraded_and_answered(site: Site) -> None:
    async with site.stream(site.token) as connection:
        for number in (1, 2, 3):
            await connection.send(jpeg())
            async with asyncio.timeout(PATIENCE_S):
                assert json.loads(await connection.recv())["frame"] == number


async def test_close_codes_pass(site: Site) -> None:
    async with site.stream("lko_nobody") as connection:
        assert await closing(connection) == 1008
    async with site.stream(site.token) as connection:
        await connection.send("no settings")
        assert await closing(connection) == 1003


async def test_the_metrics_are_not_for_the_outside(site: Site) -> None:
    async with site.client() as client:
        assert (await client.get("/metrics")).status_code == 404
    assert (await site.gunicorn.get("/metrics")).status_code == 200


async def test_no_token_is_in_any_log(site: Site) -> None:
    async with site.stream(site.token) as connection:
        await connection.send(jpeg())
        await connection.recv()
    await until(lambda: '"GET /object-detection" 101' in site.written)
    for log in (site.written, site.gunicorn.log):
        assert site.token not in log
        assert "a long enough password" not in log


# The last one: it ends the workers that the others use.
async def test_a_reload_closes_streams_with_1012(site: Site) -> None:
    async with site.stream(site.token) as connection:
        await connection.send(jpeg())
        await connection.recv()
        os.kill(site.gunicorn.process.pid, signal.SIGHUP)
        assert await closing(connection) == 1012
