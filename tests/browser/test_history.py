"""The history: list, filter, details, delete with undo, export."""

import re
from collections.abc import Iterator

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.browser.pages import (
    PASSWORD,
    Complaints,
    expect_boxes,
    find_boxes,
    png,
    read_csv,
)
from tests.browser.scenes import HEIGHT, WIDTH, Scene, overlap
from tests.browser.serving import Server
from tests.browser.test_look import check

TEXTS = 35


@pytest.fixture
def client(member: Page, email: str, server: Server) -> Iterator[httpx.Client]:
    """A program of the member's, who has 35 texts in the history."""
    expect(member.get_by_role("link", name=f"Account of {email}")).to_be_visible()
    with httpx.Client(base_url=server.url, timeout=60) as client:
        form = {"username": email, "password": PASSWORD}
        token = client.post("/token", data=form).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        texts = [f"encryption with key number {number}" for number in range(TEXTS)]
        client.post("/predictions/batch", json={"texts": texts}).raise_for_status()
        yield client


@pytest.fixture
def history(member: Page, client: httpx.Client, scene: Scene) -> Page:
    """The history of 35 texts and a picture, which is the newest."""
    files = {"image": ("scene.png", png(scene.picture), "image/png")}
    client.post("/object-detection?threshold=0.5", files=files).raise_for_status()
    member.goto("/#/history")
    expect(records(member).first).to_contain_text("scene.png")
    return member


def records(page: Page) -> Locator:
    return page.locator(".record:visible")


def test_all_records_are_loaded_as_one_scrolls(history: Page) -> None:
    history.mouse.move(600, 600)
    history.mouse.wheel(0, 100_000)
    expect(records(history)).to_have_count(TEXTS + 1)
    expect(history.get_by_text(f"{TEXTS + 1} records in figures")).to_be_visible()


def test_the_list_is_filtered_and_the_filter_is_in_the_address(history: Page, scene: Scene) -> None:
    history.get_by_label("Pictures").check()
    expect(records(history)).to_have_count(1)
    history.get_by_label("Label").fill(scene.digits[0].label)
    expect(records(history)).to_have_count(1)
    history.reload()
    expect(records(history)).to_have_count(1)
    expect(history.get_by_label("Pictures")).to_be_checked()
    history.get_by_label("Label").fill("unicorn")
    expect(history.get_by_role("heading", name="Nothing matches")).to_be_visible()
    history.get_by_role("link", name="Clear the filter").click()
    expect(records(history).first).to_contain_text("scene.png")


def test_words_are_searched_for_and_marked_and_stay_in_the_address(
    history: Page, client: httpx.Client
) -> None:
    newest = client.get("/history", params={"q": "number 7"}).json()["items"][0]
    long_text = f"{'padding ' * 40}and then the Needle in the hay"
    kept = client.post("/prediction", json={"text": long_text}).json()
    correction = {"label": "sci.space", "comment": "A rocket, I am sure"}
    client.post(f"/history/{newest['id']}/feedback", json=correction).raise_for_status()

    history.get_by_label("Search").fill("NEEDLE in")
    expect(records(history)).to_have_count(1)
    expect(records(history).locator("mark")).to_have_text("Needle in")
    expect(records(history).locator("mark")).to_be_in_viewport()
    expect(records(history).locator("a")).to_have_attribute("href", f"#/history/{kept['id']}")
    history.reload()
    expect(history.get_by_label("Search")).to_have_value("NEEDLE in")
    expect(records(history)).to_have_count(1)
    expect(history.get_by_role("link", name="Export CSV")).to_have_attribute(
        "href", "/history.csv?q=NEEDLE+in"
    )
    history.get_by_label("Search").fill("rocket")
    expect(records(history).locator("mark")).to_have_text("rocket")
    for scheme in ("light", "dark"):
        history.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        # Else colours would be looked at while they change.
        history.reload()
        expect(records(history).locator("mark")).to_have_text("rocket")
        check(history, f"history, searched, {scheme}")
    history.get_by_label("Search").fill("100% nothing")
    expect(history.get_by_role("heading", name="Nothing matches")).to_be_visible()
    # What has no words in it is no search.
    history.get_by_label("Search").fill("   ")
    expect(records(history)).to_have_count(30)


