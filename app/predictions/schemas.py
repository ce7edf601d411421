"""Bodies of the text-classification endpoints."""

import uuid
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from app.inference.base import ModelState
from app.schemas import Request, Schema

MAX_BATCH = 256

Text = Annotated[str, StringConstraints(min_length=1), Field(examples=["computer cpu memory ram"])]


class PredictionRequest(Request):
    """One text."""

    text: Text


class BatchPredictionRequest(Request):
    """Several texts, answered in order."""

    texts: Annotated[list[Text], Field(min_length=1, max_length=MAX_BATCH)]


class PredictionResponse(Schema):
    """What a text was taken for."""

    category: str = Field(examples=["comp.sys.mac.hardware"])
    probabilities: dict[str, float] = Field(
        description="Of every label, most probable first; they add up to 1.",
        examples=[{"comp.sys.mac.hardware": 0.97, "sci.crypt": 0.03}],
    )
    model: str = Field(examples=["newsgroups"])
    version: str = Field(description="Start of the artifact's SHA-256.", examples=["1f3a9c0b2d4e"])
    id: uuid.UUID = Field(description="Of the record in the history, where one is kept.")
    cached: bool = Field(description="Whether the answer was remembered from an equal text.")


class ModelResponse(Schema):
    """A model as its clients need to know it."""

    name: str
    task: str = Field(examples=["text-classification"])
    version: str = Field(description="Start of the artifact's SHA-256 or of its hub revision.")
    labels: list[str]
    input_schema: dict[str, Any]
    training_data: str
    quality: dict[str, Any] = Field(description="Measured on data the model has not seen.")
    libraries: dict[str, str] = Field(description="Versions it was made with.")
    device: str = Field(examples=["cpu"])
    backend: str = Field(
        "",
        description="What computes it, where there is a choice.",
        examples=["openvino 2026.4.1, bfloat16"],
    )
    state: ModelState
    description: str
    license: str
    notice: str | None = Field(description="What to know before trusting the answers.")
