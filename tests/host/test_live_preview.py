"""What the sampler shows while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from testkit.host import Host
from testkit.scene import Scene


@pytest.fixture
def previews(host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The images that ComfyUI would send to the browser, with its fast previews switched on."""
    import comfy.utils

    shown: list[Any] = []

    def hook(value: int, total: int, preview: Any, **_: Any) -> None:
        shown.append(preview and preview[1].copy())

    choose_previews(monkeypatch, "Latent2RGB")
    comfy.utils.set_progress_bar_global_hook(hook)
    yield shown
    comfy.utils.set_progress_bar_global_hook(None)


def choose_previews(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Choose how ComfyUI previews; newer ones take the default again at every prompt."""
    import latent_preview
    from comfy.cli_args import LatentPreviewMethod, args

    chosen = LatentPreviewMethod[method]
    monkeypatch.setattr(args, "preview_method", chosen)
    monkeypatch.setattr(latent_preview, "default_preview_method", chosen, raising=False)


FIXED = {"mode": "fixed", "text_weight": 1.0, "warmup": 0.34}


def run(host: Host, settings: dict[str, Any] = FIXED, **inputs: Any) -> None:
    host.forget()
    scene = Scene(width=64, height=128, gligen=False)
    host.run(scene, latent=scene.realcompo(settings, steps=3, **inputs)[0])


def test_the_balance_stands_beside_the_preview(host: Host, previews: list[Any]) -> None:
    """Orange while the spatial branch warms up, blue where the text branch has all the weight."""
    run(host)
    plain = list(previews)
    previews.clear()
    run(host, show_balance=True)
    assert len(plain) == len(previews) == 3
    for alone, together in zip(plain, previews, strict=True):
        width, height = alone.size
        assert together.size == (2 * width, height)
        assert together.crop((0, 0, width, height)).tobytes() == alone.tobytes()
    colours = [image.getpixel((image.width - 1, image.height // 2)) for image in previews]
    assert colours[0][0] > 200 > colours[0][2] and colours[1][2] > 200 > colours[1][0]
    assert colours[1] == colours[2]


@pytest.mark.parametrize(("mode", "blue"), [("text only", True), ("spatial only", False)])
def test_one_branch_alone_leads_everywhere(
    host: Host, previews: list[Any], mode: str, blue: bool
) -> None:
    run(host, {"mode": mode}, show_balance=True)
    red, _, is_blue = previews[0].getpixel((previews[0].width - 1, 0))
    assert (is_blue > 200 > red) if blue else (red > 200 > is_blue)


def test_without_previews_only_the_progress_is_told(
    host: Host, previews: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    choose_previews(monkeypatch, "NoPreviews")
    run(host, show_balance=True)
    assert previews == [None] * 3
