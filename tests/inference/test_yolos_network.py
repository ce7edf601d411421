"""Parts of the forward pass, beside PyTorch's own."""

import pytest
import torch
from torch.nn import functional

from app.inference import yolos_network
from app.inference.yolos_network import ProductAttention


@pytest.mark.parametrize("most", [8 * 2**20, 1000, 10])
@pytest.mark.parametrize(("count", "queries", "tokens"), [(1, 37, 37), (3, 5, 50)])
def test_attention_by_products_is_attention(
    count: int, queries: int, tokens: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The last of them has not the place for a single query, and is exceeded.
    monkeypatch.setattr(yolos_network, "_MOST_SCORES", most)
    attend = ProductAttention(torch.float32)
    # As projected: not contiguous.
    query = torch.randn(count, queries, 3, 16).transpose(1, 2)
    key, value = torch.randn(count, tokens, 2, 3, 16).permute(2, 0, 3, 1, 4)
    expected = functional.scaled_dot_product_attention(query, key, value)
    # Twice: the buffers are used again.
    for _ in range(2):
        torch.testing.assert_close(attend(query, key, value), expected, rtol=1e-4, atol=1e-5)
