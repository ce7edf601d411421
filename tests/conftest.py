"""The application on both databases, one each for the whole run, and people of each test's own."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from tests.databases import temporary_database
from tests.support.checkpoints import write_checkpoint
from tests.support.service import ROOT, Person, http_client, new_person, running_app

DIGITS = ROOT / "models" / "yolos-digits"


@pytest.fixture(scope="session")
def detection_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint that ships; a random one of the same kind where it has not been trained."""
    if (DIGITS / "model.safetensors").is_file():
        return DIGITS
    folder = tmp_path_factory.mktemp("detector") / "small"
    write_checkpoint(folder)
    return folder


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
async def live_app(request: pytest.FixtureRequest, detection_model: Path) -> AsyncIterator[FastAPI]:
    """The application with its models. Shared: use `app`, which forgets a test's overrides."""
    async with (
        temporary_database(request.param) as url,
        running_app(url, detection_model, max_image_bytes=2**20, max_image_pixels=4_000_000) as app,
    ):
        yield app


@pytest.fixture
def app(live_app: FastAPI) -> FastAPI:
    """The application, in which a test may override dependencies."""
    live_app.dependency_overrides.clear()
    return live_app


@pytest.fixture
async def person(app: FastAPI) -> AsyncIterator[Person]:
    async with new_person(app) as person:
        yield person


@pytest.fixture
async def admin(app: FastAPI) -> AsyncIterator[Person]:
    async with new_person(app, is_admin=True) as person:
        yield person


@pytest.fixture
async def visitor(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of somebody without an account."""
    async with http_client(app) as client:
        yield client
