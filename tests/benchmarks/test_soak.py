"""The soak's accounting: it finds what was lost, and only that."""

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.soak_load import Entry, Ledger, LoadPlan, Outcome
from benchmarks.soak_report import FaultSpan, SoakResult, draw, facts, write_markdown

KILLED = FaultSpan("a worker killed", 10.0, 12.0, breaks_connections=True)
AWAY = FaultSpan("PostgreSQL killed and back", 20.0, 25.0, breaks_connections=False)


def entry(name: str, at: float, outcome: Outcome) -> Entry:
    return Entry(name, at, at + 0.1, outcome)


def result(*entries: Entry, kept: Counter[str]) -> SoakResult:
    plan = LoadPlan(1, {}, texts_per_s=20, images_per_s=1, frames_per_s=1, picture=Path("a.jpg"))
    line = {"200": [(0.0, 1.0), (1.0, 2.0), (9.0, 1.0)]}
    return SoakResult(
        started=0.0,
        ended=30.0,
        plan=plan,
        ledger=Ledger(list(entries), stream_ends=[(11.0, "1012")]),
        spans=[KILLED, AWAY],
        kept=kept,
        series=dict.fromkeys(("answers", "p99", "workers", "streams"), line),
        alerts={"LookoutDown": {"pending"}},
    )


def test_what_was_kept_once_or_refused_or_broken_by_a_kill_is_no_loss() -> None:
    found = result(
        entry("a", 1.0, "answered"),
        entry("b", 10.5, "broken"),
        entry("c", 21.0, "refused"),
        kept=Counter({"a": 1, "b": 1}),
    )
    assert found.is_clean
    assert [row[-1] for row in found.rows()] == ["0", "0", "0", "0"]
    assert [row[3] for row in found.rows()] == ["1", "1", "1", "3"]
    assert any("without an answer that arrived: 1" in fact for fact in facts(found))


def test_what_was_acknowledged_and_is_not_there_or_twice_is_lost() -> None:
    found = result(
        entry("a", 1.0, "answered"), entry("b", 21.0, "answered"), kept=Counter({"b": 2})
    )
    assert (found.missing, found.twice) == (["a"], ["b"])
    assert not found.is_clean
    assert [row[-1] for row in found.rows()] == ["0", "1", "1", "2"]


def test_a_connection_broken_without_a_kill_is_lost() -> None:
    found = result(entry("a", 21.0, "broken"), kept=Counter())
    assert [lost.name for lost in found.unexplained] == ["a"]
    assert not found.is_clean


def test_no_answer_or_a_wrong_one_is_lost_whenever_it_was() -> None:
    found = result(entry("a", 11.0, "unanswered"), entry("b", 11.0, "wrong"), kept=Counter())
    assert {lost.name for lost in found.unexplained} == {"a", "b"}


def test_the_report_is_written_with_its_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="in requirements-bench.txt only")
    found = result(entry("a", 1.0, "answered"), kept=Counter({"a": 1}))
    picture = draw(found, tmp_path / "soak-faults.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    write_markdown(found, picture, tmp_path / "SOAK.md")
    text = (tmp_path / "SOAK.md").read_text()
    assert "Nothing was lost." in text
    assert "| a worker killed |" in text
    assert "(soak-faults.png)" in text
