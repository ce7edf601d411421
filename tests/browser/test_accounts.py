"""Signing up, in and out; password, sessions, API keys; deleting the account."""

import re

import httpx
from playwright.sync_api import Page, expect

from tests.browser.pages import PASSWORD, Complaints, sign_in, sign_up
from tests.browser.serving import Server


def test_a_visitor_signs_up_out_and_in_again(page: Page, email: str) -> None:
    page.goto("/")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_role("heading", name="Live detection")).to_be_visible()

    page.get_by_role("link", name=f"Account of {email}").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="See what your models see.")).to_be_visible()

    sign_in(page, email, PASSWORD)
    expect(page.get_by_role("heading", name="What shall we look at?")).to_be_visible()


def test_a_refusal_is_told_in_the_servers_words_with_the_request_id(
    page: Page, email: str, complaints: Complaints
) -> None:
    complaints.expect("401", "400")
    sign_in(page, email, PASSWORD)
    expect(page.get_by_role("alert").locator("code")).to_have_text(re.compile(r"^[0-9a-f]{16}$"))

    sign_up(page, email, PASSWORD)
    page.get_by_role("link", name=f"Account of {email}").click()
    page.get_by_role("button", name="Sign out").click()
    # Signing out ends on the start page; going elsewhere before would be overtaken by that.
    expect(page.get_by_role("heading", name="See what your models see.")).to_be_visible()
    page.goto("/#/signup")
    expect(page.get_by_role("heading", name="Create an account", level=1)).to_be_visible()
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_role("alert")).to_contain_text("Email already exists")


def test_an_invalid_email_is_told_beside_its_field(page: Page, complaints: Complaints) -> None:
    complaints.expect("422")
    page.goto("/#/signup")
    # The browser finds this valid, the server does not.
    page.get_by_label("Email").fill("ada@localhost")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_label("Email")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Email")).to_be_focused()


def test_a_view_asks_a_visitor_to_sign_in_and_then_opens(
    member: Page, email: str, page: Page
) -> None:
    member.get_by_role("link", name=f"Account of {email}").click()
    member.get_by_role("button", name="Sign out").click()
    expect(member.get_by_role("heading", name="See what your models see.")).to_be_visible()
    page.goto("/#/history")
    expect(page.get_by_role("heading", name="History")).to_be_visible()
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Nothing yet")).to_be_visible()


def test_the_password_is_changed(member: Page, email: str, complaints: Complaints) -> None:
    complaints.expect("400", "403")
    member.goto("/#/account")
    member.get_by_label("Current password", exact=True).fill("not the password")
    member.get_by_label("New password", exact=True).fill("a longer horse staple")
    member.get_by_role("button", name="Change password").click()
    expect(member.get_by_label("Current password", exact=True)).to_have_attribute(
        "aria-invalid", "true"
    )
    member.get_by_label("Current password", exact=True).fill(PASSWORD)
    member.get_by_role("button", name="Change password").click()
    expect(member.get_by_text("Password changed.")).to_be_visible()

    member.get_by_role("button", name="Sign out").click()
    expect(member.get_by_role("heading", name="See what your models see.")).to_be_visible()
    sign_in(member, email, "a longer horse staple")
    expect(member.get_by_role("heading", name="What shall we look at?")).to_be_visible()


def test_an_api_key_is_shown_once_works_and_is_revoked(member: Page, server: Server) -> None:
    member.goto("/#/account")
    member.get_by_role("button", name="New API key").click()
    member.get_by_label("Name").fill("Label printer")
    member.get_by_role("button", name="Make the key").click()
    dialog = member.get_by_role("dialog")
    key = dialog.locator("pre").inner_text()
    headers = {"X-API-Key": key}
    assert httpx.get(f"{server.url}/me", headers=headers).status_code == 200

    member.get_by_role("button", name="I have kept it").click()
    expect(dialog).to_have_count(0)
    expect(member.get_by_text(key)).to_have_count(0)
    member.get_by_role("button", name="Revoke Label printer").click()
    expect(member.get_by_text("Label printer")).to_have_count(0)
    assert httpx.get(f"{server.url}/me", headers=headers).status_code == 401


def test_a_session_that_was_ended_elsewhere_asks_to_sign_in(
    member: Page, email: str, server: Server, complaints: Complaints
) -> None:
    complaints.expect("401")
    with httpx.Client(base_url=server.url) as client:
        form = {"username": email, "password": PASSWORD}
        token = client.post("/token", data=form).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        for each in client.get("/me/tokens").json():
            if each["kind"] == "session":
                assert client.delete(f"/me/tokens/{each['id']}").status_code == 204
    member.reload()
    expect(member.get_by_role("link", name="Sign in").first).to_be_visible()


def test_the_account_is_deleted_with_the_password(
    member: Page, email: str, server: Server, complaints: Complaints
) -> None:
    complaints.expect("400", "403")
    member.goto("/#/account")
    member.get_by_role("button", name="Delete my account").click()
    password = member.get_by_label("Your password, to be sure that it is you", exact=True)
    password.fill("not the password")
    member.get_by_role("button", name="Delete it all").click()
    expect(password).to_have_attribute("aria-invalid", "true")
    password.fill(PASSWORD)
    member.get_by_role("button", name="Delete it all").click()
    expect(member.get_by_role("heading", name="See what your models see.")).to_be_visible()
    form = {"username": email, "password": PASSWORD}
    assert httpx.post(f"{server.url}/token", data=form).status_code == 401
