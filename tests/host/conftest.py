"""The real ComfyUI, booted once, with small random models."""

from __future__ import annotations

import os
import sys
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


@pytest.fixture(autouse=True)
def forgotten_models() -> Iterator[None]:
    """Models whose patchers a test has let go of: the host would search for leaks at each load."""
    yield
    management = sys.modules.get("comfy.model_management")
    if management is not None:
        loaded = management.current_loaded_models
        loaded[:] = [model for model in loaded if model.real_model and not model.is_dead()]
