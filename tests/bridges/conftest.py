"""What holds for every comparison with PyTorch: its default precision is PyTorch's own, but where a file asks."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def default_precision(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(request.module, "PRECISION", torch.float32))
    yield
    torch.set_default_dtype(before)
