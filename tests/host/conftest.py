"""The real ComfyUI, booted once, with small random models."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from testkit.host import Host


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    if "COMFYUI_PATH" not in os.environ:
        pytest.exit("COMFYUI_PATH is not set: run the tests by `make test`.", returncode=2)
    booted = Host(tmp_path_factory.mktemp("comfyui"))
    yield booted
    booted.close()


@pytest.fixture
def fresh(host: Host) -> Host:
    """The host with nothing cached: every node runs."""
    host.forget()
    return host
