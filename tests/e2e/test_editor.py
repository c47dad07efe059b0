"""The layout editor in ComfyUI's own page.

The frontend that the host pins and the newest, both node renderers.
"""

from __future__ import annotations

import secrets
from io import BytesIO

import pytest
from PIL import Image

from testkit.chat_server import MODEL, ChatServer, silent
from testkit.frontend import Frontend
from testkit.random_models import CHECKPOINT, GLIGEN

CUBE, BALL = (
    ("a red cube", (0.05, 0.3, 0.45, 0.9)),
    ("a blue ball", (0.55, 0.3, 0.95, 0.9)),
)  # a new node's example
SIDE = 64


async def empty_editor(ui: Frontend) -> int:
    node = await ui.add("RealCompoLayout")
    await ui.set(node, layout="")
    return node


async def picture_workflow(ui: Frontend) -> int:
    """Everything from a layout to a saved image, with small random models.

    Returns the layout node.
    """
    layout = await empty_editor(ui)
    kinds = [
        "CheckpointLoaderSimple",
        "GLIGENLoader",
        "RealCompoLayoutConditioning",
        "EmptyLatentImage",
        "RealCompoKSampler",
        "VAEDecode",
        "SaveImage",
    ]
    nodes = [await ui.add(kind, 500 + 300 * place) for place, kind in enumerate(kinds)]
    models, gligen, words, latent, sampler, decode, save = nodes
    links = [
        (models, "CLIP", words, "clip"),
        (gligen, "GLIGEN", words, "gligen"),
        (layout, "layout", words, "layout"),
        (models, "MODEL", sampler, "model"),
        (words, "text", sampler, "positive"),
        (words, "text", sampler, "negative"),
        (words, "spatial", sampler, "spatial_positive"),
        (latent, "LATENT", sampler, "latent_image"),
        (sampler, "latent", decode, "samples"),
        (models, "VAE", decode, "vae"),
        (decode, "IMAGE", save, "images"),
    ]
    for link in links:
        await ui.connect(*link)
    await ui.set(models, ckpt_name=CHECKPOINT)
    await ui.set(gligen, gligen_name=GLIGEN)
    await ui.set(words, text="a red circle left of a blue square")
    await ui.set(latent, width=SIDE, height=SIDE)
    await ui.set(sampler, steps=3)
    return layout


def near(found: list, *expected: tuple) -> bool:
    """The same phrases, and boxes to within a hundredth."""
    return [phrase for phrase, _ in found] == [phrase for phrase, _ in expected] and all(
        abs(a - b) < 0.01
        for (_, one), (_, two) in zip(found, expected, strict=True)
        for a, b in zip(one, two, strict=True)
    )


# From a drawing to a picture


async def test_two_drawn_boxes_make_a_picture_that_brings_the_graph_back(ui: Frontend) -> None:
    layout = await picture_workflow(ui)
    circle, square = ("red circle", (0.06, 0.3, 0.44, 0.7)), ("blue square", (0.56, 0.3, 0.94, 0.7))
    await ui.draw(layout, circle[0], *circle[1])
    await ui.draw(layout, square[0], *square[1])
    assert near(await ui.layout(layout), circle, square)
    before = await ui.saved()

    png = await ui.run()
    image = Image.open(BytesIO(png))
    assert image.size == (SIDE, SIDE) and len(image.getcolors(SIDE * SIDE)) > 100

    text = await ui.text(layout)
    await ui.load({**before, "nodes": [], "links": []})
    await ui.drop("#graph-canvas", "picture.png", png)
    await ui.page.wait_for_function(
        "count => app.graph.nodes.length === count", arg=len(before["nodes"])
    )
    assert await ui.text(layout) == text
    after = await ui.saved()
    assert values(after) == values(before) and after["links"] == before["links"]
    assert ui.errors == []


def values(workflow: dict) -> dict:
    return {
        node["id"]: (node["type"], node.get("widgets_values") or []) for node in workflow["nodes"]
    }


