"""Every view in both themes and at both widths: accessible, and nothing sticks out."""

import re
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.pages import PASSWORD, expect_boxes, png, sign_up, upload
from tests.browser.scenes import Scene

AXE = (Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js").read_text()
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
DESK = {"viewport": {"width": 1280, "height": 860}}


def check(page: Page, where: str) -> None:
    """No violation of WCAG 2.2 AA that axe-core finds, and no sideways scrolling."""
    # What has been scrolled half under the header counts as a target that is too small.
    page.evaluate("scrollTo(0, 0)")
    page.evaluate(f"{AXE};0")
    report = page.evaluate(
        "(rules) => axe.run(document, { runOnly: rules, resultTypes: ['violations'] })", RULES
    )
    found = [
        f"{where}: {violation['help']}: {node['html'][:200]}"
        for violation in report["violations"]
        for node in violation["nodes"]
    ]
    assert found == []
    assert len(report["passes"]) > 10
    check_width(page, where)


def check_width(page: Page, where: str) -> None:
    width, room = page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert width <= room, f"{where} is {width - room} pixels too wide"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", [DESK, PHONE], ids=["desk", "phone"])
def test_every_view_is_accessible_and_fits(
    new_context: Callable[..., BrowserContext],
    device: dict[str, object],
    scheme: str,
    email: str,
    scene: Scene,
) -> None:
    page = new_context(**device, color_scheme=scheme, reduced_motion="reduce").new_page()
    page.goto("/")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    check(page, "front")
    sign_up(page, email, PASSWORD)
    check(page, "home")

    page.goto("/#/text")
    page.locator(".example").first.click()
    expect(page.locator(".answer")).to_be_visible()
    check(page, "text")

    page.goto("/#/upload?threshold=0.5")
    check(page, "upload, empty")
    upload(page, ("scene.png", "image/png", png(scene.picture)))
    expect_boxes(page, scene.labels)
    page.get_by_text("Call it from code").click()
    check(page, "upload")

    page.goto("/#/live?threshold=0.5")
    check(page, "live, idle")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("[data-figure=fps]")).to_have_text(re.compile("[1-9]"))
    check(page, "live")
    page.get_by_role("button", name="All labels").click()
    check(page, "live, labels")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Write digits by hand").click()
    page.get_by_role("button", name="Write for me").click()
    expect(page.locator(".seen .swatch").first).to_be_visible()
    check(page, "live, drawing")
    page.get_by_role("button", name="Stop").click()

    page.goto("/#/history")
    expect(page.locator(".record")).to_have_count(4)
    expect(page.locator(".chart").first).to_be_visible()
    check(page, "history")
    for name in ("scene.png", "Stream of", "PowerBook"):
        page.goto("/#/history")
        page.locator(".record a").filter(has_text=name).first.click()
        expect(page.get_by_text("As JSON")).to_be_visible()
        check(page, f"record of {name}")

    page.goto("/#/models")
    expect(page.locator(".model")).to_have_count(2)
    check(page, "models")

    page.goto("/#/account")
    expect(page.locator(".token")).to_have_count(1)
    check(page, "account")
    page.get_by_role("button", name="New API key").click()
    check(page, "new key")
    # A question does not outlive its view.
    page.goto("/#/")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator(".lately li")).to_have_count(4)
    check(page, "home, lately")


# 320 is what 1280 is at a zoom of 400 % (WCAG 2.2, 1.4.10).
@pytest.mark.parametrize("width", [320, 768, 1024, 1920])
def test_nothing_sticks_out_at_any_width(
    new_context: Callable[..., BrowserContext], width: int
) -> None:
    page = new_context(viewport={"width": width, "height": 800}).new_page()
    sign_up(page, f"an-address-as-long-as-some-are-{uuid.uuid4().hex}@example.com", PASSWORD)
    for path in ("", "live", "upload", "text", "history", "models", "account"):
        page.goto(f"/#/{path}")
        # Else the view before may still be on show.
        page.reload()
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.locator(".skeleton")).to_have_count(0)
        check_width(page, f"{path} at {width}")


def test_the_theme_is_chosen_and_remembered(page: Page) -> None:
    page.emulate_media(color_scheme="light")
    page.goto("/")
    body = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(body)
    page.get_by_role("button", name="Theme: system").click()
    page.get_by_role("button", name="Theme: light").click()
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    dark = page.evaluate(body)
    assert dark != light
    page.reload()
    assert page.evaluate(body) == dark


def test_the_page_is_used_with_the_keyboard_alone(page: Page) -> None:
    page.goto("/")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.get_by_role("link", name="History").focus()
    page.keyboard.press("Enter")
    # A screen reader starts at the new view's heading.
    expect(page.get_by_role("heading", name="History")).to_be_focused()


def test_an_unknown_address_says_so(page: Page) -> None:
    page.goto("/#/nowhere")
    expect(page.get_by_role("heading", name="No such page")).to_be_visible()


def test_the_page_needs_no_other_host(page: Page) -> None:
    hosts = set[str]()
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.goto("/")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert len(hosts) == 1
