"""Detection in chosen pictures."""

import json
import re

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.browser.pages import Complaints, expect_boxes, find_boxes, png, upload
from tests.browser.scenes import WIDTH, Scene, overlap


def boxes(page: Page) -> Locator:
    return page.locator(".box")


@pytest.fixture
def uploaded(member: Page, scene: Scene) -> Page:
    """The upload view with the scene's digits found."""
    member.goto("/#/upload?threshold=0.5")
    upload(member, ("scene.png", "image/png", png(scene.picture)))
    expect_boxes(member, scene.labels)
    return member


def test_the_digits_are_boxed_where_they_are(uploaded: Page, scene: Scene) -> None:
    drawn = find_boxes(uploaded, scale_to=WIDTH)
    for digit in scene.digits:
        assert any(
            label == digit.label and overlap(box, digit.box) > 0.5 for label, box in drawn
        ), f"{digit} is not among {drawn}"


def test_a_row_of_the_table_shows_its_box_by_keyboard_and_pointer(uploaded: Page) -> None:
    rows = uploaded.locator(".objects tbody tr")
    rows.first.focus()
    expect(boxes(uploaded).nth(0)).to_have_class(re.compile("box-selected"))
    uploaded.keyboard.press("ArrowDown")
    expect(rows.nth(1)).to_be_focused()
    expect(boxes(uploaded).nth(1)).to_have_class(re.compile("box-selected"))
    boxes(uploaded).nth(2).hover()
    expect(rows.nth(2)).to_have_class(re.compile("row-selected"))


def test_threshold_and_labels_change_what_is_shown(uploaded: Page) -> None:
    uploaded.get_by_role("button", name="All labels").click()
    uploaded.get_by_role("checkbox", name="3").check()
    expect_boxes(uploaded, {"3"})
    expect(uploaded.get_by_text("more hidden by threshold or labels")).to_be_visible()
    uploaded.keyboard.press("Escape")
    # Lower than what was asked for: the server is asked again, and the history has one record.
    uploaded.get_by_label("Threshold").fill("0.05")
    with uploaded.expect_response(re.compile(r"threshold=0\.05")):
        pass
    uploaded.goto("/#/history")
    expect(uploaded.locator(".record")).to_have_count(1)


def test_the_result_is_downloaded_as_json_and_as_a_picture(uploaded: Page, scene: Scene) -> None:
    with uploaded.expect_download() as download:
        uploaded.get_by_role("button", name="Save JSON").click()
    result = json.loads(download.value.path().read_text())
    assert {each["label"] for each in result["objects"]} == scene.labels
    with uploaded.expect_download() as download:
        uploaded.get_by_role("button", name="Save PNG").click()
    with Image.open(download.value.path()) as picture:
        assert picture.size == scene.picture.size
        assert picture.convert("RGB").tobytes() != scene.picture.tobytes()


def test_the_call_is_given_in_three_languages(uploaded: Page) -> None:
    uploaded.get_by_text("Call it from code").click()
    code = uploaded.get_by_role("tabpanel").locator("pre")
    expect(code).to_contain_text("curl")
    uploaded.get_by_role("tab", name="curl").press("ArrowRight")
    expect(code).to_contain_text("import httpx")
    uploaded.get_by_role("tab", name="JavaScript").click()
    expect(code).to_contain_text("await fetch")
    expect(code).to_contain_text("threshold=0.5")


def test_one_bad_file_does_not_harm_the_others(
    member: Page, scene: Scene, complaints: Complaints
) -> None:
    complaints.expect("415")
    member.goto("/#/upload?threshold=0.5")
    upload(
        member,
        ("notes.jpg", "image/jpeg", b"this is no picture"),
        ("scene.png", "image/png", png(scene.picture)),
    )
    thumbs = member.locator(".thumb")
    expect(thumbs.filter(has_text="scene.png")).to_contain_text(re.compile("[1-9] objects"))
    expect(thumbs.filter(has_text="notes.jpg")).to_contain_text("failed")
    thumbs.filter(has_text="notes.jpg").click()
    expect(member.get_by_role("alert").locator("code")).to_have_text(re.compile(r"^[0-9a-f]{16}$"))


def test_a_picture_is_pasted(member: Page, scene: Scene) -> None:
    member.goto("/#/upload?threshold=0.5")
    member.evaluate(
        """(bytes) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], "pasted.png", { type: "image/png" }));
          window.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));
        }""",
        list(png(scene.picture)),
    )
    expect_boxes(member, scene.labels)