# What is stored and brought back


async def test_a_new_node_shows_its_example_and_stores_one_text(ui: Frontend) -> None:
    node = await ui.add("RealCompoLayout")
    editor = await ui.editor(node)
    assert await editor.locator(".rc-label").all_inner_texts() == [CUBE[0], BALL[0]]
    [saved] = (await ui.saved())["nodes"]
    assert saved["widgets_values"] == [
        await ui.text(node),
        512,
        512,
        "x y width height",
        "pixels",
        "",
    ]
    assert not (await ui.text(node)).startswith("{")  # an older format is rewritten only by an edit
    await ui.draw(node, "a dog", 0.3, 0.05, 0.7, 0.25)
    assert near(await ui.layout(node), CUBE, BALL, ("a dog", (0.3, 0.05, 0.7, 0.25)))
    assert len((await ui.saved())["nodes"][0]["widgets_values"]) == 6
    assert ui.errors == []


async def test_saved_and_reloaded(ui: Frontend) -> None:
    node = await empty_editor(ui)
    await ui.draw(node, "a cat", 0.1, 0.1, 0.4, 0.6)
    text = await ui.text(node)
    name = f"layout {secrets.token_hex(4)}"
    await ui.leave()
    await ui.press("Control+s")
    await ui.page.get_by_role("dialog").get_by_role("textbox").fill(name)
    await ui.press("Enter")
    await ui.page.wait_for_function(
        "name => app.extensionManager.workflow.activeWorkflow.path.includes(name)", arg=name
    )
    await ui.page.wait_for_function(
        "() => !app.extensionManager.workflow.activeWorkflow.isModified"
    )
    stored = await ui.client.get(f"userdata/workflows%2F{name}.json")
    assert stored["nodes"][0]["widgets_values"][0] == text

    await ui.page.reload()
    await ui.ready()
    await ui.page.wait_for_function("() => app.graph.nodes.length === 1")
    assert await ui.text(node) == text
    assert await (await ui.editor(node)).locator(".rc-label").all_inner_texts() == ["a cat"]
    await ui.draw(node, "a dog", 0.5, 0.1, 0.9, 0.6)
    assert near(
        await ui.layout(node), ("a cat", (0.1, 0.1, 0.4, 0.6)), ("a dog", (0.5, 0.1, 0.9, 0.6))
    )
    assert ui.errors == []


async def test_undo_in_the_editor_and_by_the_graph(ui: Frontend) -> None:
    node = await empty_editor(ui)
    boxes = (await ui.editor(node)).locator(".rc-box")
    await ui.draw(node, "a cat", 0.1, 0.1, 0.4, 0.6)
    named = await ui.text(node)
    await ui.draw(node, "a dog", 0.5, 0.1, 0.9, 0.6)
    both = await ui.text(node)

    await ui.press("Control+z", "Control+z")  # the phrase, then the box
    assert await ui.text(node) == named and await boxes.count() == 1
    await ui.press("Control+Shift+z", "Control+y")
    assert await ui.text(node) == both and await boxes.count() == 2

    await ui.leave()
    await graph_history(ui, node, "Control+z", named)
    assert await (await ui.editor(node)).locator(".rc-label").all_inner_texts() == ["a cat"]
    await graph_history(ui, node, "Control+y", both)
    await ui.drag(node, (0.2, 0.3), (0.3, 0.4), "Control")  # the rebuilt editor works on
    assert (await ui.layout(node))[0][1] == pytest.approx((0.2, 0.2, 0.5, 0.7), abs=0.01)
    assert ui.errors == []


async def graph_history(ui: Frontend, node: int, key: str, text: str) -> None:
    """Go through the graph's own history until the node has a text."""
    seen = []
    while text not in seen:
        assert len(seen) < 8, seen
        await ui.graph_undo(key)
        seen.append(await ui.text(node))


