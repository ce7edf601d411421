"""Reports of errors to Sentry, for who has set `SENTRY_DSN`.

What is logged as an error is reported, with its request's id, user and model as tags. The SDK's
own integrations stay off: they patch the frameworks, and would send headers and bodies.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from loguru import logger

from app.exceptions import StartupError
from app.monitoring.logging import CONTEXT_FIELDS, mask_secrets

if TYPE_CHECKING:
    from loguru import Message

# The last report is often of what ended the process.
_FLUSH_TIMEOUT_S = 2.0


@contextmanager
def reporting_errors(dsn: str | None, *, environment: str, release: str) -> Iterator[None]:
    """Report while the context lasts; do nothing without `dsn`.

    Raises `StartupError` when the SDK is not installed or the DSN is none.
    """
    if dsn is None:
        yield
        return
    try:
        import sentry_sdk
    except ImportError as error:
        raise StartupError(
            "SENTRY_DSN needs the package sentry-sdk: pip install -r requirements-observability.txt"
        ) from error
    try:
        sentry_sdk.init(
            dsn,
            environment=environment,
            release=release,
            default_integrations=False,
            auto_enabling_integrations=False,
            # Passwords and people's texts are in variables, request bodies and earlier lines.
            include_local_variables=False,
            max_request_body_size="never",
            max_breadcrumbs=0,
            before_send=lambda event, _hint: _mask(event),
        )
    except ValueError as error:
        # sentry_sdk.utils.BadDsn; its text does not hold the key.
        raise StartupError(f"SENTRY_DSN cannot be used: {error}") from error
    sink = logger.add(_report, level="ERROR", format="{message}", backtrace=False, diagnose=False)
    try:
        yield
    finally:
        logger.remove(sink)
        sentry_sdk.get_client().close(timeout=_FLUSH_TIMEOUT_S)


def _report(message: "Message") -> None:
    import sentry_sdk

    record = message.record
    with sentry_sdk.new_scope() as scope:
        scope.set_tag("logger", record["name"])
        for name in CONTEXT_FIELDS:
            value = record["extra"].get(name)
            if value is not None:
                scope.set_tag(name, str(value))
        exception = record["exception"]
        if exception is not None and exception.value is not None:
            scope.set_extra("message", record["message"])
            scope.capture_exception(exception.value)
        else:
            scope.capture_message(record["message"], level="error")


def _mask(value: Any) -> Any:
    """`value`, a structure as of JSON, with all secrets in its texts masked."""
    if isinstance(value, str):
        return mask_secrets(value)
    if isinstance(value, dict):
        return {key: _mask(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mask(item) for item in value]
    return value
