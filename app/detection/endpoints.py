"""The detector's doors: one upload by REST, and the WebSocket whose life is in `stream`."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Annotated

from fastapi import APIRouter, File, Header, Query, Response, UploadFile, WebSocket
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.auth.dependencies import Caller, admit_stream, authenticate_stream
from app.calls import (
    CALL_HEADERS,
    InferenceRequest,
    InferenceRequestDep,
    JSONAnswer,
    server_timing,
)
from app.config import Settings
from app.database import new_id
from app.database_errors import is_database_unavailable
from app.detection.dependencies import Detector, DetectorHandle, Keeper, Streams
from app.detection.drawing import draw
from app.detection.keeping import TakeCopy, take_nothing
from app.detection.schemas import (
    DetectionResponse,
    ImageResponse,
    Labels,
    MaxObjects,
    ObjectResponse,
    Threshold,
)
from app.detection.stream import CloseCode, DetectionStream, TooManyStreamsError
from app.exception_handlers import DatabaseUnavailableError
from app.exceptions import AppError, RetryableError
from app.history.dependencies import RecorderDep
from app.history.records import PictureCopy, PredictionRecord
from app.inference.engine import Timing
from app.inference.images import ImageLimits
from app.inference.yolos import Detections, DetectionSettings, ImageInput
from app.schemas import error_responses

router = APIRouter(tags=["Object detection"])


_PICTURES = ("image/png", "image/jpeg")


@router.post(
    "/object-detection",
    summary="Find the objects in an image",
    response_model=DetectionResponse,
    responses=error_responses(401, 403, 413, 415, 422, 429, 500, 503, 504)
    | {
        200: {
            "description": "The objects; or, if `Accept` asks for it, the picture with boxes.",
            "content": {
                picture: {"schema": {"type": "string", "format": "binary"}} for picture in _PICTURES
            },
        }
    },
    openapi_extra=CALL_HEADERS,
)
async def detect(
    # Generators of clients know files by this format.
    image: Annotated[
        UploadFile, File(description="JPEG, PNG or WebP.", json_schema_extra={"format": "binary"})
    ],
    detector: Detector,
    request: InferenceRequestDep,
    keeper: Keeper,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
    threshold: Annotated[Threshold | None, Query()] = None,
    labels: Annotated[Labels, Query()] = [],  # noqa: B006 (FastAPI copies it)
    max_objects: Annotated[MaxObjects, Query()] = 100,
) -> Response:
    """Boxes are in pixels of the image as a person sees it (EXIF orientation applied), clipped
    to it, best first. With `Accept: image/png` or `image/jpeg` the answer is the picture with
    the boxes drawn."""
    settings = request.settings
    wanted = DetectionSettings(
        threshold=settings.detection_threshold if threshold is None else threshold,
        labels=frozenset(labels) or None,
        max_objects=max_objects,
    )
    data = await image.read()
    copying: AbstractAsyncContextManager[TakeCopy] = nullcontext(take_nothing)
    if keeper is not None and request.recorder is not None:
        copying = keeper.copying(data, request.call.deadline)
    async with copying as take_copy:
        found = await detector.predict(ImageInput(data, wanted), request.call)
        kept = await take_copy()
    response = _response(detector, found.output)
    await request.keep(_records(request, response, image.filename, found.timing, kept))
    picture = _accepted_picture(accept)
    if picture is None:
        return JSONAnswer(response, found.timing)
    limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
    drawn = await asyncio.to_thread(draw, data, found.output, limits, picture)
    headers = {"Server-Timing": server_timing(found.timing)}
    return Response(drawn, media_type=picture, headers=headers)


@router.websocket("/object-detection")
async def stream(
    websocket: WebSocket, detector: Detector, recorder: RecorderDep, streams: Streams
) -> None:
    """Frames in, objects out; see `DetectionStream`."""
    settings: Settings = websocket.app.state.settings
    # Accepted first, refused after: a close code before the handshake reaches no browser.
    await websocket.accept()
    try:
        caller = await _look_up(websocket, admit_stream)
    except AppError as error:
        waiting_helps = isinstance(error, RetryableError)
        code = CloseCode.TRY_LATER if waiting_helps else CloseCode.NOT_ALLOWED
        await websocket.close(code, error.detail)
        return
    open_stream = DetectionStream(
        websocket,
        detector,
        caller,
        authenticate=lambda: _look_up(websocket, authenticate_stream),
        recorder=recorder,
        settings=DetectionSettings(threshold=settings.detection_threshold),
        max_frame_bytes=settings.max_image_bytes,
        frame_timeout_s=settings.request_timeout_s,
        store=websocket.headers.get("x-no-store") != "1",
    )
    try:
        with streams.admit(open_stream):
            await open_stream.run()
    except TooManyStreamsError as error:
        await websocket.close(CloseCode.TRY_LATER, error.detail)


async def _look_up(
    websocket: WebSocket, find_caller: Callable[[WebSocket], Awaitable[Caller]]
) -> Caller:
    """The caller, or an `AppError`, also while the database is away: no handler of exceptions
    closes a WebSocket."""
    try:
        return await find_caller(websocket)
    except (DBAPIError, PoolTimeoutError, OSError) as error:
        if is_database_unavailable(error):
            raise DatabaseUnavailableError from error
        raise


def _response(detector: DetectorHandle, detections: Detections) -> DetectionResponse:
    return DetectionResponse(
        objects=[
            ObjectResponse(box=found.box, label=found.label, score=found.score)
            for found in detections.objects
        ],
        image=ImageResponse(width=detections.width, height=detections.height),
        model=detector.info.name,
        version=detector.info.version,
        id=new_id(),
    )


def _records(
    request: InferenceRequest,
    response: DetectionResponse,
    file_name: str | None,
    timing: Timing,
    picture: PictureCopy | None,
) -> list[PredictionRecord]:
    """What is kept of an answer: one record, or none."""
    user_id = request.caller.user_id
    if request.recorder is None or user_id is None:
        return []
    record = PredictionRecord(
        id=response.id,
        user_id=user_id,
        kind="image",
        model=response.model,
        model_version=response.version,
        result=response.model_dump(mode="json", include={"objects", "image"}),
        labels=tuple(dict.fromkeys(found.label for found in response.objects)),
        latency_ms=timing.total_ms,
        input_name=file_name,
        picture=picture,
    )
    return [record]


def _accepted_picture(accept: str) -> str | None:
    """The picture type that `Accept` names before JSON or anything, if it does."""
    for media_range in accept.split(","):
        media_type = media_range.partition(";")[0].strip().lower()
        if media_type in _PICTURES:
            return media_type
        if media_type == "image/*":
            return "image/png"
        if media_type in ("application/json", "application/*", "*/*"):
            return None
    return None
