"""What the README and the API's documentation give to copy, run as it stands."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page

from app.openapi_text import DESCRIPTION
from tests.browser.pages import PASSWORD
from tests.browser.scenes import Scene
from tests.browser.serving import Server
from tests.support.readme import code_block


def described(language: str) -> str:
    """The program in this language in the API's description."""
    [program] = re.findall(rf"```{language}\n(.*?)```", DESCRIPTION, re.DOTALL)
    return str(program)


@pytest.fixture
def folder(tmp_path: Path, scene: Scene) -> Path:
    """Where the programs run: with a photo."""
    scene.picture.save(tmp_path / "photo.jpg", quality=95)
    return tmp_path


def run(folder: Path, *command: str, **variables: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env=os.environ | variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_commands_of_the_first_steps_work_one_after_the_other(
    server: Server, folder: Path
) -> None:
    steps = [
        code_block("sh", "/register").replace("http://127.0.0.1:8000", server.url),
        code_block("sh", "/prediction"),
        code_block("sh", "boxes.png"),
    ]
    told = run(folder, "bash", "-ec", "\n".join(steps))
    assert '"category":"comp.sys.mac.hardware"' in told
    assert '"label":"7"' in told
    assert (folder / "boxes.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "program", [code_block("python", "websockets"), described("python")], ids=["readme", "docs"]
)
def test_the_stream_in_python_finds_what_is_in_the_photo(
    program: str, server: Server, folder: Path, email: str, scene: Scene
) -> None:
    with httpx.Client(base_url=server.url) as http:
        http.post("/register", json={"email": email, "password": PASSWORD})
        answer = http.post("/token", data={"username": email, "password": PASSWORD})
        token = answer.json()["access_token"]
        bearer = {"Authorization": f"Bearer {token}"}
        key = http.post("/me/api-keys", json={"name": "test"}, headers=bearer).json()["key"]
    told = run(
        folder,
        *(sys.executable, "-c", program),
        LOOKOUT=server.url,
        TOKEN=token,
        LOOKOUT_API_KEY=key,
    )
    assert {found["label"] for found in eval(told)} == scene.labels


@pytest.mark.parametrize(
    "program", [code_block("js", "getUserMedia"), described("js")], ids=["readme", "docs"]
)
def test_the_stream_in_a_browser_finds_what_the_camera_shows(
    program: str, member: Page, scene: Scene
) -> None:
    with member.expect_console_message(lambda message: "Object" in message.text) as message:
        member.evaluate(f"async () => {{ {program} }}")
    found = message.value.args[0].json_value()
    assert {each["label"] for each in found} == scene.labels


def test_what_the_documentation_gives_to_copy_is_copied(
    new_context: Callable[..., BrowserContext],
) -> None:
    page = new_context(permissions=["clipboard-read", "clipboard-write"]).new_page()
    page.goto("/docs")
    page.get_by_text("clients to copy").click()
    block = page.locator(".info pre").filter(has_text="getUserMedia")
    block.get_by_role("button", name="Copy").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.strip() == described("js").strip()
