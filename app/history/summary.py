"""The figures behind the charts of a person's history, computed by the database."""

import math
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import ColumnElement, Select, String, Subquery, func, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from app.history.models import Prediction, Stream, split_labels
from app.history.repository import HistoryFilter, conditions

TOP_LABELS = 20
# A record's labels are counted as one combination by the database and taken apart here.
MAX_LABEL_COMBINATIONS = 10_000


@dataclass(frozen=True, slots=True)
class Count:
    name: str
    count: int


@dataclass(frozen=True, slots=True)
class DayCount:
    date: date
    count: int


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Nearest-rank percentiles: each is a latency that was measured."""

    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class Summary:
    days: Sequence[DayCount]
    labels: Sequence[Count]
    models: Sequence[Count]
    latency_ms: Percentiles | None


class SummaryRepository:
    """Counts one person's records of a span of time."""

    def __init__(self, session: AsyncSession, user_id: uuid.UUID) -> None:
        self._session = session
        self._user_id = user_id

    async def summarise(self, span: HistoryFilter) -> Summary:
        records = union_all(
            *(
                select(
                    self._day(table.created_at).label("day"),
                    table.model.label("model"),
                    table.labels.label("labels"),
                ).where(*conditions(table, self._user_id, span))
                for table in (Prediction, Stream)
            )
        ).subquery()
        days = await self._count_by(records, "day")
        models = await self._count_by(records, "model")
        combinations = await self._count_by(records, "labels", MAX_LABEL_COMBINATIONS)
        labels: Counter[str] = Counter()
        for joined, count in combinations:
            for label in split_labels(joined):
                labels[label] += count
        return Summary(
            days=sorted(
                (DayCount(date.fromisoformat(day), count) for day, count in days),
                key=lambda day: day.date,
            ),
            labels=[Count(label, count) for label, count in labels.most_common(TOP_LABELS)],
            models=[Count(model, count) for model, count in models],
            latency_ms=await self._percentiles(span),
        )

    def _day(self, moment: Any) -> ColumnElement[str]:
        """The day in UTC as `YYYY-MM-DD`, in each database's own words."""
        if self._session.get_bind().dialect.name == "sqlite":
            # SQLite keeps moments as ISO text in UTC.
            return func.substr(moment, 1, 10, type_=String)
        return func.to_char(func.timezone("UTC", moment), "YYYY-MM-DD", type_=String)

    async def _count_by(
        self, records: Subquery, column: str, limit: int | None = None
    ) -> Sequence[tuple[str, int]]:
        group, count = records.c[column], func.count()
        query: Select[str, int] = (
            select(group, count).group_by(group).order_by(count.desc(), group).limit(limit)
        )
        return [(name, number) for name, number in await self._session.execute(query)]

    async def _percentiles(self, span: HistoryFilter) -> Percentiles | None:
        where = conditions(Prediction, self._user_id, span)
        number = await self._session.scalar(select(func.count(Prediction.id)).where(*where))
        if not number:
            return None
        ordered = select(Prediction.latency_ms).where(*where).order_by(Prediction.latency_ms)

        async def nearest_rank(fraction: float) -> float | None:
            return await self._session.scalar(
                ordered.limit(1).offset(math.ceil(fraction * number) - 1)
            )

        p50, p95 = await nearest_rank(0.50), await nearest_rank(0.95)
        # Records that are deleted between the statements may leave the rank empty.
        return None if p50 is None or p95 is None else Percentiles(p50, p95)
