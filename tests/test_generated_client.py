"""The typed client that the README's command makes of the running service's document."""

import asyncio
import os
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from tests.databases import temporary_database
from tests.support.gunicorn import Gunicorn, running_gunicorn
from tests.support.readme import code_block
from tests.support.service import ROOT

# Signs up, gets a token, and calls every door that has a body of its own kind.
_PROGRAM = """
import os

from lookout_client import AuthenticatedClient, Client
from lookout_client.api.accounts import create_token, register
from lookout_client.api.history import list_history
from lookout_client.api.object_detection import detect
from lookout_client.api.predictions import predict
from lookout_client.models import (
    BearerToken,
    BodyDetect,
    DetectionResponse,
    ErrorResponse,
    HistoryPage,
    PasswordForm,
    PredictionRequest,
    PredictionResponse,
    RegisterRequest,
    UserRead,
)
from lookout_client.types import File

EMAIL, PASSWORD = "grace@example.com", "correct horse battery staple"
stranger = Client(os.environ["LOOKOUT"])
account = RegisterRequest(EMAIL, PASSWORD)
assert isinstance(register.sync(client=stranger, body=account), UserRead)
again = register.sync(client=stranger, body=account)
assert isinstance(again, ErrorResponse) and again.detail == "Email already exists"
issued = create_token.sync(client=stranger, body=PasswordForm(EMAIL, PASSWORD))
assert isinstance(issued, BearerToken)
client = AuthenticatedClient(os.environ["LOOKOUT"], token=issued.access_token)

text = predict.sync(client=client, body=PredictionRequest("computer cpu memory ram"))
assert isinstance(text, PredictionResponse) and text.category == "comp.sys.mac.hardware"
with open("photo.jpg", "rb") as photo:
    found = detect.sync(client=client, body=BodyDetect(File(photo, "photo.jpg")))
assert isinstance(found, DetectionResponse) and found.image.width == 320
page = list_history.sync(client=client)
assert isinstance(page, HistoryPage)
assert [item.id for item in page.items] == [found.id, text.id]
print(issued.access_token)
"""


@pytest.fixture
async def server(detection_model: Path, tmp_path: Path) -> AsyncIterator[Gunicorn]:
    async with (
        temporary_database("sqlite") as url,
        running_gunicorn(url, detection_model, tmp_path, workers=1) as server,
    ):
        yield server


async def run(folder: Path, *command: str, **variables: str) -> str:
    """What the command printed; its failure is the test's."""
    environment = {**os.environ, "PYTHONPATH": "lookout-client", **variables}
    # The generator tidies up with ruff.
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"

    def call() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)

    done = await asyncio.to_thread(call)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def generation() -> tuple[str, list[str]]:
    """The generator's version and arguments, as the README's command has them."""
    words = shlex.split(code_block("sh", "openapi-python-client"))
    assert words[:2] == ["pipx", "run"]
    tool, version = words[2].split("==")
    assert tool == "openapi-python-client"
    return version, words[3:]


def test_the_command_names_the_version_that_is_tested() -> None:
    pinned = re.search(
        r"^openapi-python-client==(.+)$",
        (ROOT / "requirements-dev.txt").read_text(),
        re.MULTILINE,
    )
    assert pinned is not None
    assert generation()[0] == pinned[1]


async def test_the_client_is_typed_and_calls_the_service(server: Gunicorn, tmp_path: Path) -> None:
    arguments = [word.replace("$LOOKOUT", server.url) for word in generation()[1]]
    await run(tmp_path, "openapi-python-client", *arguments)
    Image.new("RGB", (320, 240), "white").save(tmp_path / "photo.jpg")
    (tmp_path / "program.py").write_text(_PROGRAM)
    (tmp_path / "readme.py").write_text(code_block("python", "lookout_client"))

    files = ["lookout-client/lookout_client", "program.py", "readme.py"]
    await run(tmp_path, sys.executable, "-m", "mypy", "--strict", *files)
    token = await run(tmp_path, sys.executable, "program.py", LOOKOUT=server.url)
    told = await run(tmp_path, sys.executable, "readme.py", LOOKOUT=server.url, TOKEN=token.strip())
    assert "ImageItem" in told
    assert "TextItem" in told
