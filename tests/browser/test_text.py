"""Text classification: one text, feedback, a file of many."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.pages import read_csv

MAC = "My PowerBook needs more memory and a new SCSI drive for the Mac."
CRYPT = "The clipper chip's encryption key is held in escrow by the NSA."


@pytest.fixture
def text_view(member: Page) -> Page:
    member.goto("/#/text")
    return member


def choose_file(page: Page, name: str, content: bytes) -> None:
    page.get_by_label("File of texts").set_input_files(
        {"name": name, "mimeType": "text/plain", "buffer": content}
    )


def test_a_text_gets_its_category_and_probabilities(text_view: Page) -> None:
    text_view.get_by_label("Text", exact=True).fill(MAC)
    text_view.get_by_label("Text", exact=True).press("Control+Enter")
    expect(text_view.locator(".answer")).to_have_text("comp.sys.mac.hardware")
    expect(text_view.locator(".bars li")).to_have_count(4)
    expect(text_view.locator(".bars li").first).to_contain_text("comp.sys.mac.hardware")


def test_the_address_of_an_answer_can_be_shared(text_view: Page) -> None:
    text_view.get_by_label("Text", exact=True).fill(CRYPT)
    text_view.get_by_role("button", name="Classify", exact=True).click()
    expect(text_view.locator(".answer")).to_have_text("sci.crypt")
    address = text_view.url
    other = text_view.context.new_page()
    other.goto(address)
    expect(other.locator(".answer")).to_have_text("sci.crypt")


def test_an_empty_text_is_not_sent(text_view: Page) -> None:
    text_view.get_by_role("button", name="Classify", exact=True).click()
    expect(text_view.get_by_role("alert")).to_contain_text("no text to classify")


def test_a_wrong_category_is_corrected_with_one_click_and_taken_back(text_view: Page) -> None:
    text_view.get_by_label("Text", exact=True).fill(MAC)
    text_view.get_by_role("button", name="Classify", exact=True).click()
    text_view.get_by_role("button", name="talk.religion.misc").click()
    expect(text_view.get_by_text("You corrected this to")).to_be_visible()
    text_view.get_by_role("button", name="sci.crypt").click()
    expect(text_view.locator(".correction strong")).to_have_text("sci.crypt")

    text_view.goto("/#/history")
    text_view.locator(".record a").click()
    expect(text_view.locator(".correction strong")).to_have_text("sci.crypt")
    text_view.get_by_role("button", name="Take it back").click()
    expect(text_view.get_by_text("Is that right?")).to_be_visible()


def test_the_lines_of_a_text_file_come_back_as_csv(text_view: Page) -> None:
    choose_file(text_view, "posts.txt", f"{MAC}\n\n{CRYPT}\n".encode())
    text_view.get_by_role("button", name="Classify 2 texts").click()
    with text_view.expect_download() as download:
        text_view.get_by_role("button", name="Download CSV").click()
    assert download.value.suggested_filename == "posts_categories.csv"
    rows = read_csv(download.value)
    assert [row["text"] for row in rows] == [MAC, CRYPT]
    assert [row["category"] for row in rows] == ["comp.sys.mac.hardware", "sci.crypt"]
    assert all(float(row["probability"]) > 0.5 for row in rows)


def test_a_csv_keeps_its_columns_rows_and_quotes(text_view: Page) -> None:
    quoted = 'He said "use three keys",\nand encryption was safe from the NSA'
    source = [["id", "text"], ["1", MAC], ["2", ""], ["3", quoted]]
    content = "\r\n".join(
        ",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in source
    )
    choose_file(text_view, "posts.csv", content.encode())
    text_view.get_by_role("button", name="Classify 3 texts").click()
    with text_view.expect_download() as download:
        text_view.get_by_role("button", name="Download CSV").click()
    rows = read_csv(download.value)
    assert [[row["id"], row["text"]] for row in rows] == source[1:]
    assert [row["category"] for row in rows] == ["comp.sys.mac.hardware", "", "sci.crypt"]


def test_a_file_that_is_not_utf_8_is_told(text_view: Page) -> None:
    choose_file(text_view, "posts.txt", "Gr\u00fc\u00dfe".encode("latin-1"))
    expect(text_view.get_by_role("alert")).to_contain_text("is not UTF-8 text")


def test_more_texts_than_one_call_takes_are_all_classified(text_view: Page) -> None:
    choose_file(text_view, "many.txt", "\n".join(f"{MAC} {n}" for n in range(300)).encode())
    text_view.get_by_role("button", name="Classify 300 texts").click()
    expect(text_view.get_by_text("300 texts classified")).to_be_visible()
