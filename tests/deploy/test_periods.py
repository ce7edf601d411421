"""Who ends the service waits longer than it takes to end."""

import re

import pytest

from app.config import Settings
from tests.support.service import ROOT

DEPLOY = ROOT / "deploy"


def longest_end_s(delay_s: float) -> float:
    """gunicorn.conf.py's graceful_timeout with this SHUTDOWN_DELAY_S."""
    written = (ROOT / "gunicorn.conf.py").read_text()
    assert "round(_settings.shutdown_delay_s + 4 * _settings.shutdown_timeout_s) + 5" in written
    defaults = Settings(_env_file=None, shutdown_delay_s=delay_s)
    return round(defaults.shutdown_delay_s + 4 * defaults.shutdown_timeout_s) + 5


@pytest.mark.parametrize(
    ("delay_in", "patience_in", "patience"),
    [
        ("systemd/lookout.service", "systemd/lookout.service", r"TimeoutStopSec=(\d+)"),
        (
            "kubernetes/kustomization.yaml",
            "kubernetes/deployment.yaml",
            r"terminationGracePeriodSeconds: (\d+)",
        ),
        ("compose.yaml", "compose.yaml", r"stop_grace_period: (\d+)s"),
    ],
)
def test_it_is_not_killed_while_it_ends(delay_in: str, patience_in: str, patience: str) -> None:
    delays = re.findall(r"SHUTDOWN_DELAY_S=(\d+)", (DEPLOY / delay_in).read_text())
    (waits,) = re.findall(patience, (DEPLOY / patience_in).read_text())
    assert int(waits) > longest_end_s(float(delays[0]) if delays else 0.0)
