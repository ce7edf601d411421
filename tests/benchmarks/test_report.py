import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.report import HEADERS, Row, markdown_table, number, table, write_json

ROW = Row(
    scenario="T1",
    title="distinct texts",
    measured=1640.4,
    unit="requests/s",
    baseline="textbook",
    baseline_value=410.1,
    figure=4.0,
    figure_unit="x",
    comparison="at least",
    bar=4,
)


def test_a_bar_that_is_just_reached_is_met() -> None:
    assert ROW.passed
    assert not replace(ROW, figure=3.99).passed
    assert replace(ROW, comparison="at most").passed
    assert not replace(ROW, comparison="at most", figure=4.01).passed


@pytest.mark.parametrize("comparison", ["at least", "at most"])
def test_no_figure_is_no_pass(comparison: str) -> None:
    assert not replace(ROW, figure=math.nan, comparison=comparison).passed  # type: ignore[arg-type]


def test_cells_name_the_baseline_and_the_verdict() -> None:
    assert ROW.cells() == [
        "T1",
        "distinct texts",
        "1,640 requests/s",
        "textbook 410",
        "4 x",
        "≥ 4 x",
        "pass",
    ]
    assert replace(ROW, baseline="", baseline_value=None, figure=1.0).cells()[3:] == [
        "-",
        "1 x",
        "≥ 4 x",
        "FAIL",
    ]


def test_columns_are_aligned() -> None:
    lines = table([ROW, replace(ROW, title="longer than the other title")]).splitlines()

    assert len({line.index("1,640") for line in lines[2:]}) == 1
    assert lines[0].split() == [cell for cell in HEADERS if cell]


def test_markdown_has_as_many_cells_in_each_line() -> None:
    assert {line.count("|") for line in markdown_table([ROW]).splitlines()} == {len(HEADERS) + 1}


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.1234, "0.123"), (12.345, "12.3"), (99.94, "99.9"), (12345.6, "12,346"), (math.nan, "none")],
)
def test_numbers_for_people(value: float, expected: str) -> None:
    assert number(value) == expected


def test_the_json_file_says_which_bars_were_met(tmp_path: Path) -> None:
    path = write_json(tmp_path / "results", [ROW], {"T1": [1, 2]}, {"quick": True})

    content = json.loads(path.read_text())
    assert content["rows"][0]["passed"] is True
    assert content["rounds"] == {"T1": [1, 2]}
    assert content["machine"]["cores"].isdigit()
