"""Real servers with the frontends to test, and a real browser."""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from testkit.frontend import Frontend
from testkit.random_models import MODELS, write_apart
from testkit.server import ROOT, Client, serve

# The newest frontend, or one of your own to test with.
NEWEST = Path(
    os.environ.get(
        "COMFYUI_FRONTEND", ROOT / ".host" / "frontend" / "comfyui_frontend_package" / "static"
    )
)
TEST_SECONDS = 240  # a page that never answers must not hold everything up
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # the tests reach nothing but their server
]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Tests may be coroutines: they run in the one loop that the browser and the servers live in."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    work = pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
    pyfuncitem.funcargs["loop"].run_until_complete(asyncio.wait_for(work, TEST_SECONDS))
    return True


@pytest.fixture(scope="session")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="session")
def enter(loop: asyncio.AbstractEventLoop) -> Iterator[Callable]:
    """Enter an asynchronous context; all are left at the end, the last first."""
    stack = AsyncExitStack()
    yield lambda context: loop.run_until_complete(stack.enter_async_context(context))
    loop.run_until_complete(stack.aclose())


@pytest.fixture(scope="session")
def browser(enter: Callable) -> Any:
    from playwright.async_api import async_playwright

    playwright = enter(async_playwright())
    return enter(_launched(playwright.chromium.launch(executable_path=chromium(), args=OPTIONS)))


@pytest.fixture(scope="session")
def server_of(enter: Callable, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Client]:
    """One server for each frontend, started when first asked for."""
    write_apart()
    servers: dict[str, Client] = {}

    def server(name: str) -> Client:
        if name not in servers:
            folder = None if name == "pinned" else NEWEST
            if folder and not folder.is_dir():
                pytest.fail(f"{folder} is missing: run `make browser`.")
            servers[name] = enter(
                serve(tmp_path_factory.mktemp(name), models=MODELS, frontend=folder)
            )
        return servers[name]

    return server


@pytest.fixture(
    scope="session", params=["pinned-classic", "pinned-vue", "newest-classic", "newest-vue"]
)
def opened(
    request: pytest.FixtureRequest,
    loop: asyncio.AbstractEventLoop,
    browser: Any,
    server_of: Callable,
) -> Iterator[Frontend]:
    """The frontend that the host pins or the newest, with either node renderer; a page is slow to start."""
    name, renderer = request.param.split("-")
    frontend = loop.run_until_complete(
        Frontend.open(browser, server_of(name), vue=renderer == "vue")
    )
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
        pytest.fail(
            f"No browser ({', '.join(names)}): run `make browser`, or set CHROMIUM to a Chromium's path."
        )
    return found


@asynccontextmanager
async def _launched(launching: Any) -> AsyncIterator[Any]:
    browser = await launching
    try:
        yield browser
    finally:
        await browser.close()
