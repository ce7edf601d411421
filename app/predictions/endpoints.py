"""The REST door of the text models, and the list of all models."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Response, status
from starlette.requests import HTTPConnection

from app.auth.dependencies import AdminCaller, InferenceCaller
from app.calls import InferenceRequest, InferenceRequestDep, server_timing
from app.config import Settings
from app.database import new_id
from app.exceptions import PayloadTooLargeError
from app.history.dependencies import RecorderDep
from app.history.records import PredictionRecord
from app.inference.cache import CachingClassifier
from app.inference.engine import Answer, InferenceEngine, ModelHandle
from app.inference.joblib_pipeline import Classification
from app.predictions.schemas import (
    BatchPredictionRequest,
    ModelResponse,
    PredictionRequest,
    PredictionResponse,
)
from app.schemas import error_responses

router = APIRouter()


# Async, as FastAPI runs other dependencies in a thread.
async def get_text_classifier(connection: HTTPConnection) -> CachingClassifier:
    """The text model behind its cache, as the lifespan started it."""
    classifier: CachingClassifier = connection.app.state.text_classifier
    connection.scope.setdefault("state", {})["model"] = classifier.handle.name
    return classifier


async def get_engine(connection: HTTPConnection) -> InferenceEngine:
    """The engine with all models."""
    engine: InferenceEngine = connection.app.state.engine
    return engine


TextClassifier = Annotated[CachingClassifier, Depends(get_text_classifier)]
Engine = Annotated[InferenceEngine, Depends(get_engine)]


@router.post(
    "/prediction",
    tags=["Predictions"],
    summary="Classify a text",
    responses=error_responses(401, 403, 413, 429, 503, 504),
)
async def predict(
    body: PredictionRequest,
    response: Response,
    classifier: TextClassifier,
    recorder: RecorderDep,
    request: InferenceRequestDep,
    connection: HTTPConnection,
) -> PredictionResponse:
    """The most probable category of a text, with the probability of each."""
    _check_length([body.text], connection.app.state.settings)
    answer, cached = await classifier.predict(body.text, request.call)
    record = _record(request, classifier, body.text, answer, cached)
    if record is not None:
        await recorder.record(record)
    response.headers["Server-Timing"] = server_timing(answer.timing)
    return _response(classifier, answer, cached, record)


@router.post(
    "/predictions/batch",
    tags=["Predictions"],
    summary="Classify up to 256 texts",
    responses=error_responses(401, 403, 413, 429, 503, 504),
)
async def predict_batch(
    body: BatchPredictionRequest,
    response: Response,
    classifier: TextClassifier,
    recorder: RecorderDep,
    request: InferenceRequestDep,
    connection: HTTPConnection,
) -> list[PredictionResponse]:
    """Answers in the order of the texts; all of them, or an error and none."""
    _check_length(body.texts, connection.app.state.settings)
    answers = await classifier.predict_many(body.texts, request.call)
    records = [
        _record(request, classifier, text, answer, cached)
        for text, (answer, cached) in zip(body.texts, answers, strict=True)
    ]
    await recorder.record(*(record for record in records if record is not None))
    slowest = max((answer.timing for answer, _ in answers), key=lambda timing: timing.total_ms)
    response.headers["Server-Timing"] = server_timing(slowest)
    return [
        _response(classifier, answer, cached, record)
        for (answer, cached), record in zip(answers, records, strict=True)
    ]


@router.delete(
    "/cache",
    tags=["Administration"],
    summary="Forget all remembered predictions",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=error_responses(401, 403, 503),
)
async def clear_cache(_caller: AdminCaller, classifier: TextClassifier) -> None:
    """Empties the prediction cache, in all processes that share it. For administrators."""
    await classifier.clear()


@router.get("/models", tags=["Models"], summary="All models", responses=error_responses(401, 429))
async def list_models(_caller: InferenceCaller, engine: Engine) -> list[ModelResponse]:
    """Every model with its labels, version, measured quality and state."""
    return [_describe(handle) for handle in engine.handles]


@router.get(
    "/models/{name:path}",
    tags=["Models"],
    summary="One model",
    responses=error_responses(401, 404, 429),
)
async def read_model(name: str, _caller: InferenceCaller, engine: Engine) -> ModelResponse:
    """One model; a hub id such as `hustvl/yolos-tiny` is written as it is, slash and all."""
    return _describe(engine.get(name))


def _check_length(texts: list[str], settings: Settings) -> None:
    longest = max(map(len, texts))
    if longest > settings.max_text_length:
        raise PayloadTooLargeError(
            f"A text has {longest:,} characters; the limit is {settings.max_text_length:,}.",
            code="text_too_long",
        )


def _record(
    request: InferenceRequest,
    classifier: CachingClassifier,
    text: str,
    answer: Answer[Classification],
    cached: bool,
) -> PredictionRecord | None:
    user_id = request.caller.user_id
    if not request.store or user_id is None:
        return None
    info = classifier.handle.info
    return PredictionRecord(
        user_id=user_id,
        kind="text",
        model=info.name,
        model_version=info.version,
        result={
            "category": answer.output.category,
            "probabilities": dict(answer.output.probabilities),
        },
        labels=(answer.output.category,),
        latency_ms=answer.timing.total_ms,
        input_text=text,
        cached=cached,
    )


def _response(
    classifier: CachingClassifier,
    answer: Answer[Classification],
    cached: bool,
    record: PredictionRecord | None,
) -> PredictionResponse:
    info = classifier.handle.info
    return PredictionResponse(
        category=answer.output.category,
        probabilities=dict(answer.output.probabilities),
        model=info.name,
        version=info.version,
        id=record.id if record is not None else new_id(),
        cached=cached,
    )


def _describe(handle: ModelHandle[object, object]) -> ModelResponse:
    return ModelResponse.model_validate({**asdict(handle.info), "state": handle.state})
