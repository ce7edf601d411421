"""What the OpenAPI document promises, held against a real server by schemathesis."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from openapi_spec_validator import OpenAPIV31SpecValidator
from sqlalchemy import update

from app.auth.models import User
from app.database import Database
from tests.databases import temporary_database
from tests.support.gunicorn import Gunicorn, running_gunicorn
from tests.support.service import BASE_URL

_CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
# Not the one of the examples, with which schemathesis would delete the account.
_PASSWORD = "a password that nobody generates"
_ADMINISTRATION = r"^/admin/"
# They revoke what the other calls are made with, so they have a run and a key of their own.
_REVOKING = r"^/logout$|^/me/tokens/\{token_id\}$"


@pytest.fixture(scope="module")
async def database_url() -> AsyncIterator[str]:
    async with temporary_database("sqlite") as url:
        yield url


@pytest.fixture(scope="module")
async def server(
    database_url: str, detection_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gunicorn]:
    folder = tmp_path_factory.mktemp("contract")
    async with (
        # Guessing at passwords is what schemathesis does for a living.
        running_gunicorn(
            database_url,
            detection_model,
            folder,
            workers=1,
            SIGN_IN_ATTEMPTS="1000000",
            SIGN_IN_ATTEMPTS_PER_ADDRESS="1000000",
            REGISTRATIONS_PER_MINUTE="1000000",
        ) as server,
    ):
        yield server


async def make_key(server: Gunicorn, email: str) -> str:
    async with httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.post("/register", json={"email": email, "password": _PASSWORD})
        assert answer.status_code == 201, answer.text
        answer = await http.post("/token", data={"username": email, "password": _PASSWORD})
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        answer = await http.post("/me/api-keys", json={"name": "contract"}, headers=headers)
        return str(answer.json()["key"])


async def run_schemathesis(server: Gunicorn, key: str, folder: Path, *options: str) -> str:
    """Run it with all its checks; its report, when it found nothing."""
    program = Path(sys.executable).with_name("st")
    command: list[str | Path] = [program, "--config-file", _CONFIGURATION, "run"]
    command += [f"{server.url}/openapi.json", "--checks", "all", "--continue-on-failure"]
    command += ["-H", f"X-API-Key: {key}"]
    # The same requests in each run, so that a change that breaks one is the one to blame.
    command += ["--seed", "1", "--no-shrink", *options]

    def run_it() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, capture_output=True, text=True, cwd=folder)

    run = await asyncio.to_thread(run_it)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


async def test_every_operation_keeps_its_promises(server: Gunicorn, tmp_path: Path) -> None:
    key = await make_key(server, "ada@lookout-contract.org")
    report = await run_schemathesis(
        server,
        key,
        tmp_path,
        *("--exclude-path-regex", _REVOKING, "--max-examples", "10"),
    )
    assert "Tested: " in report
    # The key still works: what was tested was not the refusal of strangers.
    async with httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": key}) as http:
        assert (await http.get("/me")).status_code == 200


async def test_revoking_keeps_its_promises(server: Gunicorn, tmp_path: Path) -> None:
    await run_schemathesis(
        server,
        await make_key(server, "bob@lookout-contract.org"),
        tmp_path,
        *("--include-path-regex", _REVOKING, "--max-examples", "10"),
    )


async def test_administration_keeps_its_promises(
    server: Gunicorn, database_url: str, tmp_path: Path
) -> None:
    email = "eve@lookout-contract.org"
    key = await make_key(server, email)
    database = Database(database_url)
    async with database.engine.begin() as connection:
        await connection.execute(update(User).where(User.email == email).values(is_admin=True))
    await database.close()
    async with httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": key}) as http:
        # What is tested is not the refusal of other people.
        assert (await http.get("/admin/users")).status_code == 200
        report = await run_schemathesis(
            server, key, tmp_path, *("--include-path-regex", _ADMINISTRATION, "-n", "10")
        )
        assert "Tested: 3" in report
        assert (await http.get("/admin/users")).status_code == 200


@pytest.fixture
async def document(app: FastAPI) -> dict[str, Any]:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as http:
        document: dict[str, Any] = (await http.get("/openapi.json")).json()
        return document


async def test_the_document_is_valid(document: dict[str, Any]) -> None:
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


async def test_every_operation_can_be_read_without_the_code(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation.get("summary"), (method, path)
            assert operation.get("tags"), (method, path)
            for status, response in operation["responses"].items():
                assert response.get("description"), (method, path, status)
                if status.startswith(("4", "5")) and status != "422":
                    schema = response["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/ErrorResponse"}
