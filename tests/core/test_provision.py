"""Provisioning says what is wrong before it installs anything."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def provision() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "testkit" / "provision.py"
    spec = importlib.util.spec_from_file_location("provision", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_folder_without_comfyui_is_told(provision: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(provision.ProvisionError, match="is no ComfyUI folder"):
        provision.comfyui_version(tmp_path)


@pytest.mark.parametrize(
    ("version", "fits"), [("0.3.74", False), ("0.3.75", True), ("0.4.0", True), ("0.33.0", True)]
)
def test_versions_from_the_first_supported_one_fit(
    provision: ModuleType, version: str, fits: bool
) -> None:
    if fits:
        provision.check_version(version)
    else:
        with pytest.raises(provision.ProvisionError, match=r"needs 0\.3\.75 or newer"):
            provision.check_version(version)


def test_a_package_that_cannot_be_installed_is_named(provision: ModuleType) -> None:
    import sys

    with pytest.raises(provision.ProvisionError, match="no-such-folder"):
        provision.pip_install(Path(sys.executable), ["./no-such-folder"], "--no-index")


def test_the_torch_family_is_pinned_here_not_by_the_host(
    provision: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "requirements.txt").write_text(
        "torch\ntorchaudio\n#comment\nnumpy>=1.25.0\n\neinops\n"
    )
    assert provision.host_requirements(tmp_path) == ["numpy>=1.25.0", "einops"]


def test_a_named_browser_must_be_there(
    provision: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHROMIUM", "/no/such/chromium")
    with pytest.raises(provision.ProvisionError, match="CHROMIUM=/no/such/chromium is no program"):
        provision.provide_browser()


def test_without_a_browser_and_the_right_to_install_one_it_says_what_to_do(
    provision: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CHROMIUM", raising=False)
    with pytest.raises(provision.ProvisionError, match="install Chromium, or set CHROMIUM"):
        provision.provide_browser()


def test_the_frontend_is_pinned(provision: ModuleType) -> None:
    import re

    assert re.fullmatch(r"comfyui-frontend-package==[\d.]+\n", provision.FRONTEND.read_text())
