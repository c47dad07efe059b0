"""ComfyUI's own page in a browser, and the layout editor in it."""

from __future__ import annotations

import base64
import json
from typing import Any
from uuid import uuid4

from realcompo_core.layout.text import parse_objects

from .server import PACK, Server

SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.InstalledVersion": "1.30.0",
    "Comfy.Minimap.Visible": False,
    "Comfy.Workflow.ShowMissingModelsWarning": False,
    "Comfy.Workflow.Persist": True,
}
READY = """() => !!(window.app?.extensionManager?.workflow?.activeWorkflow?.changeTracker
    && window.LiteGraph?.registered_node_types?.RealCompoLayout)"""
EMPTY = {"version": 0.4, "nodes": [], "links": [], "last_node_id": 0, "last_link_id": 0}
SIZE = {"width": 1400, "height": 1000}
LAYOUT, EDITOR = (
    f"app.canvas.graph.getNodeById(id).widgets.find(({{ name }}) => name === '{name}'){part}"
    for name, part in (("layout", ""), ("layout_editor", ".element"))
)
SHOW_AT = """scale => {
    Object.assign(app.canvas.ds, { scale, offset: [100 / scale, 140 / scale] });
    app.canvas.setDirty(true, true);
}"""
SHOW = """id => {
    const [x, y] = app.canvas.graph.getNodeById(id).pos;
    Object.assign(app.canvas.ds, { scale: 1, offset: [100 - x, 140 - y] });
    app.canvas.setDirty(true, true);
}"""
CORNER = """id => {
    const shown = document.querySelector(`[data-node-id="${id}"]`)?.getBoundingClientRect();
    if (shown) return [shown.right - 4, shown.bottom - 4];
    const { pos: [x, y], size: [width, height] } = app.canvas.graph.getNodeById(id);
    const { scale, offset } = app.canvas.ds;
    const { left, top } = app.canvas.canvas.getBoundingClientRect();
    return [left + (x + width + offset[0]) * scale - 3, top + (y + height + offset[1]) * scale - 3];
}"""
ADD_NODE = """([kind, x, y]) => {
    const node = LiteGraph.createNode(kind);
    node.pos = [x, y];
    app.canvas.graph.add(node);
    return node.id;
}"""
CONNECT = """([source, output, target, name]) => {
    const [from, to] = [source, target].map((id) => app.canvas.graph.getNodeById(id));
    return !!from.connect(from.findOutputSlot(output), to, to.findInputSlot(name));
}"""
NEW_NODE = "known => app.canvas.graph.nodes.map(({ id }) => id).find((id) => !known.includes(id))"
SET_WIDGETS = """([id, values]) => {
    const node = app.canvas.graph.getNodeById(id);
    for (const [name, value] of Object.entries(values)) {
        const widget = node.widgets.find((widget) => widget.name === name);
        widget.value = value;
        widget.callback?.(value, app.canvas, node);
    }
}"""
WATCH_LOADING = """() => {
    window.loaded = false;
    const { loadGraphData } = app;
    app.loadGraphData = async (...details) => {
        app.loadGraphData = loadGraphData;
        const result = await loadGraphData.apply(app, details);
        window.loaded = true;
        return result;
    };
}"""
WATCH_RUN = """async () => {
    window.ended = null;
    const { api } = await import(new URL('/scripts/api.js', location.href));
    let images = {};
    api.addEventListener('executed', ({ detail: { output } }) => {
        if (output?.images) images = output;
    });
    api.addEventListener('execution_success', () => { window.ended = images });
    api.addEventListener('execution_error', ({ detail }) => { window.ended = detail });
}"""
DROP = """([selector, name, content]) => {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([bytes], name, { type: 'image/png' }));
    const target = document.querySelector(selector);
    const { left, top, width, height } = target.getBoundingClientRect();
    const place = { clientX: left + width * 0.9, clientY: top + height * 0.5 };
    for (const type of ['dragenter', 'dragover', 'drop']) {
        const details = { dataTransfer, bubbles: true, cancelable: true, ...place };
        target.dispatchEvent(new DragEvent(type, details));
    }
}"""


