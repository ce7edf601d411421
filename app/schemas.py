"""What all schemas share: their base, the page of a listing, the error answer."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer


def _to_utc_z(moment: datetime) -> str:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


UtcTime = Annotated[
    datetime,
    PlainSerializer(_to_utc_z, return_type=str, when_used="json"),
    Field(examples=["2026-11-22T09:30:00.000Z"]),
]
"""A moment in UTC; in JSON ISO 8601 with `Z`, to the millisecond."""


def refuse_number(value: object) -> object:
    """Pydantic takes a number for the seconds since 1970, which the OpenAPI document says not."""
    if isinstance(value, int | float) or (isinstance(value, str) and _NUMBER.fullmatch(value)):
        raise ValueError("a moment is written as ISO 8601 has it, as 2026-11-22T09:30:00Z")
    return value


_NUMBER = re.compile(r"\s*[+-]?[\d_.]+(e[+-]?\d+)?\s*", re.IGNORECASE)


class Schema(BaseModel):
    """Base of every request and answer body."""

    # `model` and `model_version` are words of this field, not of pydantic.
    model_config = ConfigDict(from_attributes=True, protected_namespaces=())


class Request(Schema):
    """Base of request bodies: an unknown field is a mistake worth telling."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


Item = TypeVar("Item")


class Page(Schema, Generic[Item]):
    """One page of a listing; `next_cursor` is null on the last one."""

    items: list[Item]
    next_cursor: str | None = Field(
        default=None, description="Send it as `cursor` to read the next page."
    )


class ErrorResponse(Schema):
    """The answer to every refused or failed call, except payload validation."""

    detail: str = Field(description="One sentence for people.")
    code: str = Field(description="A stable snake_case identifier for programs.")
    request_id: str | None = Field(description="Also in the `X-Request-ID` header.")


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Declare the error answers of an endpoint for the OpenAPI document."""
    return {
        status: {"model": ErrorResponse, "description": _REASONS[status]} for status in statuses
    }


_REASONS = {
    400: "The request cannot be carried out as it stands.",
    401: "No identity, or one that is not valid any more.",
    403: "Known, but not allowed.",
    404: "Not there, or not yours.",
    408: "The body did not arrive in time.",
    409: "In conflict with what is there.",
    413: "Larger than the limit.",
    415: "Not an accepted kind of content.",
    422: "The content is invalid.",
    429: "Over your quota; see `Retry-After`.",
    500: "Our fault; name the request id when you report it.",
    503: "Over capacity or not ready; see `Retry-After`.",
    504: "The deadline passed.",
}
