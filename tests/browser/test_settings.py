"""The page on a server that is set up otherwise: open to everybody, closed to new accounts,
keeping no images."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.pages import PASSWORD, expect_boxes, png, sign_in, upload
from tests.browser.scenes import HEIGHT, WIDTH, Scene
from tests.browser.serving import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(
        tmp_path_factory.mktemp("open"),
        ANONYMOUS_INFERENCE="true",
        REGISTRATION_OPEN="false",
        MAX_STREAMS="1",
        KEEP_IMAGES="false",
    )
    server.start()
    yield server
    server.stop()


def test_a_visitor_predicts_without_an_account(page: Page, scene: Scene) -> None:
    page.goto("/")
    page.get_by_role("link", name="try it without an account").click()
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator(".seen li")).to_have_count(len(scene.digits))

    page.goto("/#/upload?threshold=0.5")
    expect(page.get_by_text("They are looked at and not kept.")).to_be_visible()
    upload(page, ("scene.png", "image/png", png(scene.picture)))
    expect_boxes(page, scene.labels)

    page.goto("/#/text")
    page.locator(".example").first.click()
    expect(page.locator(".answer")).to_be_visible()
    # Nothing is kept that could be corrected.
    expect(page.locator(".correction")).to_have_count(0)

    page.goto("/#/history")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_of_a_picture_that_is_not_kept_the_record_has_the_outline(
    page: Page, scene: Scene, server: Server, email: str
) -> None:
    server.run_cli("users", "create-admin", email, "--password-stdin", typed=PASSWORD)
    sign_in(page, email, PASSWORD)
    expect(page.get_by_role("heading", name="What shall we look at?")).to_be_visible()
    page.get_by_role("link", name="Upload").first.click()
    expect(page.get_by_text("the objects found go to your history")).to_contain_text("not kept")
    upload(page, ("scene.png", "image/png", png(scene.picture)))
    expect(page.locator(".box").first).to_be_visible()

    page.get_by_role("link", name="History").click()
    expect(page.get_by_text("Pictures themselves are not kept")).to_be_visible()
    expect(page.locator(".record img")).to_have_count(0)
    page.get_by_role("link", name="scene.png").click()
    expect(page.locator(".box").first).to_be_visible()
    frame = page.locator(".picture-outline").bounding_box()
    assert frame is not None
    assert frame["width"] / frame["height"] == pytest.approx(WIDTH / HEIGHT, rel=0.02)


def test_a_closed_server_offers_no_sign_up(page: Page) -> None:
    page.goto("/")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.get_by_role("link", name="Create an account")).to_have_count(0)


def test_a_stream_waits_until_there_is_room(page: Page) -> None:
    other = page.context.new_page()
    for each in (page, other):
        each.goto("/#/live")
        each.get_by_role("button", name="Start", exact=True).click()
        if each is page:
            expect(page.locator("[data-stream]")).to_have_text("Live")
    expect(other.get_by_text("no room for another stream")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    other.get_by_role("button", name="Try now").click()
    expect(other.locator("[data-figure=fps]")).to_have_text(re.compile("[1-9]"))
