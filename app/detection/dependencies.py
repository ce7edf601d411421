"""What the detector's doors ask for."""

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from app.detection.keeping import PictureKeeper
from app.detection.stream import StreamRegistry
from app.inference.engine import ModelHandle
from app.inference.yolos import Detections, ImageInput

DetectorHandle = ModelHandle[ImageInput, Detections]


# Async, as FastAPI runs other dependencies in a thread.
async def get_detector(connection: HTTPConnection) -> DetectorHandle:
    """The object detector, as the lifespan started it."""
    detector: DetectorHandle = connection.app.state.detector
    connection.scope.setdefault("state", {})["model"] = detector.name
    return detector


async def get_streams(connection: HTTPConnection) -> StreamRegistry:
    """The open streams of this process."""
    streams: StreamRegistry = connection.app.state.streams
    return streams


async def get_picture_keeper(connection: HTTPConnection) -> PictureKeeper | None:
    """What makes the history's copies of images; None where the settings keep none."""
    keeper: PictureKeeper | None = connection.app.state.picture_keeper
    return keeper


Detector = Annotated[DetectorHandle, Depends(get_detector)]
Streams = Annotated[StreamRegistry, Depends(get_streams)]
Keeper = Annotated[PictureKeeper | None, Depends(get_picture_keeper)]
