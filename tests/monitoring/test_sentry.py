"""Errors reach Sentry, without what must not leave the house."""

import gzip
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from loguru import logger

from app.exceptions import StartupError
from app.monitoring.logging import request_context
from app.monitoring.sentry import reporting_errors
from tests.monitoring.conftest import Log

TOKEN = "lkk_" + "Ab1-_" * 8


class Sentry:
    """A server that takes what the SDK sends."""

    def __init__(self) -> None:
        self.bodies: list[str] = []
        sentry = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                sentry.bodies.append(body.decode())
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                return

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    @property
    def dsn(self) -> str:
        return f"http://public@127.0.0.1:{self.server.server_port}/1"

    @property
    def events(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for body in self.bodies for line in body.splitlines()]
        return [line for line in lines if "platform" in line]


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    sentry = Sentry()
    yield sentry
    sentry.server.shutdown()
    sentry.thread.join()
    sentry.server.server_close()


def sign_in(password: str) -> None:
    raise ValueError(f"{len(password)} characters, sent with {TOKEN}")


@pytest.mark.usefixtures("log")
def test_errors_are_reported_with_their_request_and_without_secrets(sentry: Sentry) -> None:
    with reporting_errors(sentry.dsn, environment="production", release="1.2.3"):
        request_context.set({"request_id": "r1", "user_id": "u1", "model": "digits"})
        logger.warning("{} warning", "only a")
        logger.error("the disk is full")
        words = ["correct", "horse"]
        try:
            sign_in(" ".join(words))
        except ValueError:
            logger.exception("not signed in")
    plain, raised = sentry.events
    assert plain["message"] == "the disk is full"
    (error,) = raised["exception"]["values"]
    assert error["type"] == "ValueError"
    assert error["value"] == "13 characters, sent with lkk_***"
    assert error["stacktrace"]["frames"][-1]["function"] == "sign_in"
    for event in (plain, raised):
        assert (event["release"], event["environment"]) == ("1.2.3", "production")
        assert event["tags"] == {
            "logger": __name__,
            "request_id": "r1",
            "user_id": "u1",
            "model": "digits",
        }
    sent = "".join(sentry.bodies)
    assert TOKEN not in sent
    assert "correct horse" not in sent
    assert "only a warning" not in sent


def test_nothing_is_sent_after_the_end_or_without_a_dsn(sentry: Sentry, log: Log) -> None:
    with reporting_errors(sentry.dsn, environment="production", release="1.2.3"):
        pass
    with reporting_errors(None, environment="production", release="1.2.3"):
        logger.error("told to the log alone")
    assert sentry.events == []
    assert log.line()["message"] == "told to the log alone"


def test_a_dsn_that_is_none_stops_the_start_in_one_sentence() -> None:
    with (
        pytest.raises(StartupError, match="SENTRY_DSN cannot be used"),
        reporting_errors("nonsense", environment="production", release="1.2.3"),
    ):
        pass


def test_without_the_sdk_the_start_stops_and_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)
    with (
        pytest.raises(StartupError, match="requirements-observability"),
        reporting_errors("http://a@127.0.0.1/1", environment="production", release="1.2.3"),
    ):
        pass
