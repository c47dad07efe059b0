"""Provisioning says what is wrong before it installs anything, and writes to no other checkout."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "testkit"


@pytest.fixture
def provision() -> ModuleType:
    """The script, as any Python runs it: by its path, without this pack."""
    spec = importlib.util.spec_from_file_location("provision", FOLDER / "provision.py")
    assert spec and spec.loader
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


def test_pythons_from_the_first_supported_one_fit(provision: ModuleType) -> None:
    provision.check_python((3, 11))
    provision.check_python((3, 13))
    with pytest.raises(provision.ProvisionError, match=r"Python 3\.11 or newer .* got 3\.10"):
        provision.check_python((3, 10))


def test_every_place_claims_the_same_pythons(provision: ModuleType) -> None:
    import tomllib

    settings = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())
    first = ".".join(map(str, provision.MINIMUM_PYTHON))
    assert settings["project"]["requires-python"] == f">={first}"
    assert settings["tool"]["ruff"]["target-version"] == f"py{first.replace('.', '')}"
    for name in ("check", "test"):
        workflow = (FOLDER.parent / ".github" / "workflows" / f"{name}.yml").read_text()
        assert f'python: ["{first}", ' in workflow


def test_a_package_that_cannot_be_installed_is_named(provision: ModuleType) -> None:
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


def test_the_frontend_and_all_tools_of_the_checks_are_pinned(provision: ModuleType) -> None:
    assert re.fullmatch(r"comfyui-frontend-package==[\d.]+\n", provision.FRONTEND.read_text())
    lines = provision.CHECK_TOOLS.read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert {"ruff", "ty", "torch"} <= {line.partition("==")[0] for line in wanted}
    assert all(re.fullmatch(r"[\w-]+==[\d.]+", line) for line in wanted)
    assert re.search(r'"typescript": "[\d.]+"', provision.JAVASCRIPT_TOOLS.read_text())


def test_a_commit_is_linted_as_make_check_does(provision: ModuleType) -> None:
    hooks = (FOLDER.parent / ".pre-commit-config.yaml").read_text()
    found = re.search(r"ruff-pre-commit\n\s+rev: v([\d.]+)", hooks)
    assert found and f"ruff=={found[1]}" in provision.CHECK_TOOLS.read_text().splitlines()


def test_both_environments_run_the_same_pytorch(provision: ModuleType) -> None:
    lines = provision.CHECK_TOOLS.read_text().splitlines()
    assert set(provision.TORCH) < set(lines)
    assert any(pin in lines for pin in provision.PINNED if pin.startswith("numpy"))


def test_an_unknown_target_is_told(
    provision: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert provision.main(["browsers"]) == 2
    assert "expected one of host, check, browser, got browsers" in capsys.readouterr().err


# Folders of another checkout


@pytest.fixture
def checkout(provision: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose ``.host`` is a link into another one, and where nothing may be run."""
    root, owner = tmp_path / "linked", tmp_path / "owner"
    root.mkdir()
    (owner / ".host").mkdir(parents=True)
    for name in (".host", ".check"):
        (root / name).symlink_to(owner / ".host", target_is_directory=True)
    monkeypatch.setattr(provision, "ROOT", root)
    monkeypatch.setattr(provision, "HOST", root / ".host")
    monkeypatch.setattr(provision, "CHECK", root / ".check")
    monkeypatch.setattr(provision, "run", lambda *command: pytest.fail(f"ran {command}"))
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    return root


def test_a_host_of_another_checkout_is_used_and_left_alone(
    provision: ModuleType, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = checkout / ".host" / "run"
    runner.write_text("the owner's")
    assert provision.main(["host"]) == 0
    assert "belongs to another checkout and is used as it is" in capsys.readouterr().out
    assert runner.read_text() == "the owner's"
    assert [path.name for path in (checkout / ".host").iterdir()] == ["run"]


def test_a_host_of_another_checkout_that_is_not_ready_is_told(
    provision: ModuleType, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert provision.main(["host"]) == 1
    told = capsys.readouterr().err
    assert "is a link to" in told and "or remove the link" in told
    assert list((checkout / ".host").iterdir()) == []


def test_a_frontend_of_another_checkout_is_not_replaced(
    provision: ModuleType, checkout: Path
) -> None:
    frontend = checkout / ".host" / "frontend"
    frontend.mkdir()
    (frontend / "theirs").touch()
    with pytest.raises(provision.ProvisionError, match="belongs to another checkout"):
        provision.provide_frontend(frontend)
    assert (frontend / "theirs").exists()


def test_checks_are_not_run_on_another_checkout(
    provision: ModuleType, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert provision.main(["check"]) == 1
    assert "checks another checkout. Remove the link" in capsys.readouterr().err


def test_a_link_inside_the_checkout_is_its_own(
    provision: ModuleType, checkout: Path, tmp_path: Path
) -> None:
    (checkout / "elsewhere").mkdir()
    (checkout / "inside").symlink_to(checkout / "elsewhere")
    assert not provision.is_foreign(checkout / "inside")
    assert not provision.is_foreign(checkout / "not there yet")
    assert provision.is_foreign(checkout / ".host")


def test_the_runner_sets_comfyuis_folder(provision: ModuleType, tmp_path: Path) -> None:
    provision.write_host_runner(tmp_path, Path("/a/python"), Path("/a/ComfyUI"))
    assert 'COMFYUI_PATH="/a/ComfyUI"' in (tmp_path / "run").read_text()
    assert (tmp_path / "run").stat().st_mode & 0o111
