"""What the process logs, read back."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from app.monitoring.logging import configure_logging, request_context


class Log:
    """The lines written since the last time they were read."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def text(self) -> str:
        """All that went to standard error."""
        return self._capture.readouterr().err

    def lines(self) -> list[dict[str, Any]]:
        """The lines of the JSON format, each a line of its own."""
        return [json.loads(line) for line in self.text().splitlines()]

    def line(self) -> dict[str, Any]:
        """The one line."""
        (line,) = self.lines()
        return line


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Iterator[Log]:
    token = request_context.set(None)
    configure_logging("DEBUG", "json")
    yield Log(capsys)
    request_context.reset(token)
    configure_logging("INFO", "text")
