"""For all core tests: the same Hypothesis examples in every run, no deadline, and one thread for small tensors."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

settings.register_profile("core", deadline=None, derandomize=True, database=None)
settings.load_profile("core")


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
