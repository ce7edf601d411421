"""What every inference door reads from a request, and puts on its answer."""

import time
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request

from app.auth.dependencies import Caller, InferenceCaller
from app.config import Settings
from app.inference.engine import Call, Timing


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """Who asks, until when, and whether the answer goes into their history."""

    caller: Caller
    call: Call
    store: bool


async def get_inference_request(
    request: Request,
    caller: InferenceCaller,
    x_timeout_ms: Annotated[
        int | None,
        Header(
            ge=1,
            le=600_000,
            description="Deadline in milliseconds from arrival; the service's own is the longest.",
        ),
    ] = None,
    x_no_store: Annotated[
        str | None, Header(description="`1`: keep nothing of this call in the history.")
    ] = None,
) -> InferenceRequest:
    """Read the headers that all inference endpoints share."""
    settings: Settings = request.app.state.settings
    timeout_s = settings.request_timeout_s
    if x_timeout_ms is not None:
        timeout_s = min(timeout_s, x_timeout_ms / 1000)
    arrived = request.scope["state"].get("arrived_at") or time.monotonic()

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    return InferenceRequest(
        caller=caller,
        call=Call(flow=caller.key, deadline=arrived + timeout_s, gone=gone),
        store=not caller.is_anonymous and x_no_store != "1",
    )


InferenceRequestDep = Annotated[InferenceRequest, Depends(get_inference_request)]


def server_timing(timing: Timing) -> str:
    """The `Server-Timing` header of an inference answer, in milliseconds."""
    return (
        f"decode;dur={timing.decode_ms:.2f}, queue;dur={timing.queue_ms:.2f}, "
        f"inference;dur={timing.inference_ms:.2f}, total;dur={timing.total_ms:.2f}"
    )
