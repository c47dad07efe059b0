"""Flow models, and latents with a time: exact where stock is exact, and moved as VE models are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from testkit.host import Host, PromptError
from testkit.live_run import relative
from testkit.tiny_scene import RESTING, TinyScene, picture_of

NUDGED = {"warmup": 0.5, "guidance": 1.0}


@pytest.mark.parametrize("family", ["flux", "qwen image", "cosmos2"])
def test_one_sided_weights_are_the_stock_sampler(host: Host, family: str) -> None:
    """Of a batch of two."""
    scene = TinyScene(host, family, batch=2)
    found = scene.samples(
        stock_text=scene.stock(),
        stock_spatial=scene.stock("spatial"),
        text=scene.realcompo({"mode": "fixed", "text_weight": 1.0, "warmup": 0.0}),
        spatial=scene.realcompo({"mode": "fixed", "text_weight": 0.0, "warmup": 0.0}),
    )
    assert not torch.equal(found["stock_text"], found["stock_spatial"])
    assert torch.equal(found["text"], found["stock_text"])
    assert torch.equal(found["spatial"], found["stock_spatial"])


@pytest.mark.parametrize("family", ["flux", "qwen image"])
def test_inpainting_keeps_what_is_masked(host: Host, family: str) -> None:
    """And at one-sided weights it is the stock sampler's."""
    scene, picture = TinyScene(host, family), picture_of(family)
    mask = torch.zeros(1, 8 * picture.shape[-2], 8 * picture.shape[-1])
    mask[..., : mask.shape[-1] // 2] = 1
    scene.latent = scene.holding(picture, noise_mask=mask)
    found = scene.samples(
        stock=scene.stock("spatial"),
        fixed=scene.realcompo({"mode": "fixed", "text_weight": 0.0, "warmup": 0.0}),
        dynamic=scene.realcompo(NUDGED, steps=4),
    )
    assert torch.equal(found["stock"], found["fixed"])
    kept = found["dynamic"] - picture
    half = picture.shape[-1] // 2
    assert kept[..., half + 1 :].abs().max() < 1e-4 < kept[..., :half].abs().mean()


# Moves of the latent


@pytest.mark.parametrize(
    ("family", "sampler"), [("flux", "euler_ancestral"), ("flux", "lcm"), ("wan", "euler")]
)
def test_the_moved_latent_is_carried_on(host: Host, family: str, sampler: str) -> None:
    """As if the sampler's own latent were moved, also by steps whose factors don't sum to one."""
    scene = TinyScene(host, family)
    model = scene.layout_guidance(scene.model)
    in_place = scene.changed(model, "in place", moving_in_place(host))
    sampling: dict[str, Any] = {"sampler_name": sampler, "steps": 4}
    found = scene.samples(
        stock=scene.stock(**sampling),
        guided=scene.stock(model=model, **sampling),
        in_place=scene.stock(model=in_place, **sampling),
    )
    effects = [found[name] - found["stock"] for name in ("guided", "in_place")]
    assert relative(*effects) < 2e-3 and relative(found["guided"], found["stock"]) > 1e-2


def moving_in_place(host: Host) -> Any:
    """What to apply to a guided model, which then moves the sampler's own latent."""
    latent_guidance = host.pack("nodes.host.sampling.latent_guidance")

    class InPlace(latent_guidance.GuidedRun):
        def predict(self, executor: Any, model: Any, conds: list, x: Tensor, *rest: Any) -> list:
            before = x.clone()
            super().predict(lambda *_: [], model, conds, before, *rest)
            x.add_(self.frame.shown(x.new_zeros(())).view_as(x))
            self.frame.offset = 0.0
            return executor(model, conds, x, *rest)

    def sample(executor: Any, *args: Any) -> Tensor:
        original, latent_guidance.GuidedRun = latent_guidance.GuidedRun, InPlace
        try:
            return latent_guidance._sample_guided(executor, *args)
        finally:
            latent_guidance.GuidedRun = original

    def apply(model: Any) -> Any:
        clone = model.clone()
        latent_guidance.wrap_sampling(clone, sample)
        return clone

    return apply


TIMES = torch.tensor([1.0, 0.9, 0.8, 0.6, 0.3, 0.0])


def test_a_run_that_is_split_goes_where_a_whole_one_goes(host: Host) -> None:
    """A warm-up of three steps, then the spatial branch alone: the end is above sigma 0."""
    scene = TinyScene(host, "flux")
    alone = RESTING | {"lean": -100.0, "limit": 100.0, "warmup": 0.5}
    whole = scene.guided_by(TIMES, scene.guider(alone))
    first = scene.guided_by(TIMES[:4], scene.guider(alone | {"warmup": 1.0}))
    rest = scene.guided_by(TIMES[3:], scene.stock_guider("spatial"))
    inputs = scene.prompt[rest.key]["inputs"]
    inputs |= {"latent_image": first[0], "noise": scene.add("DisableNoise")[0]}
    unmoved = scene.guided_by(TIMES, scene.stock_guider("spatial"))
    found = scene.samples(whole=whole, split=rest, unmoved=unmoved)
    assert relative(found["split"] - found["unmoved"], found["whole"] - found["unmoved"]) < 1e-3
    assert relative(found["whole"], found["unmoved"]) > 1e-2


@pytest.mark.parametrize("steps", [4, 8])
def test_few_steps_without_a_negative(host: Host, steps: int) -> None:
    """As Turbo models take: the first one finds no picture, and the next is guided by default."""
    scene = TinyScene(host, "z-image")
    sampling = {"steps": steps, "cfg": 1.0}
    ours = scene.realcompo({"warmup": 0.16}, **sampling)
    guided = scene.stock(model=scene.layout_guidance(scene.model, end=0.2), **sampling)
    wanted = {"ours": ours[0], "trace": ours[1], "guided": guided[0]}
    out = host.run(scene, stock=scene.stock(**sampling)[0], **wanted)
    trace = out["trace"]
    assert trace.steps[0].sigma == 1
    warmup, read = trace.warmup_steps, [bool(step.readings) for step in trace.steps]
    assert warmup == {4: 1, 8: 2}[steps]  # all but the first is nudged, and blends but the first
    assert read == [False] + [True] * (warmup - 1) + [False] + [True] * (steps - warmup - 1)
    assert trace.rows["spatial"] == steps and trace.rows["text"] == steps - warmup
    assert out["ours"]["samples"].isfinite().all()
    assert not torch.equal(out["guided"]["samples"], out["stock"]["samples"])


def test_each_branch_has_its_own_distilled_guidance(host: Host) -> None:
    scene = TinyScene(host, "flux")
    plain = scene.stock(cfg=1.0)
    scene.text = scene.add("FluxGuidance", conditioning=scene.text, guidance=1.5)[0]
    scene.spatial = scene.add("FluxGuidance", conditioning=scene.spatial, guidance=8.0)[0]
    found = scene.samples(
        plain=plain,
        stock_text=scene.stock(cfg=1.0),
        stock_spatial=scene.stock("spatial", cfg=1.0),
        text=scene.realcompo({"mode": "fixed", "text_weight": 1.0, "warmup": 0.0}, cfg=1.0),
        spatial=scene.realcompo({"mode": "fixed", "text_weight": 0.0, "warmup": 0.0}, cfg=1.0),
    )
    assert not torch.equal(found["plain"], found["stock_text"])
    assert torch.equal(found["text"], found["stock_text"])
    assert torch.equal(found["spatial"], found["stock_spatial"])


# Latents with a time


def test_videos_are_left_to_the_stock_sampler(host: Host) -> None:
    """One branch alone is bit for bit the stock sampler; nothing else is done to them."""
    scene = TinyScene(host, "wan")
    scene.latent = scene.holding(torch.zeros(1, 16, 3, 8, 12))
    found = scene.samples(stock=scene.stock(), text=scene.realcompo({"mode": "text only"}))
    assert torch.equal(found["stock"], found["text"])


@pytest.mark.parametrize("what", ["fixed", "dynamic", "guidance", "capture"])
def test_videos_are_refused_by_name(host: Host, what: str) -> None:
    scene = TinyScene(host, "wan")
    scene.latent = scene.holding(torch.zeros(1, 16, 3, 8, 12))
    if what == "guidance":
        run = scene.stock(model=scene.layout_guidance(scene.model))
    elif what == "capture":
        watched = scene.add(
            "RealCompoAttentionCapture",
            model=scene.model,
            conditioning=scene.text,
            downsample=0,
            layers="all",
        )
        run = scene.stock(model=watched[0])
    else:
        run = scene.realcompo({"mode": what})
    with pytest.raises(PromptError, match=r"latent_image.*a video's, of 3 moments"):
        host.run(scene, latent=run[0])


def test_a_picture_with_a_time_is_previewed_and_traced(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    import comfy.utils
    import latent_preview
    from comfy.cli_args import LatentPreviewMethod, args

    chosen, shown = LatentPreviewMethod["Latent2RGB"], []
    monkeypatch.setattr(args, "preview_method", chosen)
    monkeypatch.setattr(latent_preview, "default_preview_method", chosen, raising=False)

    def hook(value: int, total: int, preview: Any, **_: Any) -> None:
        shown.append(preview and preview[1].size)

    comfy.utils.set_progress_bar_global_hook(hook)
    try:
        scene = TinyScene(host, "qwen image")
        ours = scene.realcompo(NUDGED, show_balance=True, sampler_name="euler_cfg_pp")
        out = host.run(scene, latent=ours[0], trace=ours[1])
    finally:
        comfy.utils.set_progress_bar_global_hook(None)
    assert out["latent"]["samples"].shape == (1, 16, 1, 8, 12)
    assert len(shown) == 3 and shown[0][0] > shown[0][1]
    (_, weight), *_ = out["trace"].blended()
    assert weight.shape == (1, 1, 8, 12)
