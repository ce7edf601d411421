"""The accounts as an administrator sees them: search, disable, make administrator, delete."""

import re
import uuid
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.browser.pages import PASSWORD, Complaints, sign_in
from tests.browser.serving import Server
from tests.browser.test_look import DESK, PHONE, check


@pytest.fixture
def people(server: Server) -> list[str]:
    """Three people's emails, the newest first, with a part that nobody else's has."""
    mark = uuid.uuid4().hex[:12]
    emails = [f"{name}.{mark}@example.com" for name in ("carol", "bob", "alice")]
    for email in reversed(emails):
        body = {"email": email, "password": PASSWORD}
        httpx.post(f"{server.url}/register", json=body).raise_for_status()
    return emails


@pytest.fixture
def administrator(server: Server, email: str) -> str:
    """The email of one, whose password is that of all."""
    server.run_cli("users", "create-admin", email, "--password-stdin", typed=PASSWORD)
    return email


def open_users(page: Page, administrator: str, words: str) -> Page:
    """The accounts that `words` find, reached the way that people go."""
    sign_in(page, administrator, PASSWORD)
    page.get_by_role("link", name=f"Account of {administrator}").click()
    page.get_by_role("link", name="Users").click()
    expect(page.get_by_role("heading", name="Users")).to_be_focused()
    page.get_by_label("Search").fill(words)
    return page


def row(page: Page, email: str) -> Locator:
    return page.get_by_role("row").filter(has_text=email)


def ways_in(server: Server, email: str) -> int:
    form = {"username": email, "password": PASSWORD}
    return httpx.post(f"{server.url}/token", data=form).status_code


def test_accounts_are_listed_and_found(
    page: Page, administrator: str, people: list[str], server: Server
) -> None:
    mark = people[0].split(".")[1]
    form = {"username": people[1], "password": PASSWORD}
    token = httpx.post(f"{server.url}/token", data=form).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    answer = httpx.post(f"{server.url}/prediction", json={"text": "computer"}, headers=headers)
    answer.raise_for_status()

    open_users(page, administrator, mark.upper())
    expect(page.locator(".user-email")).to_have_text(people)
    expect(row(page, people[1]).get_by_role("cell").nth(2)).to_have_text("1")
    page.reload()
    expect(page.get_by_label("Search")).to_have_value(mark.upper())
    expect(page.locator(".user-email")).to_have_text(people)
    page.get_by_label("Search").fill("100% nobody")
    expect(page.get_by_role("heading", name="Nobody matches")).to_be_visible()
    page.get_by_label("Search").fill(administrator)
    expect(row(page, administrator)).to_contain_text("You")
    expect(row(page, administrator).get_by_role("button")).to_have_count(0)


def test_an_account_is_disabled_and_enabled_with_the_keyboard(
    page: Page, administrator: str, people: list[str], server: Server
) -> None:
    open_users(page, administrator, people[0])
    expect(page.locator(".user")).to_have_count(1)
    page.get_by_role("button", name=f"Disable: {people[0]}").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("nobody can sign in to it")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert ways_in(server, people[0]) == 200

    page.keyboard.press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Disable").press("Enter")
    expect(row(page, people[0])).to_contain_text("Disabled")
    # The focus is where it was, on what takes it back.
    enable = page.get_by_role("button", name=f"Enable: {people[0]}")
    expect(enable).to_be_focused()
    assert ways_in(server, people[0]) == 403
    page.keyboard.press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Enable").press("Enter")
    expect(row(page, people[0])).to_contain_text("Active")
    assert ways_in(server, people[0]) == 200


def test_rights_are_granted_and_withdrawn(
    page: Page, administrator: str, people: list[str]
) -> None:
    open_users(page, administrator, people[0])
    expect(page.locator(".user")).to_have_count(1)
    page.get_by_role("button", name="Make admin").click()
    page.get_by_role("dialog").get_by_role("button", name="Make administrator").click()
    expect(row(page, people[0])).to_contain_text("Administrator")
    page.get_by_role("button", name="Withdraw rights").click()
    page.get_by_role("dialog").get_by_role("button", name="Withdraw").click()
    expect(row(page, people[0])).not_to_contain_text("Administrator")


def test_an_account_is_deleted_after_a_question(
    page: Page, administrator: str, people: list[str], server: Server
) -> None:
    open_users(page, administrator, people[0].split(".")[1])
    expect(page.locator(".user")).to_have_count(3)
    page.get_by_role("button", name=f"Delete: {people[1]}").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.locator(".user")).to_have_count(3)
    page.get_by_role("button", name=f"Delete: {people[1]}").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete it all").click()
    expect(page.locator(".user-email")).to_have_text([people[0], people[2]])
    expect(row(page, people[2]).get_by_role("button").first).to_be_focused()
    expect(page.get_by_text("Account deleted.")).to_be_visible()
    assert ways_in(server, people[1]) == 401


def test_a_refusal_is_told_in_the_dialog(
    page: Page, administrator: str, people: list[str], server: Server, complaints: Complaints
) -> None:
    complaints.expect("404")
    open_users(page, administrator, people[0])
    expect(page.locator(".user")).to_have_count(1)
    page.get_by_role("button", name=f"Delete: {people[0]}").click()
    form = {"username": people[0], "password": PASSWORD}
    with httpx.Client(base_url=server.url) as client:
        token = client.post("/token", data=form).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        body = {"current_password": PASSWORD}
        assert client.request("DELETE", "/me", json=body, headers=headers).status_code == 204
    page.get_by_role("dialog").get_by_role("button", name="Delete it all").click()
    expect(page.get_by_role("alert")).to_contain_text("There is no such account.")


def test_other_people_are_told_that_it_is_not_for_them(member: Page) -> None:
    member.goto("/#/account")
    expect(member.get_by_role("heading", name="Account")).to_be_visible()
    expect(member.get_by_role("link", name="Users")).to_have_count(0)
    member.goto("/#/users")
    expect(member.get_by_role("heading", name="For administrators")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", [DESK, PHONE], ids=["desk", "phone"])
def test_it_is_accessible_and_fits(
    new_context: Callable[..., BrowserContext],
    device: dict[str, object],
    scheme: str,
    administrator: str,
    people: list[str],
) -> None:
    page = new_context(**device, color_scheme=scheme, reduced_motion="reduce").new_page()
    open_users(page, administrator, "example.com")
    expect(row(page, people[0])).to_be_visible()
    check(page, "users")
    page.get_by_role("button", name=re.compile("^Delete: carol")).first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    check(page, "users, a question")
