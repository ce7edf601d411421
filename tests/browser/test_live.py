"""Live detection of the digits that the fake camera shows."""

import base64
import contextlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.browser.conftest import CHROMIUM, WINDOW
from tests.browser.pages import PASSWORD, PATIENCE_MS, Answers, Complaints, png, sign_up
from tests.browser.scenes import HEIGHT, WIDTH, Scene, overlap
from tests.browser.serving import Server

# The page reads the colour of a pixel of the drawing; a box's line is two pixels wide.
READ_PIXELS = """
([x, y, width, height]) => {
  const canvas = document.querySelector(".stage canvas");
  const scale = Math.min(canvas.width / width, canvas.height / height);
  const left = (canvas.width - width * scale) / 2 + x * scale;
  const top = (canvas.height - height * scale) / 2 + y * scale;
  const data = canvas.getContext("2d").getImageData(left - 2, top - 2, 5, 5).data;
  return Array.from({ length: 25 }, (_, at) => [...data.slice(at * 4, at * 4 + 3)]);
}
"""

# A film of the fake camera, made by the browser itself.
FILM_THE_CAMERA = """
async () => {
  const stream = await navigator.mediaDevices.getUserMedia({ video: true });
  const recorder = new MediaRecorder(stream, { mimeType: "video/webm" });
  const parts = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  const ended = new Promise((resolve) => { recorder.onstop = resolve; });
  recorder.start();
  setTimeout(() => recorder.stop(), 2000);
  await ended;
  stream.getTracks().forEach((track) => track.stop());
  return [...new Uint8Array(await new Blob(parts).arrayBuffer())];
}
"""


def start(page: Page, query: str = "") -> None:
    page.goto(f"/#/live?{query}")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(stream_state(page)).to_have_text("Live")


def stream_state(page: Page) -> Locator:
    return page.locator("[data-stream]")


def seen(page: Page) -> Locator:
    return page.locator(".seen li")


def assert_found(scene: Scene, message: dict[str, Any]) -> None:
    """Every digit of the scene is found where it is, and no other digit anywhere."""
    size = message["image"]
    scale = WIDTH / size["width"]
    found = [
        (each["label"], tuple(edge * scale for edge in each["box"])) for each in message["objects"]
    ]
    assert {label for label, _ in found} == scene.labels
    for digit in scene.digits:
        assert any(
            label == digit.label and overlap(box, digit.box) > 0.5 for label, box in found
        ), f"{digit} is not among {found}"


def test_the_digits_in_the_picture_are_found_where_they_are(member: Page, scene: Scene) -> None:
    answers = Answers(member)
    start(member, "threshold=0.5&mode=exact")
    expect(seen(member)).to_have_count(len(scene.digits))
    expect(member.locator("[data-figure=fps]")).to_have_text(re.compile("[1-9]"))
    expect(member.locator("[data-figure=p50]")).to_have_text(re.compile(r"\d ms"))
    assert_found(scene, answers.messages[-1])


@pytest.mark.parametrize("mode", ["exact", "live"])
def test_boxes_are_drawn_where_the_answer_says(member: Page, mode: str) -> None:
    answers = Answers(member)
    start(member, f"threshold=0.5&mode={mode}")
    expect(seen(member).first.locator(".swatch")).to_be_visible()
    message = answers.messages[-1]
    best = message["objects"][0]
    scale = WIDTH / message["image"]["width"]
    x1, _, _, y2 = (edge * scale for edge in best["box"])
    corner = member.evaluate(READ_PIXELS, [x1, y2 - 8, WIDTH, HEIGHT])
    row = seen(member).filter(has_text=re.compile(rf"^{best['label']}\d+$"))
    color = row.locator(".swatch").evaluate("each => getComputedStyle(each).backgroundColor")
    assert [int(part) for part in re.findall(r"\d+", color)] in corner


def test_threshold_and_labels_act_at_once(member: Page, scene: Scene) -> None:
    start(member, "threshold=0.5")
    expect(seen(member)).to_have_count(len(scene.digits))
    member.get_by_role("button", name="All labels").click()
    member.get_by_role("checkbox", name="7").check()
    expect(seen(member)).to_have_text([re.compile(r"^7\d$")])
    assert "labels=7" in member.url
    member.keyboard.press("Escape")
    member.get_by_label("Threshold").fill("0.95")
    assert "threshold=0.95" in member.url
    member.reload()
    expect(member.get_by_label("Threshold")).to_have_value("0.95")
    expect(member.get_by_role("button", name="7", exact=True)).to_be_visible()


def test_a_snapshot_is_the_picture_with_its_boxes(member: Page) -> None:
    start(member, "threshold=0.5")
    expect(seen(member).first.locator(".swatch")).to_be_visible()
    with member.expect_download() as download:
        member.get_by_role("button", name="Snapshot").click()
    assert download.value.suggested_filename.endswith(".png")
    with Image.open(download.value.path()) as picture:
        assert picture.width * HEIGHT == picture.height * WIDTH
        # The boxes are the only bright colours on paper and ink.
        assert np.asarray(picture.convert("HSV"))[:, :, 1].max() > 200


