"""Bodies and messages of the detector's doors."""

import uuid
from typing import Annotated, Any

from pydantic import Field

from app.inference.engine import Timing
from app.inference.yolos import Detections, DetectionSettings
from app.schemas import Request, Schema

MAX_OBJECTS = 1000

Threshold = Annotated[float, Field(ge=0, le=1, description="Only scores above it.")]
Labels = Annotated[
    list[str], Field(max_length=200, description="Only these labels; none named means all.")
]
MaxObjects = Annotated[int, Field(ge=1, le=MAX_OBJECTS, description="Only the best so many.")]


class ObjectResponse(Schema):
    """One object that was found."""

    box: tuple[float, float, float, float] = Field(
        description="x1, y1, x2, y2 in pixels of the image as a person sees it.",
        examples=[[12.5, 30.0, 220.75, 410.0]],
    )
    label: str = Field(examples=["person"])
    score: float = Field(examples=[0.98])


class ImageResponse(Schema):
    """The size of the image as a person sees it, in pixels."""

    width: int = Field(examples=[640])
    height: int = Field(examples=[480])


class DetectionResponse(Schema):
    """All objects of an image, best first."""

    objects: list[ObjectResponse]
    image: ImageResponse
    model: str = Field(examples=["hustvl/yolos-tiny"])
    version: str
    id: uuid.UUID = Field(description="Of the record in the history, where one is kept.")


class StreamSettings(Request):
    """A text message of a stream's client: what is named changes from the next frame on."""

    threshold: Threshold | None = None
    labels: Labels | None = None
    max_objects: MaxObjects | None = None

    def apply_to(self, settings: DetectionSettings) -> DetectionSettings:
        """`settings` with what this message names; an empty list of labels means all."""
        return DetectionSettings(
            threshold=settings.threshold if self.threshold is None else self.threshold,
            labels=settings.labels if self.labels is None else frozenset(self.labels) or None,
            max_objects=settings.max_objects if self.max_objects is None else self.max_objects,
        )


def describe_objects(detections: Detections) -> list[dict[str, Any]]:
    """The `objects` of an answer, as JSON takes them."""
    return [
        {"box": list(found.box), "label": found.label, "score": found.score}
        for found in detections.objects
    ]


def frame_message(
    detections: Detections, timing: Timing, *, frame: int, dropped: int
) -> dict[str, Any]:
    """A stream's answer to one frame."""
    return {
        "objects": describe_objects(detections),
        "frame": frame,
        "dropped": dropped,
        "image": {"width": detections.width, "height": detections.height},
        "timing": {
            "decode_ms": round(timing.decode_ms, 2),
            "queue_ms": round(timing.queue_ms, 2),
            "inference_ms": round(timing.inference_ms, 2),
        },
    }
