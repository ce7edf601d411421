"""Servers of a test's own, from `benchmarks/backing.py`."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.backing import PostgresServer, PrometheusServer, find_postgres
from tests.support.service import ROOT


def _need(is_there: bool, what: str) -> None:
    """Skip the test, saying so, where something is not installed; fail it in CI."""
    if not is_there:
        message = f"{what} is not installed"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A running PostgreSQL with nothing in it."""
    _need(find_postgres() is not None, "PostgreSQL's initdb (Debian: postgresql)")
    # Not in pytest's folders: as root it runs as somebody else, who may not enter them.
    with (
        tempfile.TemporaryDirectory(prefix="lookout-postgres-") as folder,
        PostgresServer(Path(folder)) as server,
    ):
        yield server


@contextmanager
def prometheus_server(folder: Path, target: str) -> Iterator[PrometheusServer]:
    """A running Prometheus with our configuration, scraping `target` every second."""
    _need(shutil.which("prometheus") is not None, "prometheus")
    with PrometheusServer(folder, ROOT / "deploy" / "prometheus", target) as server:
        yield server
