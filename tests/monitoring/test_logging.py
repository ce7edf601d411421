"""One logger: form, context, what passes through it, and what never does."""

import asyncio
import logging
import re
import subprocess
import sys
import threading
import warnings

import pytest
from loguru import logger

from app.monitoring.logging import (
    InterceptHandler,
    configure_logging,
    log_access,
    mask_secrets,
    request_context,
)
from tests.monitoring.conftest import Log
from tests.support.service import ROOT

TOKEN = "lko_" + "Ab1-_" * 8


class TestForm:
    def test_json_has_a_line_with_fields_for_each_record(self, log: Log) -> None:
        logger.info("model {} is ready", "digits")
        line = log.line()
        assert line["message"] == "model digits is ready"
        assert line["level"] == "INFO"
        assert line["logger"] == __name__
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", line["time"])

    def test_what_is_bound_is_a_field(self, log: Log) -> None:
        logger.bind(rows=3).info("kept")
        assert log.line()["rows"] == 3

    def test_text_is_for_people(self, log: Log) -> None:
        configure_logging("INFO", "text")
        request_context.set({"request_id": "r1"})
        logger.warning("almost full")
        assert re.fullmatch(
            r"[\d-]+ [\d:.]+ WARNING tests\.monitoring\.test_logging: almost full "
            r"\| request_id=r1\n",
            log.text(),
        )

    @pytest.mark.parametrize("form", ["text", "json"])
    def test_below_the_level_nothing_is_written(self, log: Log, form: str) -> None:
        configure_logging("WARNING", form)  # type: ignore[arg-type]
        logger.info("small talk")
        logging.getLogger("uvicorn.error").info("small talk")
        assert log.text() == ""

    def test_configuring_again_does_not_double_lines(self, log: Log) -> None:
        configure_logging("DEBUG", "json")
        configure_logging("DEBUG", "json")
        logger.info("once")
        assert log.line()["message"] == "once"

    def test_a_message_cannot_forge_a_line(self, log: Log) -> None:
        configure_logging("INFO", "text")
        logger.info("looked for {}", "x\n2026-01-01 00:00:00 ERROR app: all is lost\x1b[31m\r")
        first, second = log.text().splitlines()
        assert first.endswith("looked for x")
        assert second == "    2026-01-01 00:00:00 ERROR app: all is lost\\x1b[31m\\x0d"

    def test_an_exception_keeps_its_traceback_and_not_its_variables(self, log: Log) -> None:
        def sign_in(password: str) -> None:
            raise ValueError(f"{len(password)} characters")

        words = ["correct", "horse"]
        try:
            sign_in(" ".join(words))
        except ValueError:
            logger.exception("not signed in")
        line = log.line()
        assert "in sign_in" in line["exception"]
        assert "ValueError: 13 characters" in line["exception"]
        assert "correct horse" not in str(line)


class TestContext:
    def test_each_line_of_a_request_carries_what_is_known_of_it(self, log: Log) -> None:
        state = {"request_id": "r1", "arrived_at": 1.5}
        request_context.set(state)
        logger.info("early")
        state |= {"user_id": "u1", "model": "digits"}
        logger.info("late")
        early, late = log.lines()
        assert early["request_id"] == "r1"
        assert {"user_id", "model", "arrived_at"}.isdisjoint(early)
        assert (late["request_id"], late["user_id"], late["model"]) == ("r1", "u1", "digits")

    async def test_requests_side_by_side_keep_their_own(self, log: Log) -> None:
        async def serve(request_id: str) -> None:
            request_context.set({"request_id": request_id})
            for _ in range(3):
                await asyncio.sleep(0)
                logger.info(request_id)
                await asyncio.to_thread(logger.info, request_id)

        await asyncio.gather(*(asyncio.create_task(serve(f"r{i}")) for i in range(5)))
        lines = log.lines()
        assert len(lines) == 30
        assert all(line["request_id"] == line["message"] for line in lines)

    def test_a_thread_of_nobody_has_none(self, log: Log) -> None:
        request_context.set({"request_id": "r1"})
        thread = threading.Thread(target=logger.info, args=("model's thread",))
        thread.start()
        thread.join()
        assert "request_id" not in log.line()


