"""The history as CSV (RFC 4180), page by page, so that memory does not grow with its length."""

import asyncio
import csv
import io
import json
import uuid
from collections.abc import AsyncIterator, Sequence

from app.database import Database
from app.history.cursor import Cursor
from app.history.models import Prediction, Stream, split_labels
from app.history.repository import HistoryFilter, HistoryRepository, HistoryRow

PAGE_SIZE = 100
COLUMNS = (
    "id",
    "kind",
    "created_at",
    "model",
    "version",
    "input",
    "labels",
    "result",
    "latency_ms",
    "cached",
    "feedback_label",
    "feedback_comment",
    "duration_s",
    "frames_received",
    "frames_processed",
    "frames_dropped",
    "frames_failed",
    "label_counts",
    "close_code",
)
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")

Cell = str | int | float | None


def guard_cell(cell: Cell) -> Cell:
    """Keep spreadsheets from running a text as a formula: an apostrophe makes it a text.

    https://owasp.org/www-community/attacks/CSV_Injection
    """
    if isinstance(cell, str) and cell.startswith(_FORMULA_STARTS):
        return f"'{cell}"
    return cell


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _cells(row: HistoryRow) -> dict[str, Cell]:
    moment = row.created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    cells: dict[str, Cell] = {
        "id": str(row.id),
        "created_at": moment,
        "model": row.model,
        "version": row.model_version,
        "labels": "; ".join(split_labels(row.labels)),
        "latency_ms": row.latency_ms,
    }
    if isinstance(row, Stream):
        return cells | {
            "kind": "stream",
            "duration_s": row.duration_s,
            "frames_received": row.frames_received,
            "frames_processed": row.frames_processed,
            "frames_dropped": row.frames_dropped,
            "frames_failed": row.frames_failed,
            "label_counts": _json(row.label_counts),
            "close_code": row.close_code,
        }
    return cells | _prediction_cells(row)


def _prediction_cells(row: Prediction) -> dict[str, Cell]:
    cells: dict[str, Cell] = {
        "kind": row.kind,
        "input": row.input_text if row.kind == "text" else row.input_name,
        "result": _json(row.result),
        "cached": "true" if row.cached else "false",
    }
    if row.feedback is not None:
        cells |= {"feedback_label": row.feedback.label, "feedback_comment": row.feedback.comment}
    return cells


def render(rows: Sequence[HistoryRow], *, header: bool = False) -> bytes:
    """The rows as CSV in UTF-8, with the line of column names before them if asked for."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, restval="")
    if header:
        writer.writeheader()
    for row in rows:
        writer.writerow({name: guard_cell(cell) for name, cell in _cells(row).items()})
    return text.getvalue().encode()


async def export(
    database: Database, user_id: uuid.UUID, narrowed: HistoryFilter
) -> AsyncIterator[bytes]:
    """Yield the person's history, newest first, a page at a time.

    Each page is read in a short transaction of its own: a slow reader holds no connection, and
    what is recorded meanwhile does not appear.
    """
    before: Cursor | None = None
    while True:
        async with database.sessions() as session:
            repository = HistoryRepository(session, user_id)
            rows = await repository.list_newest(narrowed, before, PAGE_SIZE)
        yield await asyncio.to_thread(render, rows, header=before is None)
        if len(rows) < PAGE_SIZE:
            return
        before = Cursor(rows[-1].created_at, rows[-1].id)
