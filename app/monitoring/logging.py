"""Logging: loguru is the one logger, and everything else that logs goes through it.

Each line of a request carries its id, and the caller and the model once they are known.
Passwords, tokens and keys are masked in every line, whoever wrote it.
"""

import json
import logging
import re
import sys
import traceback
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from loguru import logger

if TYPE_CHECKING:
    from loguru import Message, Record

LogFormat = Literal["text", "json"]

#: The state of the connection that is being served (`scope["state"]`), set by
#: `RequestIDMiddleware`. It is the dictionary itself: what is learned later about the request
#: (`user_id`, `model`) is on its later lines, in whatever task they are written.
request_context: ContextVar[Mapping[str, Any] | None] = ContextVar("request_context", default=None)

CONTEXT_FIELDS = ("request_id", "user_id", "model")

# Servers tell of their start and stop at INFO. Other libraries have to say something important:
# drivers and HTTP clients print statements with their parameters, and headers, below that.
_SERVER_LOGGERS = ("uvicorn", "gunicorn.error", "alembic")
# These put a handler of their own on their logger when they are imported.
_SELF_CONFIGURING_LOGGERS = ("transformers", "huggingface_hub")
# Written by `ObservationMiddleware` instead, without query strings. A logger without handlers
# tells uvicorn that it need not build the line at all.
_ACCESS_LOGGERS = ("uvicorn.access", "gunicorn.access")

_SECRETS = re.compile(
    # Our own tokens, wherever they stand (`TOKEN_PREFIXES` in app/auth/security.py).
    r"(?P<token>\blk[oks]_)[\w-]{8,}"
    # `?token=…`, `password=…`, `"secret_key": "…"`, `X-API-Key: …`, `(b'x-api-key', b'…')`
    r"|(?P<name>(?:token|password|passwd|secret|secret[_-]key|api[_-]?key)"
    r"(?:[\"']?\s*[=:]\s*|[\"'],\s*))(?P<quote>(?:SecretStr\(|b)?[\"']?)[^\s&\"',;)}\]]+"
    # `Authorization: Bearer …`
    r"|(?P<scheme>\b(?:bearer|basic)\s+)[\w.~+/=-]{8,}"
    # `postgresql://user:password@host`
    r"|(?P<url>://[^\s:/@]*:)[^\s@/]+(?=@)",
    re.IGNORECASE,
)
# Most lines have none of these, and looking for them costs a tenth of the expression.
_SIGNS = ("token", "passw", "secret", "key", "bearer", "basic", "lko_", "lks_", "lkk_", "://")
MASK = "***"

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
# A line that a client's newline begins must not look like one of ours.
_CONTROL_BUT_NEWLINE = _CONTROL | {ord("\n"): "\n    "}

_sink_id: int | None = 0  # 0 is the handler that loguru comes with.
_access_format: LogFormat = "text"


def configure_logging(level: str, format: LogFormat) -> None:  # noqa: A002
    """Send every line of the process to standard error, as `text` or as lines of `json`.

    `level` is the lowest that is written, for our own lines; libraries speak from WARNING up,
    servers from INFO up, because below that they print headers and SQL parameters. May be
    called again: with other values, or after something has configured logging its own way.
    """
    global _sink_id, _access_format
    _access_format = format
    if _sink_id is not None:
        try:
            logger.remove(_sink_id)
        except ValueError:
            # Somebody else has removed it.
            _sink_id = None
    _sink_id = logger.add(
        _write_json if format == "json" else _write_text,
        level=level,
        # Only the traceback goes through loguru's formatting: the rest is built by the sink, in
        # a third of the time. `diagnose` would print the values of variables: passwords, texts.
        format=_format_exception_only,
        backtrace=False,
        diagnose=False,
        colorize=False,
    )
    logger.configure(patcher=_add_context)
    _intercept_standard_library(logging.getLevelNamesMapping()[level])


def log_access(method: str, path: str, status: int, seconds: float, client: str) -> None:
    """Write the line of one answered request, in the form of all other lines.

    `path` is without its query: that may hold a token. Past loguru, as the one line that is
    written for each request costs a quarter this way.
    """
    context = request_context.get() or {}
    moment = datetime.now().astimezone()
    extra = {name: str(context[name]) for name in CONTEXT_FIELDS if context.get(name) is not None}
    if _access_format == "json":
        fields = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": "INFO",
            "logger": "access",
            "message": f"{method} {path} {status}",
            "method": method,
            "path": path,
            "status": status,
            "duration_ms": round(seconds * 1000, 2),
            "client": client,
            **extra,
        }
        sys.stderr.write(json.dumps(fields) + "\n")
    else:
        if not path.isprintable():
            path = path.translate(_CONTROL)
        line = f"{method} {path} {status} {seconds * 1000:.1f} ms {client}"
        sys.stderr.write(_format_text(moment, "INFO", "access", line, extra))
    sys.stderr.flush()


