"""The application: `create_app`, and the lifespan that owns every resource."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.telemetry import TelemetryConfig
from loguru import logger

from app import __version__
from app.administration.endpoints import router as administration_router
from app.auth.address_limit import AddressLimitMiddleware
from app.auth.authenticator import Authenticator
from app.auth.dependencies import declare_security_schemes
from app.auth.endpoints import router as auth_router
from app.config import Settings, get_settings
from app.database import Database
from app.detection.endpoints import router as detection_router
from app.detection.keeping import PictureKeeper
from app.detection.stream import StreamRegistry
from app.exception_handlers import add_exception_handlers
from app.history.endpoints import router as history_router
from app.history.recorder import HistoryRecorder
from app.inference.batching import DynamicBatcher
from app.inference.cache import CachingClassifier, PredictionCache
from app.inference.device import default_threads
from app.inference.engine import InferenceEngine
from app.inference.hub import find_checkpoint
from app.inference.images import ImageLimits
from app.inference.joblib_pipeline import JoblibTextClassifier
from app.inference.registry import ModelRegistry
from app.inference.shared_cache import RedisPredictionCache
from app.inference.yolos import ObjectDetector
from app.middlewares import (
    REQUEST_ID_HEADER,
    AllowedHostMiddleware,
    BodyLimitMiddleware,
    RequestIDMiddleware,
    SecurityHeadersMiddleware,
    StartupFailureMiddleware,
    list_security_headers,
)
from app.monitoring.endpoints import router as monitoring_router
from app.monitoring.logging import configure_logging
from app.monitoring.middleware import HTTPActivity, ObservationMiddleware, RequestObserver
from app.monitoring.publisher import MetricsPublisher
from app.monitoring.sentry import reporting_errors
from app.openapi import complete_document, name_operation
from app.openapi_text import DESCRIPTION, TAGS
from app.predictions.endpoints import direct_router as direct_predictions_router
from app.predictions.endpoints import router as predictions_router
from app.scope_keys import SHEDDER
from app.shedding import LoadShedder
from app.web.endpoints import router as web_router

# FastAPI's native telemetry makes spans for nobody when no exporter is set up, at a sixth of the
# cost of a cached prediction.
NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Start every resource in order, and stop them in the opposite one.

    What it yields is there for the server's protocol.
    """
    settings: Settings = app.state.settings
    async with AsyncExitStack() as stack:
        stack.enter_context(
            reporting_errors(
                settings.sentry_dsn.get_secret_value() if settings.sentry_dsn else None,
                environment=settings.environment,
                release=__version__,
            )
        )
        app.state.database = database = Database(
            settings.database_url, pool_size=settings.database_pool_size
        )
        stack.push_async_callback(database.close)

        app.state.authenticator = await stack.enter_async_context(Authenticator(settings, database))

        app.state.recorder = recorder = HistoryRecorder(database)
        await recorder.start()
        stack.push_async_callback(recorder.close, settings.shutdown_timeout_s)

        app.state.engine = engine = await _start_engine(app, settings)
        stack.push_async_callback(engine.stop, settings.shutdown_timeout_s)

        shared_cache = app.state.text_classifier.shared
        if shared_cache is not None:
            await shared_cache.start()
            stack.push_async_callback(shared_cache.close)

        app.state.streams = streams = StreamRegistry(
            max_streams=settings.max_streams, max_per_caller=settings.max_streams_per_caller
        )
        stack.push_async_callback(streams.close_all, settings.shutdown_timeout_s)

        app.state.picture_keeper = None
        if settings.keep_images:
            app.state.picture_keeper = keeper = PictureKeeper(
                longest_edge=settings.kept_image_edge, limits=image_limits(settings)
            )
            stack.callback(keeper.close)

        app.state.publisher = await stack.enter_async_context(MetricsPublisher.of(app, __version__))

        logger.info("Lookout {} is ready", __version__)
        yield {SHEDDER: app.state.shedder}
        logger.info("shutting down")


