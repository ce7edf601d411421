import shutil
from pathlib import Path

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.wrk import find_wrk, parse

# Of wrk 4.1.0, shortened.
OUTPUT = """Running 2s test @ http://127.0.0.1:8000/prediction
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    21.12ms    4.32ms  80.12ms   91.20%
  3000 requests in 2.00s, 1.20MB read
  Non-2xx or 3xx responses: 7

RESULT {"requests":3000,"duration_us":2000000,"status":7,"connect":1,"read":2,"write":0,\
"timeout":3,"p50_us":20500,"p90_us":30000,"p99_us":61000,"max_us":80120}
"""


def test_the_result_line_is_read() -> None:
    result = parse(OUTPUT)

    assert result.requests_per_s == 1500
    assert (result.not_2xx, result.socket_errors, result.errors) == (7, 6, 13)
    assert (result.p50_ms, result.p90_ms, result.p99_ms) == (20.5, 30, 61)
    assert result.max_ms == 80.12


def test_output_without_a_result_is_an_error_that_shows_it() -> None:
    with pytest.raises(BenchmarkError, match="unable to connect"):
        parse("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_a_missing_wrk_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("wrk") is None
    with pytest.raises(BenchmarkError, match="apt-get install wrk"):
        find_wrk()
