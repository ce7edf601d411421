"""The live view on a server that takes only small frames."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.scenes import Scene
from tests.browser.serving import Server

# More than the scene has in 320 pixels, less than in the 640 that the page begins with.
LIMIT = 6_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("small"), MAX_IMAGE_BYTES=str(LIMIT))
    server.start()
    yield server
    server.stop()


def test_frames_that_are_too_large_become_smaller(member: Page, scene: Scene) -> None:
    member.goto("/#/live?threshold=0.5")
    member.get_by_role("button", name="Start", exact=True).click()
    expect(member.get_by_text("A frame was larger than the server accepts.")).to_be_visible()
    expect(member.locator(".seen li")).to_have_count(len(scene.digits))
    expect(member.locator("[data-figure=fps]")).to_have_text(re.compile("[1-9]"))