class Frontend:
    """One page. Positions are shares of the editor's picture; a node is named by its id."""

    def __init__(self, page: Any, client: Server, vue: bool) -> None:
        self.page, self.client, self.vue = page, client, vue
        self.errors: list[str] = []
        self.clicks = 0
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._hear)
        page.set_default_timeout(30_000)

    def _hear(self, log: Any) -> None:
        """Keep what the page logs about the editor: the frontend catches its extensions' errors."""
        ours = "RealCompo.LayoutEditor" in log.text or f"/extensions/{PACK}/" in log.location["url"]
        if log.type in ("error", "warning") and ours:
            self.errors.append(log.text)

    @classmethod
    async def open(cls, browser: Any, client: Server, vue: bool) -> Frontend:
        await client.post("settings", SETTINGS | {"Comfy.VueNodes.Enabled": vue})
        context = await browser.new_context(viewport=SIZE)
        frontend = cls(await context.new_page(), client, vue)
        await frontend.page.goto(client.url)
        await frontend.ready()
        return frontend

    async def start_anew(self) -> None:
        """A new workflow without nodes."""
        self.errors.clear()
        await self.press("Escape")  # closes what a failed test has left open
        # A workflow that does not say this is scaled to the renderer at every load, also by undo.
        extra = {"workflowRendererVersion": "Vue" if self.vue else "LG"}
        await self.load(EMPTY | {"id": str(uuid4()), "extra": extra})

    async def close(self) -> None:
        await self.page.context.close()

    async def ready(self) -> None:
        await self.page.wait_for_function(READY)

    async def evaluate(self, script: str, *argument: Any) -> Any:
        return await self.page.evaluate(script, *argument)

    async def load(self, workflow: dict) -> None:
        """Show a workflow, unscaled, near the top left."""
        await self.page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
        await self.show_at(1)

    async def show_at(self, scale: float) -> None:
        await self.page.evaluate(SHOW_AT, scale)

    async def saved(self) -> dict:
        """The workflow as the frontend would save it."""
        return json.loads(
            await self.page.evaluate(
                "() => JSON.stringify((app.rootGraph ?? app.graph).serialize())"
            )
        )

    async def add(self, kind: str, x: float = 0, y: float = 0) -> int:
        """A new node in the graph that is shown; returns its id."""
        node = await self.page.evaluate(ADD_NODE, [kind, x, y])
        await self.page.wait_for_function("id => app.canvas.graph.getNodeById(id)", arg=node)
        return node

    async def connect(self, source: int, output: str, target: int, name: str) -> None:
        assert await self.page.evaluate(CONNECT, [source, output, target, name]), (
            f"{output} does not fit {name}"
        )

    async def set(self, node: int, **values: Any) -> None:
        """Widget values, with what the frontend does when the user changes them."""
        await self.page.evaluate(SET_WIDGETS, [node, values])

    async def text(self, node: int) -> str:
        """The text of a layout node: the only truth."""
        return await self.page.evaluate(f"id => {LAYOUT}.value", node)

    async def layout(self, node: int) -> list[tuple[str, tuple[float, ...]]]:
        """What the Python side makes of that text: phrases and boxes."""
        found = parse_objects(await self.text(node))
        return [
            (item.phrase, (item.box.x0, item.box.y0, item.box.x1, item.box.y1)) for item in found
        ]

    async def editor(self, node: int) -> Any:
        """The editor of a node, once it is on the page."""
        await self.page.wait_for_function(f"id => {EDITOR}.isConnected", arg=node)
        await self.page.evaluate(f"id => {{ {EDITOR}.dataset.node = id }}", node)
        return self.page.locator(f'.rc-editor[data-node="{node}"]')

    async def point(self, node: int, x: float, y: float) -> tuple[float, float]:
        """A place in the editor's picture, in pixels of the page."""
        stage = (await self.editor(node)).locator(".rc-stage")
        await stage.wait_for(state="visible")
        await (await stage.element_handle()).wait_for_element_state("stable")
        box = await stage.bounding_box()
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    async def stretch(self, node: int, dx: float, dy: float) -> None:
        """Drag a layout node's lower right corner, in pixels."""
        await self.point(node, 0.5, 0.5)
        x, y = await self.page.evaluate(CORNER, node)
        await self.page.mouse.move(x, y)
        await self.page.mouse.down()
        await self.page.mouse.move(x + dx, y + dy, steps=4)
        await self.page.mouse.up()

    async def drag(
        self, node: int, start: tuple[float, float], end: tuple[float, float], *keys: str
    ) -> None:
        """The pointer from one place of the picture to another, while keys are held."""
        mouse, keyboard = self.page.mouse, self.page.keyboard
        for key in keys:
            await keyboard.down(key)
        await mouse.move(*await self.point(node, *start))
        await mouse.down()
        await mouse.move(*await self.point(node, *end), steps=4)
        await mouse.up()
        for key in keys:
            await keyboard.up(key)

    async def draw(
        self, node: int, phrase: str, left: float, top: float, right: float, bottom: float
    ) -> None:
        """Draw a box on empty ground, without snapping, and type its phrase."""
        await self.drag(node, (left, top), (right, bottom), "Control")
        await self.page.keyboard.type(phrase)
        await self.page.keyboard.press("Enter")

    async def click(self, node: int, x: float, y: float, **options: Any) -> None:
        await self.page.mouse.click(*await self.point(node, x, y), **options)

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.page.keyboard.press(key)

    async def select(self, node: int) -> None:
        await self.page.evaluate(
            "id => app.canvas.selectNode(app.canvas.graph.getNodeById(id))", node
        )

    async def show(self, node: int) -> None:
        """Bring a node to the top left of the page."""
        await self.page.evaluate(SHOW, node)

    async def nodes(self) -> list[int]:
        """The nodes of the graph that is shown."""
        return await self.page.evaluate("() => app.canvas.graph.nodes.map(({ id }) => id)")

    async def new_node(self, known: list[int]) -> int:
        """Wait for a node that is not among the known ones."""
        await self.page.wait_for_function(NEW_NODE, arg=known)
        return await self.page.evaluate(NEW_NODE, known)

    async def leave(self) -> None:
        """Click on the graph's empty ground, so that its own keys work.

        Never twice at one place: that would be a double click.
        """
        self.clicks += 1
        await self.page.mouse.click(
            SIZE["width"] - 40, SIZE["height"] - 200 - 30 * (self.clicks % 2)
        )

    async def graph_undo(self, key: str = "Control+z") -> None:
        """The graph's own undo, which loads the graph anew."""
        await self.page.evaluate(WATCH_LOADING)
        await self.press(key)
        await self.page.wait_for_function("() => window.loaded")

    async def run(self) -> bytes:
        """Queue as the user does and wait; returns the saved image."""
        await self.page.evaluate(WATCH_RUN)
        await self.press("Control+Enter")
        await self.page.wait_for_function("() => window.ended", timeout=120_000)
        ended = await self.page.evaluate("() => window.ended")
        assert "images" in ended, ended
        return await self.client.file(ended["images"][0])

    async def drop(self, selector: str, name: str, content: bytes) -> None:
        """Drop a file on an element."""
        await self.page.evaluate(DROP, [selector, name, base64.b64encode(content).decode()])
