"""Real servers with the frontends to test, and a real browser.

What takes seconds to start is started once in a process and shared. Files whose tests share a
server are marked with its name as their ``xdist_group``: one process runs them all.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from testkit import ROOT
from testkit.chat_server import KEY
from testkit.frontend import Frontend
from testkit.random_models import MODELS, SD21, SDXL, write_apart
from testkit.server import Server, serve

PACKAGED = ROOT / ".host" / "frontend" / "comfyui_frontend_package" / "static"
# The newest frontend, or one of your own to test with.
NEWEST = Path(os.environ.get("COMFYUI_FRONTEND", PACKAGED))
TEST_SECONDS = 240  # a page that never answers must not hold everything up
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    # The tests reach nothing but their server.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
SKY, MOUNTAIN, SEA = (6, 230, 230), (143, 255, 140), (9, 7, 230)  # as ADE20K paints them
SMALL = ("small_models",)
TINY = ("tiny_models",)
KEY_VARIABLE = "REALCOMPO_TEST_KEY"
# The folder of the pack may have any name.
FOLDER_NAMES = {"server": "ComfyUI_RealCompo-main (1)", "other_server": "nodes.v2"}

Enter = Callable[[AbstractAsyncContextManager], Any]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Tests may be coroutines: they run in the one loop of the browser and the servers."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    work = pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
    loop = pyfuncitem._request.getfixturevalue("loop")
    loop.run_until_complete(asyncio.wait_for(work, TEST_SECONDS))
    return True


@pytest.fixture(scope="session")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="session")
def enter(loop: asyncio.AbstractEventLoop) -> Iterator[Enter]:
    """Enter an asynchronous context; all are left at the end, the last first."""
    stack = AsyncExitStack()
    yield lambda context: loop.run_until_complete(stack.enter_async_context(context))
    loop.run_until_complete(stack.aclose())


# Servers


@pytest.fixture(scope="session")
def server(enter: Enter, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """The server that most tests share, with small models of every family.

    Stand-ins take the place of the pose estimator, whose weights are not here, and of the real
    models' sizes. It knows a key for a language model, as KEY_VARIABLE.
    """
    write_apart(SD21, SDXL)
    base = tmp_path_factory.mktemp("server")
    draw_map(base / "input")
    return enter(
        serve(
            base,
            pack_name=FOLDER_NAMES["server"],
            models=MODELS,
            stand_ins=("pose_estimator", *SMALL, *TINY),
            environment={KEY_VARIABLE: KEY},
        )
    )


@pytest.fixture(scope="session")
def other_server(enter: Enter, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A second server with the small models."""
    write_apart()
    base = tmp_path_factory.mktemp("other")
    name = FOLDER_NAMES["other_server"]
    return enter(serve(base, pack_name=name, models=MODELS, stand_ins=SMALL))


@pytest.fixture(scope="session")
def definitions(loop: asyncio.AbstractEventLoop, server: Server) -> dict[str, dict]:
    """What the shared server says of its nodes."""
    return loop.run_until_complete(server.get("object_info"))


def draw_map(folder: Path) -> None:
    """A segmentation map of three bands, and a mask in its alpha channel."""
    from PIL import Image

    folder.mkdir()
    picture = Image.new("RGBA", (64, 66))
    for row, colour in enumerate((SKY, MOUNTAIN, SEA)):
        picture.paste((*colour, 255 if row else 0), (0, 22 * row, 64, 22 * (row + 1)))
    picture.save(folder / "example.png")


# The browser


@pytest.fixture(scope="session")
def browser(enter: Enter) -> Any:
    from playwright.async_api import async_playwright

    playwright = enter(async_playwright())
    return enter(_launched(playwright.chromium.launch(executable_path=chromium(), args=OPTIONS)))


@pytest.fixture(scope="session")
def server_of(enter: Enter, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Server]:
    """One server for each frontend, started when first asked for."""
    write_apart()
    servers: dict[str, Server] = {}

    def start(name: str) -> Server:
        folder = None if name == "pinned" else NEWEST
        if folder and not folder.is_dir():
            pytest.fail(f"{folder} is missing: run `make browser`.")
        base = tmp_path_factory.mktemp(name)
        return enter(serve(base, models=MODELS, stand_ins=SMALL, frontend=folder))

    def server(name: str) -> Server:
        if name not in servers:
            servers[name] = start(name)
        return servers[name]

    return server


PAGES = [
    pytest.param(f"{frontend}-{renderer}", marks=pytest.mark.xdist_group(frontend))
    for frontend in ("pinned", "newest")
    for renderer in ("classic", "vue")
]


@pytest.fixture(scope="session", params=PAGES)
def opened(
    request: pytest.FixtureRequest,
    loop: asyncio.AbstractEventLoop,
    browser: Any,
    server_of: Callable[[str], Server],
) -> Iterator[Frontend]:
    """The frontend that the host pins or the newest, with either node renderer.

    A page is slow to start.
    """
    name, renderer = request.param.split("-")
    opening = Frontend.open(browser, server_of(name), vue=renderer == "vue")
    frontend = loop.run_until_complete(opening)
    yield frontend
    loop.run_until_complete(frontend.close())


@pytest.fixture
def ui(loop: asyncio.AbstractEventLoop, opened: Frontend) -> Frontend:
    """A page with an empty graph."""
    loop.run_until_complete(opened.start_anew())
    return opened


def chromium() -> str:
    """The browser: CHROMIUM, or the one on the path."""
    named = os.environ.get("CHROMIUM")
    names = [named] if named else ["chromium", "chromium-browser", "google-chrome"]
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        told = ", ".join(names)
        pytest.fail(f"No browser ({told}): run `make browser`, or set CHROMIUM to a path.")
    return found


@asynccontextmanager
async def _launched(launching: Awaitable[Any]) -> AsyncGenerator[Any]:
    browser = await launching
    try:
        yield browser
    finally:
        await browser.close()
