"""A server, a Chromium whose camera shows digits, and pages that may not fail quietly."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, sync_playwright

from tests.browser.pages import PASSWORD, Complaints, sign_up
from tests.browser.scenes import Scene, make_scene, write_film
from tests.browser.serving import Server

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
WINDOW: ViewportSize = {"width": 1280, "height": 860}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def scene() -> Scene:
    return make_scene((3, 7, 0), ((40, 40), (420, 30), (230, 270)))


@pytest.fixture(scope="session")
def browser(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    film = tmp_path_factory.mktemp("camera") / "scene.y4m"
    write_film(scene.picture, film)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-video-capture={film}",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def complaints() -> Iterator[Complaints]:
    """What consoles said; a test fails over what it did not expect."""
    complaints = Complaints()
    yield complaints
    assert complaints.unexpected() == []


@pytest.fixture
def new_context(
    browser: Browser, server: Server, complaints: Complaints
) -> Iterator[Callable[..., BrowserContext]]:
    """Makes browser contexts (a person's browser: cookies, window, theme)."""
    contexts: list[BrowserContext] = []

    def make(**options: object) -> BrowserContext:
        choices = {"viewport": WINDOW, "base_url": server.url, "permissions": ["camera"]} | options
        context = browser.new_context(**choices)  # type: ignore[arg-type]
        context.on("page", complaints.listen_to)
        contexts.append(context)
        return context

    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def page(new_context: Callable[..., BrowserContext]) -> Page:
    """A page of somebody who has not signed in."""
    return new_context().new_page()


@pytest.fixture
def email() -> str:
    return f"{uuid.uuid4().hex[:12]}@example.com"


@pytest.fixture
def member(page: Page, email: str) -> Page:
    """A page of somebody who has just signed up."""
    sign_up(page, email, PASSWORD)
    return page