def test_a_recording_has_a_line_for_each_answer(member: Page) -> None:
    answers = Answers(member)
    start(member, "threshold=0.5")
    member.get_by_role("button", name="Record").click()
    expect(member.get_by_role("button", name=re.compile(r"Save (\d\d|[5-9])"))).to_be_visible()
    with member.expect_download() as download:
        member.get_by_role("button", name=re.compile("Save")).click()
    lines = [json.loads(line) for line in download.value.path().read_text().splitlines()]
    frames = [line["frame"] for line in lines]
    assert len(lines) >= 5
    assert frames == sorted(set(frames))
    sent = {message["frame"]: message["objects"] for message in answers.messages}
    assert all(line["objects"] == sent[line["frame"]] for line in lines)


def test_the_stream_is_found_in_the_history(member: Page) -> None:
    start(member, "threshold=0.5")
    expect(member.locator("[data-figure=fps]")).to_have_text(re.compile("[1-9]"))
    member.get_by_role("button", name="Stop").click()
    expect(stream_state(member)).to_have_text("Stopped")
    member.goto("/#/history?kind=stream")
    member.get_by_role("link", name=re.compile("Stream of")).click()
    expect(member.get_by_text(re.compile(r"[1-9]\d* received"))).to_be_visible()


def test_a_video_file_is_a_source_too(member: Page, scene: Scene) -> None:
    member.goto("/#/live?source=file&threshold=0.5")
    film = member.evaluate(FILM_THE_CAMERA)
    member.get_by_label("Video file").set_input_files(
        {"name": "film.webm", "mimeType": "video/webm", "buffer": bytes(film)}
    )
    expect(stream_state(member)).to_have_text("Live")
    expect(seen(member)).to_have_count(len(scene.digits))


@pytest.fixture
def sharer(browser: Browser, server: Server, complaints: Complaints) -> Iterator[Page]:
    """A page whose visitor, asked what to share, takes the tab that is called Digits."""
    share = "--auto-select-tab-capture-source-by-title=Digits"
    other = browser.browser_type.launch(
        executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", share]
    )
    page = other.new_context(base_url=server.url, viewport=WINDOW).new_page()
    complaints.listen_to(page)
    yield page
    other.close()


def start_sharing(page: Page) -> None:
    """Start, and once more where Chromium's chooser, which looks for the tab only when it opens,
    has not taken it: nobody is there to choose by hand."""
    page.goto("/#/live?source=screen&threshold=0.5")
    for patience_ms in (20_000, 20_000, PATIENCE_MS):
        page.get_by_role("button", name="Start", exact=True).click()
        with contextlib.suppress(AssertionError):
            expect(stream_state(page)).to_have_text("Live", timeout=patience_ms)
            return
    raise AssertionError(f"the page says: {page.locator('main').inner_text()}")


def test_a_shared_tab_is_a_source_too(sharer: Page, email: str, scene: Scene) -> None:
    sign_up(sharer, email, PASSWORD)
    tab = sharer.context.new_page()
    tab.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    picture = base64.b64encode(png(scene.picture)).decode()
    tab.set_content(
        "<title>Digits</title><style>body { margin: 0 }</style>"
        f"<img src='data:image/png;base64,{picture}'>"
    )
    expect(tab).to_have_title("Digits")
    sharer.bring_to_front()
    start_sharing(sharer)
    # Nothing moves in that tab: it has one picture, which must not be missed.
    expect(seen(sharer)).to_have_count(len(scene.digits))
    tab.close()
    expect(sharer.get_by_text("Sharing of the screen ended.")).to_be_visible()
    expect(sharer.get_by_role("button", name="Start", exact=True)).to_be_visible()


def test_what_is_written_by_hand_is_found_as_it_is_written(member: Page) -> None:
    member.goto("/#/live?threshold=0.5")
    member.get_by_role("button", name="Write digits by hand").click()
    expect(stream_state(member)).to_have_text("Live")
    sheet = member.locator(".pad canvas").bounding_box()
    assert sheet is not None
    # A one: down in the middle of the sheet.
    x, top, bottom = sheet["x"] + sheet["width"] / 2, sheet["y"] + 120, sheet["y"] + 300
    member.mouse.move(x, top)
    member.mouse.down()
    member.mouse.move(x - 4, bottom, steps=20)
    member.mouse.up()
    expect(seen(member)).to_have_text([re.compile(r"^1\d$")])
    member.get_by_role("button", name="Clear").click()
    expect(seen(member)).to_have_text("Nothing above the threshold.")
    # For those who do not draw.
    member.get_by_role("button", name="Write for me").press("Enter")
    expect(seen(member)).to_have_text([re.compile(rf"^{digit}\d$") for digit in "037"])
    assert "source=pad" in member.url