async def test_copies_are_independent_also_in_another_graph(ui: Frontend) -> None:
    node = await empty_editor(ui)
    await ui.draw(node, "a cat", 0.1, 0.1, 0.4, 0.6)
    text = await ui.text(node)
    await ui.leave()
    await ui.select(node)
    await ui.press("Control+c")
    await ui.leave()
    await ui.press("Control+v")
    copy = await ui.new_node([node])
    assert await ui.text(copy) == text
    await ui.show(copy)
    await ui.draw(copy, "a dog", 0.5, 0.1, 0.9, 0.6)
    assert near(
        await ui.layout(copy), ("a cat", (0.1, 0.1, 0.4, 0.6)), ("a dog", (0.5, 0.1, 0.9, 0.6))
    )
    assert await ui.text(node) == text

    await ui.evaluate("() => app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    await ui.page.wait_for_function("() => app.graph.nodes.length === 0")
    await ui.leave()
    await ui.press("Control+v")
    other = await ui.new_node([])
    await ui.show(other)
    assert await ui.text(other) == text
    assert await (await ui.editor(other)).locator(".rc-label").all_inner_texts() == ["a cat"]
    assert ui.errors == []


async def test_resized_collapsed_and_in_a_subgraph(ui: Frontend) -> None:
    node = await empty_editor(ui)
    stage = (await ui.editor(node)).locator(".rc-stage")
    await ui.point(node, 0.5, 0.5)
    before = (await stage.bounding_box())["height"]
    await ui.stretch(node, 150, 100)
    await ui.page.wait_for_function(
        "before => document.querySelector('.rc-stage').clientHeight > before", arg=before + 30
    )
    await ui.evaluate("id => app.graph.getNodeById(id).collapse()", node)
    await stage.wait_for(state="hidden")
    await ui.evaluate("id => app.graph.getNodeById(id).collapse()", node)
    await ui.draw(node, "a cat", 0.1, 0.1, 0.4, 0.6)
    assert near(await ui.layout(node), ("a cat", (0.1, 0.1, 0.4, 0.6)))

    await ui.evaluate(
        "id => { app.graph.convertToSubgraph(new Set([app.graph.getNodeById(id)])) }", node
    )
    await ui.evaluate(OPEN_SUBGRAPH)
    [inner] = await ui.nodes()
    await ui.show_at(1)
    await ui.draw(inner, "a dog", 0.5, 0.1, 0.9, 0.6)
    expected = [("a cat", (0.1, 0.1, 0.4, 0.6)), ("a dog", (0.5, 0.1, 0.9, 0.6))]
    assert near(await ui.layout(inner), *expected)
    text = await ui.text(inner)
    await ui.evaluate("() => app.canvas.setGraph(app.rootGraph ?? app.graph)")
    saved = await ui.saved()
    assert text in [
        value
        for node in saved["definitions"]["subgraphs"][0]["nodes"]
        for value in node["widgets_values"]
    ]
    await ui.load(saved)
    await ui.evaluate(OPEN_SUBGRAPH)
    [inner] = await ui.nodes()
    assert await (await ui.editor(inner)).locator(".rc-label").all_inner_texts() == [
        "a cat",
        "a dog",
    ]
    assert ui.errors == []


# Keyboard and mouse


async def test_the_keyboard_does_everything(ui: Frontend) -> None:
    node = await ui.add("RealCompoLayout")
    editor = await ui.editor(node)
    await editor.get_by_label("Boxes.").focus()
    await ui.press("Tab", "ArrowRight", "Shift+ArrowUp", "Alt+ArrowDown")
    assert near(await ui.layout(node), (CUBE[0], (0.06, 0.2, 0.46, 0.81)), BALL)
    await ui.press("Control+d", "PageUp", "Enter")
    await ui.page.keyboard.type("a green hat")
    await ui.press("Enter")
    assert [phrase for phrase, _ in await ui.layout(node)] == [CUBE[0], BALL[0], "a green hat"]
    assert "3/3 a green hat" in await editor.get_by_role("status").inner_text()
    await ui.press("Delete", "Delete")
    assert [phrase for phrase, _ in await ui.layout(node)] == [CUBE[0]]
    await ui.press("n")
    await ui.page.keyboard.type("a new one")
    await ui.press("Escape", "Shift+Tab")
    assert await editor.locator(".rc-selected .rc-label").inner_text() == CUBE[0]
    await ui.press("Tab", "Tab")  # past the last box, out of the editor
    assert not await editor.get_by_label("Boxes.").evaluate(
        "element => element === document.activeElement"
    )
    assert await ui.nodes() == [node]
    assert ui.errors == []


async def test_typing_a_phrase_is_no_shortcut(ui: Frontend) -> None:
    node = await ui.add("RealCompoLayout")
    await ui.click(node, 0.25, 0.6, click_count=2)
    before = await ui.evaluate(SURROUNDINGS)
    await ui.page.keyboard.type("r w.q m?")
    await ui.press(
        "Control+b", "Control+m", "Control+g", "Alt+c", "Control+a", "Delete", "Control+z", "Delete"
    )
    await ui.page.keyboard.type("a cat")
    assert await ui.evaluate(SURROUNDINGS) == before
    await ui.press("Enter")
    assert [phrase for phrase, _ in await ui.layout(node)] == ["a cat", BALL[0]]
    assert ui.errors == []


async def test_a_connected_text_is_not_edited(ui: Frontend) -> None:
    node, other = await ui.add("RealCompoLayout"), await ui.add("PrimitiveStringMultiline", 600)
    editor, text = await ui.editor(node), await ui.text(node)
    await ui.connect(other, "STRING", node, "layout")
    assert await editor.get_by_role("status").inner_text() == "The layout comes from a connection."
    await ui.drag(node, (0.1, 0.1), (0.3, 0.2))
    await ui.press("n", "Delete", "Control+z")
    assert await editor.locator(".rc-box").count() == 0 and await ui.text(node) == text
    await ui.evaluate(DISCONNECT, [node, "layout"])
    await editor.locator(".rc-box").nth(1).wait_for()
    assert ui.errors == []


async def test_the_mouse_does_everything(ui: Frontend) -> None:
    node = await ui.add("RealCompoLayout")
    editor = await ui.editor(node)
    selected = editor.locator(".rc-selected .rc-label")
    await ui.click(node, 0.25, 0.6)
    await ui.drag(node, (0.45, 0.9), (0.35, 0.8), "Control")
    assert near(await ui.layout(node), (CUBE[0], (0.05, 0.3, 0.35, 0.8)), BALL)
    await ui.drag(node, (0.75, 0.6), (0.75, 0.35), "Alt", "Control")
    copy = (BALL[0], (0.55, 0.05, 0.95, 0.65))
    assert near(await ui.layout(node), (CUBE[0], (0.05, 0.3, 0.35, 0.8)), BALL, copy)
    await ui.drag(node, (0.1, 0.4), (0.3, 0.7), "Shift", "Control")
    await ui.page.keyboard.type("a door")
    await ui.press("Enter")
    assert near((await ui.layout(node))[3:], ("a door", (0.1, 0.4, 0.3, 0.7)))

    await ui.click(node, 0.2, 0.6)  # the door again: what lies below it
    assert await selected.inner_text() == CUBE[0]
    await ui.click(node, 0.2, 0.6, click_count=2)
    await ui.page.keyboard.type("a red house")
    await ui.leave()
    assert [phrase for phrase, _ in await ui.layout(node)] == [
        "a red house",
        BALL[0],
        BALL[0],
        "a door",
    ]

    x, y = await ui.point(node, 0.25, 0.75)  # of the house, below the door
    await ui.page.mouse.move(x, y)
    await ui.page.mouse.down()
    stage = await editor.locator(".rc-stage").bounding_box()
    await ui.page.mouse.move(x - 0.04 * stage["width"], y, steps=4)
    assert await editor.locator(".rc-guide.rc-x").count() == 1
    await ui.page.mouse.up()
    assert (await ui.layout(node))[0][1] == pytest.approx((0, 0.3, 0.3, 0.8), abs=1e-4)
    await editor.get_by_role("button", name="Undo").click()
    await editor.get_by_role("button", name="Delete").click()
    assert [phrase for phrase, _ in await ui.layout(node)] == [BALL[0], BALL[0], "a door"]
    assert await ui.nodes() == [node]
    assert ui.errors == []


async def test_zoom_is_the_editors_where_it_has_the_focus_and_panning_the_graphs(
    ui: Frontend,
) -> None:
    node = await ui.add("RealCompoLayout")
    stage = (await ui.editor(node)).locator(".rc-stage")
    await ui.click(node, 0.1, 0.1)
    width = await stage.evaluate("element => element.clientWidth")
    await ui.page.mouse.wheel(0, -100)
    await ui.page.wait_for_function(
        "width => document.querySelector('.rc-stage').clientWidth > 1.2 * width", arg=width
    )
    assert await ui.evaluate("() => app.canvas.ds.scale") == 1
    await ui.press("0")
    assert await stage.evaluate("element => element.clientWidth") == width

    x, y = await ui.point(node, 0.5, 0.5)
    before = await ui.evaluate("() => [...app.canvas.ds.offset]")
    await ui.page.mouse.move(x, y)
    await ui.page.mouse.down(button="middle")
    await ui.page.mouse.move(x + 60, y + 30, steps=3)
    await ui.page.mouse.up(button="middle")
    assert await ui.evaluate("() => [...app.canvas.ds.offset]") == pytest.approx(
        [before[0] + 60, before[1] + 30], abs=1
    )
    await ui.leave()
    await ui.page.mouse.move(*await ui.point(node, 0.5, 0.5))
    await ui.page.mouse.wheel(0, 100)
    await ui.page.wait_for_function("() => app.canvas.ds.scale < 1")
    assert near(await ui.layout(node), CUBE, BALL)
    assert ui.errors == []


# What the node shows


async def test_pictures_to_trace_over(ui: Frontend) -> None:
    Image.new("RGB", (64, 64), "red").save(ui.client.base / "input" / "traced.png")
    node, loader = await empty_editor(ui), await ui.add("LoadImage", 600)
    picture = (await ui.editor(node)).locator(".rc-picture")
    await ui.set(node, width=1024, height=512)
    stage = await (await ui.editor(node)).locator(".rc-stage").bounding_box()
    assert stage["width"] / stage["height"] == pytest.approx(2, rel=0.01)

    await ui.set(loader, image="traced.png")
    await ui.connect(loader, "IMAGE", node, "image")
    await ui.page.wait_for_function(
        "() => document.querySelector('.rc-picture')?.naturalWidth === 64"
    )
    assert "traced.png" in await picture.get_attribute("src")

    dropped = BytesIO()
    Image.new("RGB", (32, 32), "blue").save(dropped, "png")
    await ui.drop(".rc-stage", "blue.png", dropped.getvalue())
    await ui.page.wait_for_function(
        "() => document.querySelector('.rc-picture')?.naturalWidth === 32"
    )
    assert (await picture.get_attribute("src")).startswith("blob:")
    assert await ui.nodes() == [node, loader] and "blob:" not in str(await ui.saved())
    await ui.leave()  # the graph's history sees the nodes before the drawing
    await ui.draw(node, "a cat", 0.1, 0.1, 0.4, 0.6)
    await ui.leave()
    await ui.graph_undo()
    await ui.page.wait_for_function(
        "() => document.querySelector('.rc-picture')?.naturalWidth === 32"
    )
    await (await ui.editor(node)).get_by_role("button", name="Picture to trace over").click()
    await ui.page.wait_for_function(
        "() => document.querySelector('.rc-picture')?.naturalWidth === 64"
    )
    assert ui.errors == []


async def test_what_the_node_was_given_is_shown_after_a_run(ui: Frontend) -> None:
    node, image, preview = (
        await ui.add("RealCompoLayout"),
        await ui.add("EmptyImage", 600),
        await ui.add("RealCompoLayoutPreview", 900),
    )
    await ui.set(
        image, color=secrets.randbelow(2**24)
    )  # the server tells nothing new of what it has cached
    await ui.connect(image, "IMAGE", node, "image")
    await ui.connect(node, "layout", preview, "layout")
    await ui.leave()
    await ui.run()
    await ui.page.wait_for_function(
        "() => document.querySelector('.rc-picture')?.naturalWidth === 512"
    )
    assert ui.errors == []


async def test_a_planner_says_what_it_waits_for(ui: Frontend) -> None:
    with ChatServer([silent(60)]) as model:
        profile = ui.client.base / "user" / "realcompo_planner.toml"
        profile.write_text(f'[slow]\nurl = "{model.url}"\nmodel = "{MODEL}"\n')
        node, preview = (
            await ui.add("RealCompoLayoutPlanner"),
            await ui.add("RealCompoLayoutPreview", 500),
        )
        await ui.set(node, prompt="a cat", profile="slow")
        await ui.connect(node, "layout", preview, "layout")
        await ui.leave()
        await ui.press("Control+Enter")
        status = ui.page.get_by_text("asking profile 'slow'...")
        await status.wait_for()
        await ui.client.post("interrupt")
        await status.wait_for(state="detached")
    assert ui.errors == []


HOSTILE = '<img src=x onerror="window.hacked=1"></span><script>window.hacked=1</script>'


async def test_hostile_and_broken_texts(ui: Frontend) -> None:
    node = await empty_editor(ui)
    editor = await ui.editor(node)
    await ui.set(node, layout=f"{HOSTILE}: 0.1 0.1 0.9 0.9")
    assert await editor.locator(".rc-label").all_inner_texts() == [HOSTILE]
    await ui.click(node, 0.5, 0.5)
    await ui.click(node, 0.5, 0.5, click_count=2)
    assert await editor.get_by_label("Phrase", exact=True).input_value() == HOSTILE
    assert (
        await editor.locator(
            ".rc-stage img:not(.rc-picture), .rc-stage script, .rc-status *"
        ).count()
        == 0
    )
    assert await ui.evaluate("() => window.hacked") is None

    for broken in ("a cat: 0 0 1", '{"version": 7, "objects": []}', "{"):
        await ui.set(node, layout=broken)
        await ui.drag(node, (0.2, 0.2), (0.6, 0.6))
        await ui.press("n", "Delete", "Control+z")
        assert await ui.text(node) == broken
        assert "rc-wrong" in await editor.get_by_role("status").get_attribute("class")

    await editor.get_by_role("button", name="As text").click()
    await editor.get_by_label("The layout as text").fill("a cat: 0.1 0.1 0.5 0.5")
    assert near(await ui.layout(node), ("a cat", (0.1, 0.1, 0.5, 0.5)))
    await editor.get_by_role("button", name="As text").click()
    assert await editor.locator(".rc-label").all_inner_texts() == ["a cat"]
    assert ui.errors == []


SURROUNDINGS = """() => JSON.stringify([
    app.graph.nodes.map(({ id, mode, flags }) => [id, mode, flags]), app.graph.groups?.length,
    app.canvas.ds.scale, app.extensionManager.sidebarTab?.activeSidebarTabId,
    document.querySelectorAll('[role=dialog]').length,
])"""
DISCONNECT = """([id, name]) => {
    const node = app.graph.getNodeById(id);
    node.disconnectInput(node.findInputSlot(name));
}"""
OPEN_SUBGRAPH = """() => {
    const host = (app.rootGraph ?? app.graph).nodes.find((node) => node.isSubgraphNode?.());
    app.canvas.openSubgraph(host.subgraph, host);
}"""
