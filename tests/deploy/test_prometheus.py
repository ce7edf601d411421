"""A real Prometheus with our configuration scrapes two real workers; the dashboard finds it all."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY
from websockets.asyncio.client import connect

import app.monitoring.metrics  # noqa: F401 (it fills the registry)
from benchmarks.backing import PrometheusServer
from tests.databases import temporary_database
from tests.support.backing import prometheus_server
from tests.support.gunicorn import Gunicorn, free_port, running_gunicorn
from tests.support.pictures import jpeg
from tests.support.service import ROOT
from tests.support.waiting import PATIENCE_S

DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "lookout.json").read_text())
ALERTS = (ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text()


def find_queries(panels: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """The title and each query of all panels, those in rows too."""
    for panel in panels:
        yield from find_queries(panel.get("panels", []))
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


STALE = "counter_99999999.db"
QUERIES = list(find_queries(DASHBOARD["panels"]))


def test_every_metric_that_the_dashboard_and_the_alerts_name_is_there() -> None:
    there = {
        name
        for family in REGISTRY.collect()
        for name in (
            family.name,
            *(sample.name for sample in family.samples),
            *(f"{family.name}{end}" for end in ("_total", "_bucket", "_sum", "_count")),
        )
    }
    assert len(QUERIES) > 30
    for text in (*(query for _, query in QUERIES), ALERTS):
        named = set(re.findall(r"\blookout_[a-z_]+", text))
        assert named <= there, text


@pytest.fixture(scope="module")
async def gunicorn(
    detection_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gunicorn]:
    metrics_folder = tmp_path_factory.mktemp("metrics")
    # Of a run that was killed, and would be added to this one's.
    (metrics_folder / STALE).write_bytes(b"")
    async with (
        temporary_database("sqlite") as url,
        running_gunicorn(
            url,
            detection_model,
            tmp_path_factory.mktemp("scraped"),
            workers=2,
            METRICS_PORT=str(free_port()),
            PROMETHEUS_MULTIPROC_DIR=str(metrics_folder),
        ) as running,
    ):
        yield running


@pytest.fixture(scope="module")
async def prometheus(
    gunicorn: Gunicorn, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[PrometheusServer]:
    target = f"127.0.0.1:{gunicorn.settings['METRICS_PORT']}"
    with prometheus_server(tmp_path_factory.mktemp("prometheus"), target) as server:
        await use_everything(gunicorn)
        await until_found(server, 'count_over_time(up{job="lookout"}[1m]) >= 5')
        yield server


async def use_everything(gunicorn: Gunicorn) -> None:
    async with httpx.AsyncClient(base_url=gunicorn.url, timeout=PATIENCE_S) as client:
        account = {"email": "ada@example.com", "password": "a long enough password"}
        await client.post("/register", json=account)
        form = {"username": account["email"], "password": account["password"]}
        await client.post("/token", data=form | {"password": "wrong"})
        token = (await client.post("/token", data=form)).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        for _ in range(4):
            await client.post("/prediction", json={"text": "computer cpu memory"})
        await client.post("/object-detection", files={"image": ("a.jpg", jpeg())})
    url = f"{gunicorn.url.replace('http', 'ws')}/object-detection?token={token}"
    async with connect(url) as stream:
        await stream.send(jpeg())
        await stream.recv()


async def until_found(prometheus: PrometheusServer, expression: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        # Prometheus has no way to call us.
        while not await asyncio.to_thread(prometheus.query, expression):  # noqa: ASYNC110
            await asyncio.sleep(0.2)


async def test_the_metrics_port_is_scraped_for_all_workers(
    gunicorn: Gunicorn, prometheus: PrometheusServer
) -> None:
    await until_found(prometheus, 'up{job="lookout"} == 1')
    await until_found(prometheus, "lookout_workers == 2")
    counted = 'lookout_http_requests_total{route="/prediction", status="200"} == 4'
    await until_found(prometheus, counted)
    written = os.listdir(gunicorn.settings["PROMETHEUS_MULTIPROC_DIR"])
    assert written
    assert STALE not in written
    # They are there and nowhere else.
    assert (await gunicorn.get("/metrics")).status_code == 404


@pytest.mark.parametrize(("title", "query"), QUERIES, ids=[title for title, _ in QUERIES])
async def test_every_query_of_the_dashboard_finds_something(
    prometheus: PrometheusServer, title: str, query: str
) -> None:
    filled = query.replace("$job", "lookout").replace("$__rate_interval", "1m")
    assert "$" not in filled
    await until_found(prometheus, filled)


async def test_prometheus_evaluates_every_alert(prometheus: PrometheusServer) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            groups = (await asyncio.to_thread(prometheus.ask, "rules"))["groups"]
            rules = [rule for group in groups for rule in group["rules"]]
            # "unknown" until the first time.
            if all(rule["health"] != "unknown" for rule in rules):
                break
            await asyncio.sleep(0.2)
    assert {rule["name"] for rule in rules} == set(re.findall(r"- alert: (\w+)", ALERTS))
    assert [rule for rule in rules if rule["health"] != "ok"] == []
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []
