"""A bare FastAPI app that validates the same body and answers a constant of the same shape.

What the framework allows at best: no identity, no model, no history.
"""

from typing import Annotated, Any

from fastapi import FastAPI
from pydantic import BaseModel, StringConstraints

app = FastAPI()

ANSWER = {
    "category": "sci.crypt",
    "probabilities": {
        "sci.crypt": 0.97,
        "comp.sys.mac.hardware": 0.01,
        "soc.religion.christian": 0.01,
        "talk.religion.misc": 0.01,
    },
    "model": "newsgroups",
    "version": "1f3a9c0b2d4e",
    "id": "0198f2a0-7c1e-7000-8000-000000000000",
    "cached": False,
}


class PredictionRequest(BaseModel):
    text: Annotated[str, StringConstraints(min_length=1)]


class PredictionResponse(BaseModel):
    category: str
    probabilities: dict[str, float]
    model: str
    version: str
    id: str
    cached: bool


@app.get("/health/live")
async def live() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/prediction")
async def predict(_body: PredictionRequest) -> PredictionResponse:
    answer: dict[str, Any] = ANSWER
    return PredictionResponse(**answer)