def test_a_file_that_is_no_video_is_told(member: Page) -> None:
    member.goto("/#/live?source=file")
    member.get_by_label("Video file").set_input_files(
        {"name": "broken.mp4", "mimeType": "video/mp4", "buffer": b"no video"}
    )
    expect(member.get_by_text("The browser cannot play \u201cbroken.mp4\u201d")).to_be_visible()


def test_two_tabs_stream_at_the_same_time(member: Page, scene: Scene) -> None:
    other = member.context.new_page()
    for page in (member, other):
        start(page, "threshold=0.5")
    for page in (member, other):
        expect(seen(page)).to_have_count(len(scene.digits))


def test_a_stream_says_why_it_ended_when_the_session_does(
    member: Page, email: str, server: Server, complaints: Complaints
) -> None:
    complaints.expect("401")
    start(member)
    with httpx.Client(base_url=server.url) as client:
        form = {"username": email, "password": PASSWORD}
        token = client.post("/token", data=form).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        sessions = [each for each in client.get("/me/tokens").json() if each["kind"] == "session"]
        client.delete(f"/me/tokens/{sessions[0]['id']}")
    expect(member.get_by_role("button", name="Sign in")).to_be_visible()


def test_a_stream_comes_back_after_the_server_was_restarted(
    member: Page, server: Server, complaints: Complaints
) -> None:
    # The browser reports each attempt that meets no server.
    complaints.expect("WebSocket connection", "ERR_CONNECTION_REFUSED")
    answers = Answers(member)
    start(member, "threshold=0.5")
    expect(member.locator("[data-figure=fps]")).to_have_text(re.compile("[1-9]"))
    server.stop()
    expect(stream_state(member)).to_have_text("Reconnecting")
    expect(member.get_by_text(re.compile("restart|lost"))).to_be_visible()
    server.start()
    member.get_by_role("button", name="Try now").click()
    expect(stream_state(member)).to_have_text("Live")
    before = len(answers.messages)
    # The figures hold the minute before as well: only new messages show that it works again.
    answers.wait_for_more_than(before, member)


def test_a_server_that_hangs_is_told_and_waited_for(member: Page, server: Server) -> None:
    answers = Answers(member)
    start(member, "threshold=0.5")
    expect(member.locator("[data-figure=fps]")).to_have_text(re.compile("[1-9]"))
    with server.hanging():
        expect(stream_state(member)).to_have_text("No answer yet")
        expect(member.get_by_text("The server has not answered for a while.")).to_be_visible()
    expect(stream_state(member)).to_have_text("Live")
    answers.wait_for_more_than(len(answers.messages), member)


# Counts frames that were sent and neither answered nor replaced yet, as they are sent.
COUNT_IN_FLIGHT = """
window.mostInFlight = 0;
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (data) {
  if (!this.counts) {
    this.counts = { sent: 0, settled: 0 };
    this.addEventListener("message", (event) => {
      // Frames are numbered as they are sent: all up to an answer's are settled.
      this.counts.settled = JSON.parse(event.data).frame;
    });
  }
  if (data instanceof Blob) {
    this.counts.sent += 1;
    window.mostInFlight = Math.max(window.mostInFlight, this.counts.sent - this.counts.settled);
  }
  return send.call(this, data);
};
"""


def test_two_frames_at_most_are_on_their_way(
    new_context: Callable[..., BrowserContext], email: str, server: Server
) -> None:
    page = new_context().new_page()
    page.add_init_script(COUNT_IN_FLIGHT)
    answers = Answers(page)
    sign_up(page, email, PASSWORD)
    start(page, "threshold=0.5")
    answers.wait_for_more_than(10, page)
    # Nothing is answered now: frames that went out beyond the credit would pile up.
    with server.hanging():
        expect(stream_state(page)).to_have_text("No answer yet")
    answers.wait_for_more_than(len(answers.messages) + 5, page)
    assert page.evaluate("window.mostInFlight") == 2


def test_a_camera_that_is_not_allowed_is_told_in_words(
    browser: Browser, server: Server, email: str, complaints: Complaints
) -> None:
    # Without the switch that answers for the visitor, a headless browser refuses.
    other = browser.browser_type.launch(
        executable_path=CHROMIUM,
        args=["--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream"],
    )
    page = other.new_context(base_url=server.url, permissions=[]).new_page()
    complaints.listen_to(page)
    sign_up(page, email, PASSWORD)
    page.goto("/#/live")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("The camera is not allowed for this page.")
    other.close()


def test_no_camera_is_told_in_words(new_context: Callable[..., BrowserContext], email: str) -> None:
    page = new_context().new_page()
    page.add_init_script(
        "navigator.mediaDevices.getUserMedia = async () => {"
        " throw new DOMException('no device', 'NotFoundError'); };"
    )
    sign_up(page, email, PASSWORD)
    page.goto("/#/live")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("No camera was found")
