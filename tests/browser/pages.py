"""What the tests do on the page again and again."""

import csv
import io
import json
import time
from typing import Any

from PIL import Image
from playwright.sync_api import (
    ConsoleMessage,
    Download,
    Error,
    FilePayload,
    Page,
    WebSocket,
    expect,
)

PASSWORD = "correct horse battery staple"
# The server, and the model on a machine of two cores, may take their time.
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)


class Complaints:
    """Errors and warnings in the consoles of pages, and exceptions that nobody caught."""

    def __init__(self) -> None:
        self._heard: list[str] = []
        self._expected: list[str] = []

    def listen_to(self, page: Page) -> None:
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", self._hear_console)
        page.on("pageerror", self._hear_error)

    def expect(self, *parts: str) -> None:
        """Complaints with one of these in them are what the test brings about."""
        self._expected.extend(parts)

    def unexpected(self) -> list[str]:
        return [words for words in self._heard if not any(part in words for part in self._expected)]

    def _hear_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._heard.append(message.text)

    def _hear_error(self, error: Error) -> None:
        self._heard.append(f"{error.message}\n{error.stack}")


class Answers:
    """The messages of a page's detection streams, as the server sent them."""

    def __init__(self, page: Page) -> None:
        self.messages: list[dict[str, Any]] = []
        page.on("websocket", self._listen_to)

    def wait_for_more_than(self, number: int, page: Page) -> None:
        """Return when that many messages have come and another."""
        give_up_at = time.monotonic() + PATIENCE_MS / 1000
        while len(self.messages) <= number:
            assert time.monotonic() < give_up_at, "no more answers came"
            # Playwright hands messages over while it waits for the page.
            page.wait_for_timeout(20)

    def _listen_to(self, socket: WebSocket) -> None:
        socket.on("framereceived", lambda payload: self.messages.append(json.loads(payload)))


def sign_up(page: Page, email: str, password: str) -> None:
    """Make an account on the page; the person is signed in then."""
    page.goto("/#/signup")
    # Another view's form may still be on show.
    expect(page.get_by_role("heading", name="Create an account", level=1)).to_be_visible()
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_role("link", name=f"Account of {email}")).to_be_visible()


def sign_in(page: Page, email: str, password: str) -> None:
    page.goto("/#/signin")
    expect(page.get_by_role("heading", name="Sign in", level=1)).to_be_visible()
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("main").get_by_role("button", name="Sign in").click()


def upload(page: Page, *files: tuple[str, str, bytes]) -> None:
    """Choose files (name, type, content) in the upload view."""
    payloads: list[FilePayload] = [
        {"name": name, "mimeType": kind, "buffer": content} for name, kind, content in files
    ]
    page.get_by_label("Pictures", exact=True).set_input_files(payloads)


def expect_boxes(page: Page, labels: set[str]) -> None:
    """Wait until there is a box of each label over the picture, and of no other."""
    for label in labels:
        expect(page.locator(f".box[data-label='{label}']").first).to_be_visible()
    others = ".box" + "".join(f":not([data-label='{label}'])" for label in labels)
    expect(page.locator(others)).to_have_count(0)


def find_boxes(
    page: Page, *, scale_to: float
) -> list[tuple[str | None, tuple[float, float, float, float]]]:
    """The boxes over the picture by label, as if the picture had a width of `scale_to` pixels."""
    picture = page.locator("[data-picture]").bounding_box()
    assert picture is not None
    scale = scale_to / picture["width"]
    found = []
    for box in page.locator(".box").all():
        place = box.bounding_box()
        assert place is not None
        left, top = (place["x"] - picture["x"]) * scale, (place["y"] - picture["y"]) * scale
        right, bottom = left + place["width"] * scale, top + place["height"] * scale
        found.append((box.get_attribute("data-label"), (left, top, right, bottom)))
    return found


def read_csv(download: Download) -> list[dict[str, str]]:
    """The rows of a downloaded CSV by its line of names."""
    with download.path().open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
