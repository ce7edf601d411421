"""What clients send to and read from the history."""

import datetime
import uuid
from datetime import UTC
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from app.history.models import Prediction, Stream, split_labels
from app.history.repository import HistoryFilter, HistoryRow
from app.history.search import MAX_SEARCH_LENGTH
from app.schemas import Page, Request, Schema, UtcTime, refuse_number

# PostgreSQL's text cannot hold NUL.
_NO_NUL = r"^[^\x00]*$"
_EXAMPLE_ID = "01938d2a-7c4e-7b1f-9d53-5f0c8a6e2b11"


def _in_utc(moment: datetime.datetime) -> datetime.datetime:
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the moment lies outside the years 1 to 9999 in UTC") from error


Moment = Annotated[datetime.datetime, BeforeValidator(refuse_number), AfterValidator(_in_utc)]
Label = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=_NO_NUL),
    Field(examples=["cat"]),
]
Comment = Annotated[
    str,
    StringConstraints(max_length=2000, pattern=_NO_NUL),
    Field(examples=["It is a lynx."]),
]


class TimeSpanQuery(Request):
    since: Moment | None = Field(
        default=None,
        alias="from",
        description="Earliest moment, inclusive. One without a zone is taken as UTC.",
        examples=["2026-11-01T00:00:00Z"],
    )
    until: Moment | None = Field(
        default=None,
        alias="to",
        description="Latest moment, exclusive. One without a zone is taken as UTC.",
        examples=["2026-12-01T00:00:00Z"],
    )


