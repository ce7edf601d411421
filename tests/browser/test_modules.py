"""Modules of the page that compute: called in the browser, which is where they run."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect


@pytest.fixture
def page(page: Page) -> Page:
    page.goto("/")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    return page


def run(page: Page, module: str, body: str, argument: Any = None) -> Any:
    """Evaluate `body` with the module's exports as `it` and `argument`."""
    source = f"async (argument) => {{ const it = await import('/static/js/{module}'); {body} }}"
    return page.evaluate(source, argument)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a,b\r\n1,2\r\n", [["a", "b"], ["1", "2"]]),
        ("\ufeffa;b\n1;2", [["a", "b"], ["1", "2"]]),
        ('a\tb\n"x\ty"\t2\n', [["a", "b"], ["x\ty", "2"]]),
        ('"say ""hi"", twice",2\n', [['say "hi", twice', "2"]]),
        ('"two\nlines",x\n\n', [["two\nlines", "x"]]),
        ("a,b\n1,", [["a", "b"], ["1", ""]]),
    ],
)
def test_csv_is_read_in_its_dialects(page: Page, text: str, rows: list[list[str]]) -> None:
    assert run(page, "text/csv.js", "return it.parseCsv(argument)", text) == rows


def test_csv_that_is_written_is_read_back(page: Page) -> None:
    rows = [["a,b", 'c"d'], ["e\nf", "g;h"], [" i ", ""]]
    assert run(page, "text/csv.js", "return it.parseCsv(it.writeCsv(argument))", rows) == rows


def test_an_open_quote_is_an_error(page: Page) -> None:
    body = "try { it.parseCsv(argument) } catch (error) { return error.message }"
    assert "never closed" in run(page, "text/csv.js", body, 'a,"b\nc')


def test_quantiles_are_interpolated(page: Page) -> None:
    body = "return [0, 0.5, 0.95, 1].map((share) => it.quantile(argument, share))"
    values = [5, 1, 4, 2, 3]
    assert run(page, "live/stats.js", body, values) == pytest.approx([1, 3, 4.8, 5])


def learn(page: Page, **measured: float) -> dict[str, float]:
    """What a pacer does after sixty answers that measured this."""
    body = """
      const pacer = new it.Pacer();
      const { round, encode, decode, queue, inference } = argument;
      const timing = { decode_ms: decode, queue_ms: queue, inference_ms: inference };
      const answer = { roundTripMs: round, encodeMs: encode, timing };
      for (let at = 0; at < 60; at += 1) pacer.learn(answer);
      return { side: pacer.size.side, interval: pacer.intervalMs };
    """
    return dict(run(page, "live/pacing.js", body, measured))


def test_frames_shrink_on_a_slow_way_and_grow_on_a_fast_one(page: Page) -> None:
    slow = learn(page, round=500, encode=10, decode=5, queue=0, inference=20)
    fast = learn(page, round=30, encode=3, decode=3, queue=0, inference=20)
    assert slow["side"] < 640 < fast["side"]


def test_frames_come_as_often_as_the_server_answers(page: Page) -> None:
    busy = learn(page, round=450, encode=3, decode=3, queue=200, inference=200)
    idle = learn(page, round=210, encode=3, decode=3, queue=0, inference=200)
    quick = learn(page, round=20, encode=3, decode=3, queue=0, inference=8)
    assert busy["interval"] > 200 > idle["interval"]
    assert quick["interval"] == pytest.approx(1000 / 30)


@pytest.mark.parametrize("code", [1003, 1006, 1008, 1009, 1011, 1012, 1013])
def test_every_close_code_of_the_contract_has_its_words(page: Page, code: int) -> None:
    words = run(page, "live/closecodes.js", "return it.explain(argument).words", code)
    assert words.endswith(".")
    assert str(code) not in words


def test_labels_of_a_model_have_colors_of_their_own_and_readable_text(page: Page) -> None:
    body = "it.setLabelOrder(argument); return argument.map((label) => it.colorOf(label).fill)"
    digits = [str(digit) for digit in range(10)]
    assert len(set(run(page, "detect/colors.js", body, digits))) == 10
