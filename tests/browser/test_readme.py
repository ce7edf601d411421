"""What the README, the API's documentation and the page give to copy, run as it stands."""

import ast
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


@pytest.fixture
def secrets(server: Server, email: str) -> dict[str, str]:
    """What the programs take from their environment, of a new account."""
    with httpx.Client(base_url=server.url) as http:
        http.post("/register", json={"email": email, "password": PASSWORD})
        answer = http.post("/token", data={"username": email, "password": PASSWORD})
        token = answer.json()["access_token"]
        bearer = {"Authorization": f"Bearer {token}"}
        key = http.post("/me/api-keys", json={"name": "test"}, headers=bearer).json()["key"]
    return {"LOOKOUT": server.url, "TOKEN": token, "LOOKOUT_API_KEY": key}


@pytest.mark.parametrize(
    "program", [code_block("python", "websockets"), described("python")], ids=["readme", "docs"]
)
def test_the_stream_in_python_finds_what_is_in_the_photo(
    program: str, secrets: dict[str, str], folder: Path, scene: Scene
) -> None:
    told = run(folder, sys.executable, "-c", program, **secrets)
    assert {found["label"] for found in ast.literal_eval(told)} == scene.labels


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


def snippets(page: Page, call: str) -> dict[str, str]:
    """What the page shows under "Call it from code"."""
    page.goto("/")
    source = f"async () => (await import('/static/js/detect/snippets.js')).{call}"
    found: dict[str, str] = page.evaluate(source)
    return found


def test_the_pages_calls_find_what_is_in_the_picture(
    page: Page, secrets: dict[str, str], folder: Path
) -> None:
    calls = snippets(page, "detectionSnippets('photo.jpg', { threshold: 0.5, labels: ['7'] })")
    assert '"label":"7"' in run(folder, "bash", "-ec", calls["curl"], **secrets)
    assert run(folder, sys.executable, "-c", calls["Python"], **secrets).startswith("7 0.9")
    photo = list((folder / "photo.jpg").read_bytes())
    with page.expect_console_message(lambda message: message.type == "log") as message:
        page.evaluate(
            "async ([bytes, apiKey]) => { const file = new Blob([new Uint8Array(bytes)]);"
            f" {calls['JavaScript']} }}",
            [photo, secrets["LOOKOUT_API_KEY"]],
        )
    assert message.value.text.startswith("7 0.9")


def test_the_pages_calls_classify_a_text_with_every_kind_of_quote(
    page: Page, secrets: dict[str, str], folder: Path
) -> None:
    text = """It's a "Mac", with `$HOME`, \\\\ and\\ncomputer cpu memory ram \u00e9"""
    calls = snippets(page, f"textSnippets({text!r})")
    category = "comp.sys.mac.hardware"
    assert f'"category":"{category}"' in run(folder, "bash", "-ec", calls["curl"], **secrets)
    assert run(folder, sys.executable, "-c", calls["Python"], **secrets) == f"{category}\n"
    with page.expect_console_message(lambda message: message.type == "log") as message:
        page.evaluate(f"async (apiKey) => {{ {calls['JavaScript']} }}", secrets["LOOKOUT_API_KEY"])
    assert message.value.text == category
    # All three sent the very text.
    with httpx.Client(base_url=secrets["LOOKOUT"]) as http:
        kept = http.get("/history", headers={"X-API-Key": secrets["LOOKOUT_API_KEY"]}).json()
    assert len({item["input"]["text"] for item in kept["items"]}) == 1


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