class HistoryFilterQuery(TimeSpanQuery):
    kind: Literal["text", "image", "stream"] | None = Field(
        default=None, description="Only items of this kind."
    )
    model: (
        Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_NO_NUL)] | None
    ) = Field(default=None, description="Only items of this model.", examples=["newsgroups"])
    label: (
        Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_NO_NUL)] | None
    ) = Field(
        default=None,
        description="Only items in which this label was found, a stream's in any frame. "
        "The whole label, without regard to case.",
        examples=["cat"],
    )
    q: (
        Annotated[
            str,
            StringConstraints(
                strip_whitespace=True,
                min_length=1,
                max_length=MAX_SEARCH_LENGTH,
                pattern=_NO_NUL,
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="Only items that have these words, as they are, in their text, file name, "
        "labels or feedback. Without regard to case; no character is a wildcard.",
        examples=["cipher key"],
    )

    def to_filter(self) -> HistoryFilter:
        return HistoryFilter(
            kind=self.kind,
            model=self.model,
            label=self.label,
            since=self.since,
            until=self.until,
            words=self.q,
        )


class HistoryQuery(HistoryFilterQuery):
    limit: int = Field(default=20, ge=1, le=100, description="Items on a page.")
    cursor: Annotated[str, StringConstraints(max_length=100)] | None = Field(
        default=None, description="The `next_cursor` of the page before."
    )


class FeedbackCreate(Request):
    label: Label = Field(description="What the answer should have been.")
    comment: Comment | None = None


class FeedbackUpdate(Request):
    """The fields to change; the others stay."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    # A factory keeps the placeholder out of the OpenAPI document; an unset field is never read.
    label: Label = Field(default_factory=str, description="What the answer should have been.")
    comment: Comment | None = Field(default=None, description="Null takes the comment away.")

    @model_validator(mode="after")
    def _check_not_empty(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("name at least one field to change")
        return self


class FeedbackResponse(Schema):
    label: str = Field(examples=["cat"])
    comment: str | None = Field(examples=["It is a lynx."])
    created_at: UtcTime
    updated_at: UtcTime


class TextInput(Schema):
    text: str = Field(examples=["computer cpu memory ram"])


class ImageInput(Schema):
    name: str | None = Field(description="The uploaded file's name.", examples=["cat.jpg"])
    has_picture: bool = Field(
        description="Whether `GET /history/{id}/image` answers a copy of the picture.",
        examples=[True],
    )


class _Item(Schema):
    id: uuid.UUID = Field(examples=[_EXAMPLE_ID])
    model: str = Field(examples=["newsgroups"])
    version: str = Field(description="The model's digest or revision.", examples=["9f2c6d1b7a30"])
    created_at: UtcTime


class _PredictionItem(_Item):
    result: dict[str, Any] = Field(
        description="The answer's own fields.",
        examples=[{"category": "comp.sys.mac.hardware"}],
    )
    labels: list[str] = Field(examples=[["comp.sys.mac.hardware"]])
    latency_ms: float = Field(description="From arrival to answer.", examples=[3.2])
    cached: bool = Field(description="Answered from the prediction cache.")
    feedback: FeedbackResponse | None


class TextItem(_PredictionItem):
    """A text that was classified."""

    kind: Literal["text"]
    input: TextInput


class ImageItem(_PredictionItem):
    """An uploaded picture in which objects were detected."""

    kind: Literal["image"]
    input: ImageInput


class StreamItem(_Item):
    """A WebSocket stream that has ended."""

    kind: Literal["stream"]
    duration_s: float
    frames_received: int
    frames_processed: int
    frames_dropped: int = Field(description="Replaced by a newer frame before their turn came.")
    frames_failed: int
    latency_ms: float | None = Field(
        description="Mean from a frame's arrival to its answer; null when none was answered."
    )
    label_counts: dict[str, int] = Field(
        description="How many times each label was found, over all frames.",
        examples=[{"person": 112, "cup": 40}],
    )
    close_code: int = Field(description="The WebSocket's close code.", examples=[1000])


HistoryItem = Annotated[TextItem | ImageItem | StreamItem, Field(discriminator="kind")]


class HistoryPage(Page[HistoryItem]):
    """A page of the history. Named, for the generic's own name is no name for a client's class."""


class DayCountResponse(Schema):
    date: datetime.date = Field(description="A day in UTC.")
    count: int


class LabelCountResponse(Schema):
    label: str = Field(examples=["cat"])
    count: int = Field(description="Items in which the label was found; a stream is one item.")


class ModelCountResponse(Schema):
    model: str = Field(examples=["newsgroups"])
    count: int


class PercentilesResponse(Schema):
    p50: float = Field(examples=[3.1])
    p95: float = Field(examples=[12.4])


class SummaryResponse(Schema):
    days: list[DayCountResponse] = Field(
        description="Items of each day in UTC, oldest first; days without any are left out."
    )
    labels: list[LabelCountResponse] = Field(description="The 20 most frequent, first the most.")
    models: list[ModelCountResponse] = Field(description="First the most used.")
    latency_ms: PercentilesResponse | None = Field(
        description="Of texts and images; null when there are none."
    )


def to_item(row: HistoryRow) -> TextItem | ImageItem | StreamItem:
    """The item that a client sees of a stored row."""
    common = {
        "id": row.id,
        "model": row.model,
        "version": row.model_version,
        "created_at": row.created_at,
        "latency_ms": row.latency_ms,
    }
    if isinstance(row, Stream):
        return StreamItem(
            **common,
            kind="stream",
            duration_s=row.duration_s,
            frames_received=row.frames_received,
            frames_processed=row.frames_processed,
            frames_dropped=row.frames_dropped,
            frames_failed=row.frames_failed,
            label_counts=row.label_counts,
            close_code=row.close_code,
        )
    return _to_prediction_item(row, common)


def _to_prediction_item(row: Prediction, common: dict[str, Any]) -> TextItem | ImageItem:
    common |= {
        "result": row.result,
        "labels": split_labels(row.labels),
        "cached": row.cached,
        "feedback": row.feedback and FeedbackResponse.model_validate(row.feedback),
    }
    if row.kind == "text":
        return TextItem(**common, kind="text", input=TextInput(text=row.input_text or ""))
    return ImageItem(
        **common,
        kind="image",
        input=ImageInput(name=row.input_name, has_picture=row.picture is not None),
    )
