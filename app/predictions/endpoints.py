"""The REST door of the text models, and the list of all models."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response, status
from starlette.requests import HTTPConnection

from app.auth.dependencies import AdminCaller, InferenceCaller
from app.calls import (
    CALL_HEADERS,
    DirectRoute,
    InferenceRequest,
    InferenceRequestDep,
    JSONAnswer,
    describe_body,
    read_inference_request,
    read_json,
    resolve,
)
from app.config import Settings
from app.database import new_id
from app.exceptions import PayloadTooLargeError
from app.history.records import PredictionRecord
from app.inference.base import ModelInfo
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
direct_router = APIRouter(route_class=DirectRoute)
"""Its routes belong into the application's own list."""


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


@direct_router.post(
    "/prediction",
    # As the application names the operations of its own routers.
    operation_id="predict",
    tags=["Predictions"],
    summary="Classify a text",
    response_model=PredictionResponse,
    responses=error_responses(401, 403, 413, 429, 500, 503, 504),
    openapi_extra=CALL_HEADERS | describe_body(PredictionRequest),
)
async def predict(http_request: Request) -> Response:
    """The most probable category of a text, with the probability of each."""
    request = await read_inference_request(http_request)
    body = await read_json(PredictionRequest, http_request)
    classifier = await resolve(get_text_classifier, http_request)
    _check_length(len(body.text), request.settings)
    found, cached = await classifier.predict(body.text, request.call)
    response, record = _answer(request, classifier.handle.info, body.text, found, cached)
    await request.keep(record)
    return JSONAnswer(response, found.timing)


@router.post(
    "/predictions/batch",
    tags=["Predictions"],
    summary="Classify up to 256 texts",
    response_model=list[PredictionResponse],
    responses=error_responses(401, 403, 413, 429, 500, 503, 504),
    openapi_extra=CALL_HEADERS,
)
async def predict_batch(
    body: BatchPredictionRequest, classifier: TextClassifier, request: InferenceRequestDep
) -> Response:
    """Answers in the order of the texts; all of them, or an error and none."""
    _check_length(max(map(len, body.texts)), request.settings)
    info = classifier.handle.info
    found = await classifier.predict_many(body.texts, request.call)
    answers = [
        _answer(request, info, text, one, cached)
        for text, (one, cached) in zip(body.texts, found, strict=True)
    ]
    await request.keep([record for _, records in answers for record in records])
    slowest = max((one.timing for one, _ in found), key=lambda timing: timing.total_ms)
    return JSONAnswer([response for response, _ in answers], slowest)


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


def _check_length(longest: int, settings: Settings) -> None:
    if longest > settings.max_text_length:
        raise PayloadTooLargeError(
            f"A text has {longest:,} characters; the limit is {settings.max_text_length:,}.",
            code="text_too_long",
        )


def _answer(
    request: InferenceRequest,
    info: ModelInfo,
    text: str,
    found: Answer[Classification],
    cached: bool,
) -> tuple[dict[str, Any], list[PredictionRecord]]:
    """What the caller is told, and what is kept of it: one record, or none."""
    prediction_id = new_id()
    output = found.output
    # A `PredictionResponse`, whose parts were checked when they were made.
    response = {
        "category": output.category,
        "probabilities": output.probabilities,
        "model": info.name,
        "version": info.version,
        "id": prediction_id,
        "cached": cached,
    }
    user_id = request.caller.user_id
    if request.recorder is None or user_id is None:
        return response, []
    record = PredictionRecord(
        id=prediction_id,
        user_id=user_id,
        kind="text",
        model=info.name,
        model_version=info.version,
        result={"category": output.category, "probabilities": output.probabilities},
        labels=(output.category,),
        latency_ms=found.timing.total_ms,
        input_text=text,
        cached=cached,
    )
    return response, [record]


def _describe(handle: ModelHandle[object, object]) -> ModelResponse:
    return ModelResponse.model_validate({**asdict(handle.info), "state": handle.state})