def image_limits(settings: Settings) -> ImageLimits:
    """The largest image that is decoded."""
    return ImageLimits(settings.max_image_bytes, settings.max_image_pixels)


async def _start_engine(app: FastAPI, settings: Settings) -> InferenceEngine:
    """Load the models, off the event loop where that blocks. Raises `ModelLoadError`."""
    registry = ModelRegistry(settings.models_dir)
    limits = image_limits(settings)
    checkpoint = await asyncio.to_thread(
        find_checkpoint, settings.detection_model, settings.models_dir, settings.hub_timeout_s
    )
    engine = InferenceEngine(queue_size=settings.queue_size)
    classifier = engine.add(JoblibTextClassifier(registry, settings.text_model))
    cache = PredictionCache(settings.prediction_cache_bytes)
    shared = None
    if settings.redis_url is not None:
        shared = RedisPredictionCache(settings.redis_url.get_secret_value(), cache.clear)
    app.state.text_classifier = CachingClassifier(classifier, cache, shared)
    app.state.detector = engine.add(
        ObjectDetector(
            checkpoint,
            limits=limits,
            device=settings.device,
            backend=settings.detection_backend,
            precision=settings.detection_precision,
            threads=settings.cpu_threads or default_threads(settings.web_concurrency),
            input_size=settings.detection_input_size,
            cuda_graphs=settings.cuda_graphs,
            registry=registry,
        )
    )
    await engine.start()
    for handle in engine.handles:
        _tell_shedder(app.state.shedder, handle.batcher)
    return engine


def _tell_shedder(shedder: LoadShedder, batcher: DynamicBatcher[Any, Any]) -> None:
    def on_batch(size: int, _wait_s: float, _seconds: float) -> None:
        shedder.on_batch(batcher.model.name, size, len(batcher), batcher.size)

    batcher.stats.on_batch.append(on_batch)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application for `settings`, by default those of the environment."""
    settings = settings or get_settings()
    configure_logging(settings.log_level, settings.effective_log_format)
    app = FastAPI(
        title="Lookout",
        version=__version__,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        license_info={"name": "MIT", "identifier": "MIT"},
        generate_unique_id_function=name_operation,
        lifespan=lifespan,
        telemetry=None if settings.opentelemetry else NO_TELEMETRY,
        # The pages come from `web`, with local assets, so that they work without internet.
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.http_activity = HTTPActivity()
    observer = RequestObserver(access_log=settings.effective_access_log)
    app.state.shedder = LoadShedder(
        observer, list_security_headers(strict_transport=settings.secure_cookies)
    )
    add_exception_handlers(app)

    # The last one added is the outermost.
    app.add_middleware(
        BodyLimitMiddleware,
        default=settings.max_json_bytes,
        # The form around an image takes some bytes of its own.
        limits={"/object-detection": settings.max_image_bytes + 64 * 1024},
        timeout_s=settings.body_timeout_s,
    )
    if settings.requests_per_minute_per_address is not None:
        app.add_middleware(AddressLimitMiddleware)
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_credentials=True,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=[REQUEST_ID_HEADER, "Server-Timing", "Retry-After"],
        )
    if "*" not in settings.allowed_hosts:
        app.add_middleware(AllowedHostMiddleware, hosts=settings.allowed_hosts)
    app.add_middleware(SecurityHeadersMiddleware, strict_transport=settings.secure_cookies)
    app.add_middleware(
        ObservationMiddleware,
        activity=app.state.http_activity,
        observer=observer,
    )
    app.add_middleware(RequestIDMiddleware)
    app.add_middleware(StartupFailureMiddleware)

    # Tried in this order, so the busiest doors come first. To find the way through an included
    # router costs as much as the busiest endpoint's own work, so its routes stand before them.
    app.router.routes.extend(direct_predictions_router.routes)
    for router in (
        predictions_router,
        detection_router,
        auth_router,
        history_router,
        administration_router,
        monitoring_router,
        web_router,
    ):
        app.include_router(router)
    declare_security_schemes(app)
    complete_document(app)
    return app
