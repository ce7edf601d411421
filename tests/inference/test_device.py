"""Which precision and how many threads a model computes with."""

import os
import subprocess
import sys

import pytest
import torch

from app.inference.device import default_threads, plan_device


def test_attention_is_in_bfloat16_where_the_processor_computes_in_it() -> None:
    plan = plan_device("cpu", "bfloat16")
    assert plan.product_dtype is torch.bfloat16
    assert plan.dtype is torch.float32
    has_tiles = torch.cpu._is_amx_tile_supported()
    computes_in_bfloat16 = has_tiles or torch.cpu._is_avx512_bf16_supported()
    assert plan.attention_dtype is (torch.bfloat16 if computes_in_bfloat16 else torch.float32)
    assert plan.attends_by_products is (computes_in_bfloat16 and not has_tiles)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_attention_is_in_float32_beside_other_products(precision: str) -> None:
    plan = plan_device("cpu", precision)  # type: ignore[arg-type]
    assert plan.product_dtype is getattr(torch, precision)
    assert plan.attention_dtype is torch.float32


def test_processes_share_the_cores() -> None:
    alone = default_threads(1)
    assert alone >= 1
    assert default_threads(2) == max(1, alone // 2)
    assert default_threads(10_000) == 1


@pytest.mark.parametrize(("set_by_operator", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait_leave_their_cores(set_by_operator: str | None, expected: str) -> None:
    """PyTorch's OpenMP reads the variable when it is loaded, so the application sets it before."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    if set_by_operator is not None:
        environment["OMP_WAIT_POLICY"] = set_by_operator
    code = "import os, sys, app.main; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    finished = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert finished.stdout.split() == [expected, "False"]