class TestStandardLibrary:
    @pytest.mark.parametrize("name", ["uvicorn", "uvicorn.error", "gunicorn.error", "alembic"])
    def test_servers_are_heard_from_info_up(self, log: Log, name: str) -> None:
        logging.getLogger(name).info("listening on %s", 8000)
        logging.getLogger(name).debug("a header")
        line = log.line()
        assert (line["message"], line["logger"]) == ("listening on 8000", name)

    @pytest.mark.parametrize("name", ["aiosqlite", "httpcore.http11", "sqlalchemy.engine", "x.y"])
    def test_libraries_are_heard_from_warning_up(self, log: Log, name: str) -> None:
        logging.getLogger(name).debug("the parameters")
        logging.getLogger(name).info("the parameters")
        logging.getLogger(name).warning("trouble")
        assert log.line()["message"] == "trouble"

    def test_servers_that_configured_themselves_are_taken_over(self, log: Log) -> None:
        server = logging.getLogger("uvicorn.error")
        server.addHandler(logging.StreamHandler())
        server.propagate = False
        configure_logging("INFO", "json")
        server.info("once")
        assert log.line()["message"] == "once"

    @pytest.mark.usefixtures("log")
    def test_servers_write_no_access_log_of_their_own(self) -> None:
        for name in ("uvicorn.access", "gunicorn.access"):
            server = logging.getLogger(name)
            assert not server.propagate
            # pytest gives its own to every logger that does not propagate.
            assert [
                type(it) for it in server.handlers if "_pytest" not in type(it).__module__
            ] == []

    def test_warnings_are_lines(self, log: Log) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            # pytest has put its own in the place of what was captured.
            logging.captureWarnings(False)
            logging.captureWarnings(True)
            warnings.warn("this will go", FutureWarning, stacklevel=1)
        assert "FutureWarning: this will go" in log.line()["message"]

    def test_a_librarys_mistake_in_its_arguments_is_only_told(self, log: Log) -> None:
        # Not through the root logger, where pytest has a handler that raises.
        record = logging.LogRecord("library", logging.ERROR, "", 1, "%d items", ("three",), None)
        InterceptHandler().handle(record)
        assert "%d items" in log.line()["message"]

    def test_libraries_that_bring_a_handler_of_their_own_are_lines_too(self) -> None:
        program = """
            from app.monitoring.logging import configure_logging
            configure_logging("INFO", "json")
            from huggingface_hub.utils import logging as hub
            from transformers.utils import logging as transformers
            hub.get_logger("huggingface_hub.x").warning("from the hub")
            transformers.get_logger("transformers.x").warning("from transformers")
        """
        script = "\n".join(line.strip() for line in program.splitlines())
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
        )
        told = [line for line in done.stderr.splitlines() if "from " in line]
        assert len(told) == 2
        assert all(line.startswith('{"time"') for line in told)


class TestSecrets:
    @pytest.mark.parametrize(
        ("line", "masked"),
        [
            (f"GET /object-detection?token={TOKEN}&x=1", "GET /object-detection?token=***&x=1"),
            ("?access_token=abc def", "?access_token=*** def"),
            (f"the key {TOKEN} is unknown", "the key lko_*** is unknown"),
            ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer ***"),
            ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic ***"),
            ("X-API-Key: 0123456789", "X-API-Key: ***"),
            ("(b'x-api-key', b'0123456789')", "(b'x-api-key', b'***')"),
            ('{"password": "hunter2", "email": "a@b"}', '{"password": "***", "email": "a@b"}'),
            ("password=hunter2", "password=***"),
            ("SECRET_KEY=abc", "SECRET_KEY=***"),
            ("postgresql+asyncpg://me:hunter2@db/x", "postgresql+asyncpg://me:***@db/x"),
            ("redis://:hunter2@cache:6379/0", "redis://:***@cache:6379/0"),
        ],
    )
    def test_are_masked(self, line: str, masked: str) -> None:
        assert mask_secrets(line) == masked

    @pytest.mark.parametrize(
        "line",
        [
            "DELETE /me/tokens/0192 204 3.1 ms",
            "the last use of 3 tokens was not recorded: OSError()",
            "asking https://huggingface.co for hustvl/yolos-tiny",
            "the page is at http://127.0.0.1:8000/ and the API's at http://127.0.0.1:8000/docs",
        ],
    )
    def test_what_is_no_secret_stays(self, line: str) -> None:
        assert mask_secrets(line) == line

    def test_are_masked_whoever_logs_them_and_in_exceptions(self, log: Log) -> None:
        logger.info("took {}", TOKEN)
        logging.getLogger("uvicorn.error").info('"WebSocket /x?token=%s" [accepted]', TOKEN)
        try:
            raise ValueError(f"bad token {TOKEN}")
        except ValueError:
            logger.exception("refused")
        written = log.text()
        assert TOKEN not in written
        assert written.count("***") == 3


class TestAccess:
    def test_a_line_of_json(self, log: Log) -> None:
        request_context.set({"request_id": "r1", "user_id": 7})
        log_access("GET", "/x", 200, 0.0123, "203.0.113.9")
        line = log.line()
        del line["time"]
        assert line == {
            "level": "INFO",
            "logger": "access",
            "message": "GET /x 200",
            "method": "GET",
            "path": "/x",
            "status": 200,
            "duration_ms": 12.3,
            "client": "203.0.113.9",
            "request_id": "r1",
            "user_id": "7",
        }

    def test_a_line_of_text_that_a_path_cannot_break(self, log: Log) -> None:
        configure_logging("INFO", "text")
        log_access("GET", "/x\nERROR app: forged", 404, 0.001, "203.0.113.9")
        assert log.text().endswith(
            " INFO    access: GET /x\\x0aERROR app: forged 404 1.0 ms 203.0.113.9\n"
        )
