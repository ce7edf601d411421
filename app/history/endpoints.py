"""The REST door of a person's history."""

import re
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Path, Query, Response, status
from fastapi.responses import StreamingResponse

from app.database import DatabaseDep
from app.history.csv_export import export
from app.history.dependencies import HistoryServiceDep, OwnerId
from app.history.models import Feedback
from app.history.schemas import (
    FeedbackCreate,
    FeedbackResponse,
    FeedbackUpdate,
    HistoryFilterQuery,
    HistoryItem,
    HistoryPage,
    HistoryQuery,
    ImageItem,
    LabelCountResponse,
    ModelCountResponse,
    StreamItem,
    SummaryResponse,
    TextItem,
    TimeSpanQuery,
    to_item,
)
from app.history.service import check_time_range
from app.schemas import error_responses

router = APIRouter(tags=["History"])

ItemId = Annotated[uuid.UUID, Path(alias="id", description="The item's id, as answers carry it.")]


@router.get(
    "/history",
    summary="List what was predicted for you",
    responses=error_responses(400, 401),
)
async def list_history(
    service: HistoryServiceDep, query: Annotated[HistoryQuery, Query()]
) -> HistoryPage:
    """Your predictions, detections and streams together, newest first, page by page.

    Send the `next_cursor` of a page as `cursor` to read the next one, with the same filters.
    Items that are added meanwhile do not move the pages that follow.
    """
    rows, next_cursor = await service.list_page(query.to_filter(), query.cursor, query.limit)
    return HistoryPage(items=[to_item(row) for row in rows], next_cursor=next_cursor)


@router.delete(
    "/history",
    status_code=status.HTTP_204_NO_CONTENT,
    summary="Delete your whole history",
    responses=error_responses(401, 403),
)
async def delete_history(service: HistoryServiceDep) -> None:
    """Deletes all your predictions, detections and streams, and the feedback on them, for good."""
    await service.delete_all()


@router.get(
    "/history.csv",
    summary="Download your history as CSV",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "RFC 4180 with a line of column names, UTF-8, newest first.",
            "content": {"text/csv": {"schema": {"type": "string"}}},
        },
        **error_responses(400, 401),
    },
)
async def download_history(
    database: DatabaseDep, owner_id: OwnerId, query: Annotated[HistoryFilterQuery, Query()]
) -> StreamingResponse:
    """Everything that `GET /history` lists with the same filters, in one file.

    Cells that a spreadsheet would run as a formula begin with an apostrophe.
    """
    check_time_range(query.since, query.until)
    pages = export(database, owner_id, query.to_filter())
    # A database that does not answer is told with a status of its own, not by a torn file.
    first = await anext(pages)

    async def content() -> AsyncIterator[bytes]:
        yield first
        async for page in pages:
            yield page

    return StreamingResponse(
        content(),
        media_type="text/csv; charset=utf-8; header=present",
        headers={"Content-Disposition": 'attachment; filename="lookout-history.csv"'},
    )


@router.get(
    "/history/summary",
    summary="Count what was predicted for you",
    responses=error_responses(400, 401),
)
async def summarise_history(
    service: HistoryServiceDep, query: Annotated[TimeSpanQuery, Query()]
) -> SummaryResponse:
    """Items a day, a label and a model, and how long answers took: by default of the last 30 days.

    Labels are counted over the 10,000 most frequent combinations of labels.
    """
    summary = await service.summarise(query.since, query.until)
    return SummaryResponse.model_validate(
        {
            "days": summary.days,
            "labels": [
                LabelCountResponse(label=label.name, count=label.count) for label in summary.labels
            ],
            "models": [
                ModelCountResponse(model=model.name, count=model.count) for model in summary.models
            ],
            "latency_ms": summary.latency_ms,
        }
    )


# Only an id has this form: `DELETE /history/summary` is no item's deletion.
@router.get(
    "/history/{id:uuid}",
    summary="Read one item",
    response_model=HistoryItem,
    responses=error_responses(401, 404),
)
async def get_history_item(
    service: HistoryServiceDep, item_id: ItemId
) -> TextItem | ImageItem | StreamItem:
    """A prediction or detection with its feedback, or a stream."""
    return to_item(await service.get(item_id))


@router.delete(
    "/history/{id:uuid}",
    status_code=status.HTTP_204_NO_CONTENT,
    summary="Delete one item",
    responses=error_responses(401, 403, 404),
)
async def delete_history_item(service: HistoryServiceDep, item_id: ItemId) -> None:
    """Deletes the item, and the feedback on it, for good."""
    await service.delete(item_id)


@router.get(
    "/history/{id}/image",
    summary="See the picture of a detection",
    response_class=Response,
    responses={
        200: {
            "description": "JPEG, upright, scaled down, without metadata.",
            "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
        },
        304: {"description": "The caller has this picture: it never changes."},
        **error_responses(401, 404),
    },
)
async def get_history_image(
    service: HistoryServiceDep,
    item_id: ItemId,
    size: Annotated[
        Literal["full", "thumbnail"], Query(description="`thumbnail`: for lists, 160 pixels.")
    ] = "full",
    if_none_match: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """The copy that was kept of the uploaded image. Boxes are in pixels of the original, whose
    size is in the item's `result.image`: scale them by the ratio of the two widths.

    404 where none is kept: texts and streams, `X-No-Store: 1`, `KEEP_IMAGES=false`, and records
    from before pictures were kept.
    """
    etag = f'"{item_id.hex}-{size}"'
    # Asked for again each time, so that what was deleted, or is another person's, is not shown.
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if etag in re.findall(r'"[^"]*"', if_none_match):
        await service.check_picture(item_id)
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
    picture = await service.get_picture(item_id, thumbnail=size == "thumbnail")
    return Response(picture, media_type="image/jpeg", headers=headers)


@router.post(
    "/history/{id}/feedback",
    status_code=status.HTTP_201_CREATED,
    summary="Say what an answer should have been",
    response_model=FeedbackResponse,
    responses=error_responses(401, 403, 404, 409),
)
async def create_feedback(
    service: HistoryServiceDep, item_id: ItemId, body: FeedbackCreate, response: Response
) -> Feedback:
    """Adds your feedback to a prediction or detection. There is at most one on each (409).

    A stream has many answers and takes none (409).
    """
    feedback = await service.add_feedback(item_id, body.label, body.comment)
    response.headers["Location"] = f"/history/{item_id}/feedback"
    return feedback


@router.get(
    "/history/{id}/feedback",
    summary="Read the feedback on an item",
    response_model=FeedbackResponse,
    responses=error_responses(401, 404),
)
async def get_feedback(service: HistoryServiceDep, item_id: ItemId) -> Feedback:
    """Your feedback on a prediction or detection."""
    return await service.get_feedback(item_id)


@router.patch(
    "/history/{id}/feedback",
    summary="Change the feedback on an item",
    response_model=FeedbackResponse,
    responses=error_responses(401, 403, 404),
)
async def update_feedback(
    service: HistoryServiceDep, item_id: ItemId, body: FeedbackUpdate
) -> Feedback:
    """Changes the fields that are sent and leaves the others."""
    return await service.change_feedback(item_id, body.model_dump(exclude_unset=True))


@router.delete(
    "/history/{id}/feedback",
    status_code=status.HTTP_204_NO_CONTENT,
    summary="Delete the feedback on an item",
    responses=error_responses(401, 403, 404),
)
async def delete_feedback(service: HistoryServiceDep, item_id: ItemId) -> None:
    """Deletes the feedback; the item stays."""
    await service.delete_feedback(item_id)