def test_details_show_the_picture_with_its_boxes(
    history: Page, client: httpx.Client, scene: Scene
) -> None:
    # So large that a smaller copy is kept: the boxes are of the original.
    large = scene.picture.resize((WIDTH * 3, HEIGHT * 3))
    files = {"image": ("large.png", png(large), "image/png")}
    client.post("/object-detection?threshold=0.5", files=files).raise_for_status()
    history.reload()
    history.get_by_role("link", name="large.png").click()
    expect_boxes(history, scene.labels)
    expect(history.get_by_text("1920 \u00d7 1440")).to_be_visible()

    image = history.locator("[data-picture]")
    expect(image).to_have_js_property("naturalWidth", 1024)
    drawn = find_boxes(history, scale_to=WIDTH)
    for digit in scene.digits:
        assert any(
            label == digit.label and overlap(box, digit.box) > 0.5 for label, box in drawn
        ), f"{digit} is not among {drawn}"

    rows = history.locator(".objects tbody tr")
    rows.first.focus()
    expect(history.locator(".box").first).to_have_class(re.compile("box-selected"))
    history.locator(".box").nth(1).hover()
    expect(rows.nth(1)).to_have_class(re.compile("row-selected"))

    with history.expect_download() as download:
        history.get_by_role("button", name="Save PNG").click()
    with Image.open(download.value.path()) as picture:
        assert picture.size == (1024, 768)


def test_the_list_has_thumbnails_of_pictures(history: Page) -> None:
    thumbnail = records(history).first.locator("img")
    expect(thumbnail).to_have_js_property("naturalWidth", 160)
    expect(records(history).nth(1).locator("img")).to_have_count(0)


def test_details_show_the_boxes_on_the_outline_where_no_picture_is_kept(
    history: Page, scene: Scene, complaints: Complaints
) -> None:
    complaints.expect("404")
    history.route("**/history/*/image", lambda route: route.fulfill(status=404))
    history.get_by_role("link", name="scene.png").click()
    expect_boxes(history, scene.labels)
    frame = history.locator(".picture-outline").bounding_box()
    assert frame is not None
    assert frame["width"] / frame["height"] == pytest.approx(640 / 480, rel=0.02)


def test_a_deleted_record_can_be_brought_back(history: Page, client: httpx.Client) -> None:
    history.get_by_role("button", name="Delete: scene.png").click()
    expect(records(history).first).not_to_contain_text("scene.png")
    history.get_by_role("button", name="Undo").click()
    expect(records(history).first).to_contain_text("scene.png")
    assert len(client.get("/history", params={"kind": "image"}).json()["items"]) == 1


def test_a_record_that_is_not_brought_back_is_gone(history: Page, client: httpx.Client) -> None:
    history.get_by_role("link", name="scene.png").click()
    with history.expect_response(lambda answer: answer.request.method == "DELETE") as deleted:
        history.get_by_role("button", name="Delete", exact=True).click()
        expect(history.get_by_role("heading", name="History")).to_be_visible()
        expect(history.get_by_role("link", name="scene.png")).to_have_count(0)
    assert deleted.value.status == 204
    assert client.get("/history", params={"kind": "image"}).json()["items"] == []


def test_the_export_follows_the_filter(history: Page) -> None:
    history.get_by_label("Texts").check()
    expect(history.get_by_role("link", name="Export CSV")).to_have_attribute(
        "href", "/history.csv?kind=text"
    )
    with history.expect_download() as download:
        history.get_by_role("link", name="Export CSV").click()
    assert len(read_csv(download.value)) == TEXTS