def mask_secrets(text: str) -> str:
    """`text` with every password, token and key in it replaced by asterisks."""
    lower = text.lower()
    for sign in _SIGNS:
        if sign in lower:
            return _SECRETS.sub(_mask, text)
    return text


def _mask(match: re.Match[str]) -> str:
    kept = (match[name] for name in ("token", "name", "quote", "scheme", "url") if match[name])
    return "".join(kept) + MASK


def _add_context(record: "Record") -> None:
    context = request_context.get()
    if context is not None:
        extra = record["extra"]
        for name in CONTEXT_FIELDS:
            value = context.get(name)
            if value is not None:
                extra.setdefault(name, value)


def _format_exception_only(record: "Record") -> str:
    return "{exception}" if record["exception"] else ""


def _write_text(message: "Message") -> None:
    record = message.record
    text = mask_secrets(record["message"])
    if not text.isprintable():
        text = text.translate(_CONTROL_BUT_NEWLINE)
    line = _format_text(record["time"], record["level"].name, record["name"], text, record["extra"])
    sys.stderr.write(line + mask_secrets(message) if message else line)
    sys.stderr.flush()


def _format_text(
    moment: datetime, level: str, name: str | None, text: str, extra: Mapping[str, Any]
) -> str:
    context = "".join(f" {key}={value}" for key, value in extra.items())
    separator = " |" if context else ""
    return f"{moment:%Y-%m-%d %H:%M:%S.%f} {level:<7} {name}: {text}{separator}{context}\n"


def _write_json(message: "Message") -> None:
    record = message.record
    fields: dict[str, Any] = {
        "time": record["time"].isoformat(timespec="milliseconds"),
        "level": record["level"].name,
        "logger": record["name"],
        "message": mask_secrets(record["message"]),
        **record["extra"],
    }
    if message:
        fields["exception"] = mask_secrets(message)
    sys.stderr.write(json.dumps(fields, default=str) + "\n")
    sys.stderr.flush()


class InterceptHandler(logging.Handler):
    """Hands the standard library's records to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level: str | int = logger.level(record.levelname).name
        except ValueError:
            level = record.levelno
        try:
            text = record.getMessage()
        except Exception:
            # A library's mistake in its arguments must not end what it was doing.
            text = f"{record.msg!r} (not formatted: {traceback.format_exc(limit=0).strip()})"

        def set_origin(target: "Record") -> None:
            target["name"] = record.name

        # As a lazy patch, since the name of the caller's module would be `logging`.
        logger.opt(exception=record.exc_info).patch(set_origin).log(level, "{}", text)


class _CapturedLogger(logging.Logger):
    """The logger of a library that would give it a handler of its own: here it cannot."""

    def addHandler(self, hdlr: logging.Handler) -> None:  # noqa: ARG002
        return

    @property
    def propagate(self) -> bool:
        return True

    @propagate.setter
    def propagate(self, value: bool) -> None:
        pass


def _intercept_standard_library(level: int) -> None:
    root = logging.getLogger()
    root.handlers = [InterceptHandler()]
    root.setLevel(max(level, logging.WARNING))
    for name in _SELF_CONFIGURING_LOGGERS:
        _create_captured(name)
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("uvicorn", "gunicorn", "sqlalchemy", "alembic", "asyncio"):
            _hand_up(logging.getLogger(name))
    for name in _SELF_CONFIGURING_LOGGERS:
        _hand_up(logging.getLogger(name))
    for name in _SERVER_LOGGERS:
        _hand_up(logging.getLogger(name))
        logging.getLogger(name).setLevel(max(level, logging.INFO))
    for name in _ACCESS_LOGGERS:
        logging.getLogger(name).propagate = False
    logging.captureWarnings(True)


def _create_captured(name: str) -> None:
    default = logging.getLoggerClass()
    logging.setLoggerClass(_CapturedLogger)
    try:
        logging.getLogger(name)
    finally:
        logging.setLoggerClass(default)


def _hand_up(library_logger: logging.Logger) -> None:
    library_logger.handlers = []
    library_logger.propagate = True
