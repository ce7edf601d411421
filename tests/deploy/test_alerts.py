"""The alert rules, by Prometheus' own tool."""

import shutil
import subprocess

import pytest

from tests.support.service import ROOT

FOLDER = ROOT / "deploy" / "prometheus"


def promtool(*arguments: str) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian's package prometheus has it)")
    done = subprocess.run(
        ["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yaml"),
        ("check", "rules", "--lint-fatal", "alerts.yaml"),
        ("test", "rules", "alerts_test.yaml"),
    ],
    ids=" ".join,
)
def test_promtool_accepts_them(arguments: tuple[str, ...]) -> None:
    promtool(*arguments)


def test_every_alert_is_tested_to_fire_and_to_keep_still() -> None:
    rules = (FOLDER / "alerts.yaml").read_text()
    tests = (FOLDER / "alerts_test.yaml").read_text()
    alerts = [line.split(": ")[1] for line in rules.splitlines() if "- alert: " in line]
    assert alerts
    quiet = tests.split("  - name: ")[1]
    for alert in alerts:
        assert f"alertname: {alert}}}" in quiet
        assert f"alertname: {alert}\n        exp_alerts" in tests.replace(quiet, "")
