"""The API's documentation page, without internet and under the strict Content-Security-Policy."""

import json

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.pages import PASSWORD
from tests.browser.serving import Server
from tests.browser.test_look import AXE, RULES


def authorize(page: Page, email: str) -> None:
    page.get_by_role("button", name="Authorize").first.click()
    page.locator("#oauth_username").fill(email)
    page.locator("#oauth_password").fill(PASSWORD)
    page.locator(".auth-container").filter(has=page.locator("#oauth_username")).get_by_role(
        "button", name="Apply credentials"
    ).or_(page.locator(".auth-btn-wrapper .authorize").first).first.click()


def test_operations_are_listed_from_local_files_alone(page: Page) -> None:
    hosts = set[str]()
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.goto("/docs")
    expect(page.get_by_role("link", name="/prediction", exact=True)).to_be_visible()
    assert len(hosts) == 1


def test_a_call_is_tried_out_with_the_session_of_the_page(member: Page) -> None:
    member.goto("/docs")
    member.get_by_role("link", name="/prediction", exact=True).click()
    member.get_by_role("button", name="Execute").click()
    answer = member.locator(".live-responses-table .microlight").first
    expect(answer).to_contain_text("comp.sys.mac.hardware")
    assert json.loads(answer.inner_text())["category"] == "comp.sys.mac.hardware"


def test_a_call_is_tried_out_with_a_token_from_the_authorize_button(
    member: Page, email: str
) -> None:
    member.context.clear_cookies()
    member.goto("/docs")
    authorize(member, email)
    expect(member.get_by_role("button", name="Remove authorization")).to_be_visible()
    member.get_by_role("button", name="Close").first.click()
    member.get_by_role("link", name="/me", exact=True).first.click()
    member.locator(".opblock.is-open").get_by_role("button", name="Execute").click()
    expect(member.locator(".live-responses-table .microlight").first).to_contain_text(email)


@pytest.fixture
def secrets(server: Server, email: str) -> dict[str, str]:
    """An API key and a session of a new account."""
    with httpx.Client(base_url=server.url) as http:
        account = {"email": email, "password": PASSWORD}
        http.post("/register", json=account)
        token = http.post("/token", data={"username": email, "password": PASSWORD}).json()
        bearer = {"Authorization": f"Bearer {token['access_token']}"}
        key = http.post("/me/api-keys", json={"name": "docs"}, headers=bearer).json()["key"]
        session = http.post("/login", data=account).cookies["lookout_session"]
    return {"APIKeyHeader": key, "APIKeyCookie": session}


@pytest.mark.parametrize("scheme", ["APIKeyHeader", "APIKeyCookie"])
def test_a_key_and_a_session_are_taken_by_the_authorize_button(
    page: Page, secrets: dict[str, str], email: str, scheme: str
) -> None:
    page.goto("/docs")
    page.get_by_role("button", name="Authorize").first.click()
    way = page.locator(".auth-container").filter(has=page.get_by_role("heading", name=scheme))
    way.get_by_role("textbox").fill(secrets[scheme])
    way.get_by_role("button", name="Apply").click()
    page.get_by_role("button", name="Close").first.click()

    page.get_by_role("link", name="/me", exact=True).first.click()
    page.locator(".opblock.is-open").get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table .microlight").first).to_contain_text(email)
    # What changes something needs more than the cookie.
    page.get_by_role("link", name="/prediction", exact=True).click()
    page.locator("#operations-Predictions-predict").get_by_role("button", name="Execute").click()
    expect(
        page.locator("#operations-Predictions-predict .live-responses-table .microlight").first
    ).to_contain_text("comp.sys.mac.hardware")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible_but_for_what_swagger_ui_nests(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto("/docs")
    page.get_by_text("clients to copy").click()
    page.get_by_role("link", name="/prediction", exact=True).click()
    expect(page.get_by_role("button", name="Execute")).to_be_visible()
    # The headings of operations are buttons with links in them, which only Swagger UI can change.
    assert violations(page) == set()
    page.get_by_role("button", name="Authorize").first.click()
    expect(page.get_by_role("heading", name="Available authorizations")).to_be_visible()
    assert violations(page) == set()


def violations(page: Page) -> set[str]:
    """Which criteria of WCAG 2.2 AA axe-core finds broken."""
    page.evaluate(f"{AXE};0")
    report = page.evaluate(
        "(rules) => axe.run(document, { runOnly: rules, resultTypes: ['violations'] })",
        [rule for rule in RULES if rule.startswith("wcag")],
    )
    return {
        f"{violation['id']}: {node['html'][:150]} {node['failureSummary']}"
        for violation in report["violations"]
        for node in violation["nodes"]
        if violation["id"] != "nested-interactive"
    }
