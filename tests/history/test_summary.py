"""`GET /history/summary`: the figures of the charts."""

from datetime import timedelta

import pytest

from app.database import now
from app.history.recorder import HistoryRecorder
from tests.history.support import Person, image_record, minutes, stream_record, text_record

ALL = {"from": "2026-10-01", "to": "2026-12-01"}


async def test_counts_by_day_label_and_model(
    recorder: HistoryRecorder, person: Person, stranger: Person
) -> None:
    day = 24 * 60
    await recorder.record(
        # One minute before and at midnight UTC.
        text_record(person.user_id, created_at=minutes(12 * 60 - 1), latency_ms=1.0),
        text_record(person.user_id, created_at=minutes(12 * 60), latency_ms=2.0),
        image_record(
            person.user_id, created_at=minutes(day), labels=("cat", "dog"), latency_ms=30.0
        ),
        image_record(person.user_id, created_at=minutes(5 * day), labels=(), latency_ms=4.0),
        stream_record(
            person.user_id, created_at=minutes(day), label_counts={"cat": 90}, latency_ms=999.0
        ),
    )
    await recorder.record(text_record(stranger.user_id, created_at=minutes(0)))

    answer = await person.client.get("/history/summary", params=ALL)

    assert answer.status_code == 200
    assert answer.json() == {
        "days": [
            {"date": "2026-11-01", "count": 1},
            {"date": "2026-11-02", "count": 3},
            {"date": "2026-11-06", "count": 1},
        ],
        "labels": [
            {"label": "sci.crypt", "count": 2},
            {"label": "cat", "count": 2},
            {"label": "dog", "count": 1},
        ],
        "models": [{"model": "yolos", "count": 3}, {"model": "newsgroups", "count": 2}],
        "latency_ms": {"p50": 2.0, "p95": 30.0},
    }


async def test_the_span_is_from_inclusive_to_exclusive(
    recorder: HistoryRecorder, person: Person
) -> None:
    await recorder.record(*(text_record(person.user_id, created_at=minutes(n)) for n in range(5)))
    span = {"from": "2026-11-01T12:01:00Z", "to": "2026-11-01T12:03:00Z"}
    summary = (await person.client.get("/history/summary", params=span)).json()
    assert summary["days"] == [{"date": "2026-11-01", "count": 2}]


async def test_by_default_the_last_30_days(recorder: HistoryRecorder, person: Person) -> None:
    await recorder.record(
        text_record(person.user_id),
        text_record(person.user_id, created_at=now() - timedelta(days=29, hours=23)),
        text_record(person.user_id, created_at=now() - timedelta(days=30, hours=1)),
    )
    summary = (await person.client.get("/history/summary")).json()
    assert sum(day["count"] for day in summary["days"]) == 2


@pytest.mark.parametrize("moment", ["0001-01-02T00:00:00Z", "2020-01-01T00:00:00Z"])
async def test_nothing_is_counted_as_nothing(person: Person, moment: str) -> None:
    answer = await person.client.get("/history/summary", params={"to": moment})
    assert answer.json() == {"days": [], "labels": [], "models": [], "latency_ms": None}


@pytest.mark.parametrize(
    ("number", "p50", "p95"), [(1, 1.0, 1.0), (2, 1.0, 2.0), (20, 10.0, 19.0), (100, 50.0, 95.0)]
)
async def test_percentiles_are_nearest_ranks(
    recorder: HistoryRecorder, person: Person, number: int, p50: float, p95: float
) -> None:
    latencies = [float(1 + (rank * 7) % number) for rank in range(number)]
    await recorder.record(
        *(
            text_record(person.user_id, created_at=minutes(0), latency_ms=latency)
            for latency in sorted(set(latencies), key=lambda value: value * 31 % 17)
        )
    )
    summary = (await person.client.get("/history/summary", params=ALL)).json()
    assert summary["latency_ms"] == {"p50": p50, "p95": p95}


async def test_only_the_20_most_frequent_labels(recorder: HistoryRecorder, person: Person) -> None:
    await recorder.record(
        *(
            image_record(
                person.user_id,
                created_at=minutes(0),
                labels=tuple(f"label {label}" for label in range(rank, 25)),
            )
            for rank in range(25)
        )
    )
    summary = (await person.client.get("/history/summary", params=ALL)).json()
    assert summary["labels"] == [
        {"label": f"label {label}", "count": label + 1} for label in range(24, 4, -1)
    ]
