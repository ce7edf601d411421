"""What is measured of the real service."""

import re
import socket
import urllib.request

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY

from app.monitoring.exposition import MetricsServer
from tests.monitoring.support import Samples
from tests.support.pictures import jpeg
from tests.support.service import ROOT, Person, open_stream
from tests.support.waiting import until


async def measure(app: FastAPI, client: httpx.AsyncClient) -> Samples:
    """What Prometheus reads, without waiting for the next second."""
    app.state.publisher.publish()
    return Samples((await client.get("/metrics")).text)


class TestRequests:
    async def test_are_counted_by_template_method_and_status(
        self, app: FastAPI, person: Person
    ) -> None:
        before = await measure(app, person.http)
        for _ in range(2):
            await person.http.post("/prediction", json={"text": "computer"})
        await person.http.post("/prediction", json={})
        for record in ("0192f1b8-0000-7000-8000-000000000000", "0192f1b8-0000-7000-8000-1"):
            await person.http.get(f"/history/{record}")
        after = await measure(app, person.http)

        def more(route: str, method: str, status: str) -> float:
            labels = {"route": route, "method": method, "status": status}
            name = "lookout_http_requests_total"
            return after.sum(name, **labels) - before.sum(name, **labels)

        assert more("/prediction", "POST", "200") == 2
        assert more("/prediction", "POST", "422") == 1
        routes = after.labels("lookout_http_requests_total", "route")
        assert not [route for route in routes if "0192" in route]
        assert [route for route in routes if route.startswith("/history/{")]
        name = "lookout_http_request_duration_seconds_count"
        assert after.sum(name, route="/prediction") - before.sum(name, route="/prediction") == 3

    async def test_what_a_client_invents_makes_no_series(
        self, app: FastAPI, visitor: httpx.AsyncClient
    ) -> None:
        before = await measure(app, visitor)
        for i in range(3):
            await visitor.request(f"INVENT{i}", f"/no/such/{i}")
        after = await measure(app, visitor)
        name = "lookout_http_requests_total"
        labels = {"route": "unmatched", "method": "other"}
        assert after.sum(name, **labels) - before.sum(name, **labels) == 3
        assert not [m for m in after.labels(name, "method") if m.startswith("INVENT")]

    async def test_none_is_in_progress_when_all_are_answered(
        self, app: FastAPI, visitor: httpx.AsyncClient
    ) -> None:
        # The publisher's own turn may come while the metrics are being asked for.
        for _ in range(5):
            samples = await measure(app, visitor)
            if not samples.sum("lookout_http_requests_in_progress"):
                return
        pytest.fail("requests are in progress that nobody sent")


class TestModels:
    async def test_items_batches_and_cache_are_counted(self, app: FastAPI, person: Person) -> None:
        before = await measure(app, person.http)
        texts = [f"a text that nobody has sent, {app.state.database.dialect} {i}" for i in range(5)]
        assert (await person.http.post("/predictions/batch", json={"texts": texts})).is_success
        assert (await person.http.post("/prediction", json={"text": texts[0]})).json()["cached"]
        after = await measure(app, person.http)

        def more(name: str, **labels: str) -> float:
            return after.sum(name, **labels) - before.sum(name, **labels)

        model = {"model": "newsgroups"}
        assert more("lookout_inference_items_total", outcome="answered", **model) == 5
        assert more("lookout_inference_batch_items_sum", **model) == 5
        assert more("lookout_inference_batch_items_count", **model) >= 1
        assert more("lookout_inference_queue_wait_seconds_count", **model) >= 1
        assert more("lookout_inference_batch_duration_seconds_count", **model) >= 1
        assert more("lookout_cache_requests_total", result="hit") == 1
        assert more("lookout_cache_requests_total", result="miss") == 5
        assert more("lookout_history_records_total", outcome="kept") == 6
        assert 1 <= more("lookout_history_commits_total") <= 6
        assert after.sum("lookout_cache_bytes") > 0

    async def test_what_is_loaded_is_told(self, app: FastAPI, visitor: httpx.AsyncClient) -> None:
        samples = await measure(app, visitor)
        handle = app.state.detector
        assert samples.sum("lookout_model_ready", model=handle.name) == 1
        info = {"model": handle.name, "version": handle.info.version, "task": "object-detection"}
        assert samples.sum("lookout_model_info", **info) == 1
        assert samples.sum("lookout_build_info", environment="development") == 1
        assert samples.sum("lookout_inference_queue_capacity_items", model=handle.name) > 0
        assert samples.sum("lookout_worker_resident_memory_bytes") > 10e6

    async def test_frames_of_a_stream_are_counted_while_it_is_open_and_after(
        self, app: FastAPI, person: Person
    ) -> None:
        before = await measure(app, person.http)
        async with open_stream(app, query=f"?token={person.key}") as stream:
            for frame in (jpeg(), b"no image"):
                await stream.send(frame)
                await stream.answer()
            during = await measure(app, person.http)
            assert during.sum("lookout_streams_open") == 1
        await until(lambda: len(app.state.streams) == 0)
        after = await measure(app, person.http)
        assert after.sum("lookout_streams_open") == 0
        for samples in (during, after):
            name = "lookout_stream_frames_total"
            assert samples.sum(name, outcome="answered") - before.sum(name, outcome="answered") == 1
            assert samples.sum(name, outcome="failed") - before.sum(name, outcome="failed") == 1
            received = "lookout_stream_frames_received_total"
            assert samples.sum(received) - before.sum(received) == 2

    async def test_wrong_passwords_are_counted(
        self, app: FastAPI, visitor: httpx.AsyncClient
    ) -> None:
        before = await measure(app, visitor)
        form = {"username": "nobody@example.com", "password": "not the password"}
        assert (await visitor.post("/token", data=form)).status_code == 401
        after = await measure(app, visitor)
        name = "lookout_login_failures_total"
        assert after.sum(name) - before.sum(name) == 1


class TestDeployedQueries:
    """What dashboards and alerts ask for exists: a renamed metric would leave them silent."""

    @pytest.mark.parametrize(
        "file",
        [
            "deploy/grafana/dashboards/lookout.json",
            "deploy/prometheus/alerts.yaml",
            "deploy/prometheus/alerts_test.yaml",
        ],
    )
    def test_names_exist(self, file: str) -> None:
        known = {family.name for family in REGISTRY.collect()}
        suffixes = r"_(total|bucket|sum|count)$"
        asked = set(re.findall(r"\blookout_[a-z_]+", (ROOT / file).read_text()))
        assert asked
        assert {name for name in asked if re.sub(suffixes, "", name) not in known} == set()


class TestPort:
    def test_one_worker_answers_for_all_and_another_takes_over(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]

        def scrape() -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                text: bytes = answer.read()
                return text.decode()

        first, second = MetricsServer(port), MetricsServer(port)
        try:
            first.try_start()
            second.try_start()
            assert "lookout_workers" in scrape()
            first.stop()
            with pytest.raises(OSError, match="refused"):
                scrape()
            second.try_start()
            assert "lookout_workers" in scrape()
        finally:
            first.stop()
            second.stop()
