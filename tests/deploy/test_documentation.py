"""The deployment guide names what there is."""

import re

from prometheus_client import REGISTRY

import app.monitoring.metrics  # noqa: F401 (it fills the registry)
from tests.support.service import ROOT


def test_every_metric_is_in_the_guide_and_no_other() -> None:
    guide = (ROOT / "docs" / "deployment.md").read_text()
    there = {family.name for family in REGISTRY.collect() if family.name.startswith("lookout_")}
    named = {re.sub("_total$", "", name) for name in re.findall(r"`(lookout_[a-z_]+)", guide)}
    assert named == there
