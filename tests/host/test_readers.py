"""Attention of every family that has a reader, on tiny models of the host's own classes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from testkit import tiny_transformers as tiny
from testkit.host import Host
from testkit.live_run import Live, relative

FAMILIES = list(tiny.FAMILIES)
FLAT = [name for name in FAMILIES if not tiny.FAMILIES[name].frames]
TIMED = [name for name in FAMILIES if tiny.FAMILIES[name].frames]
# Where text, or the image, has attended to itself before the first layer that can be read.
MIXED_TEXT = ("z-image", "lumina2", "hunyuan image", "omnigen2")
MIXED_IMAGE = ("z-image", "lumina2", "omnigen2", "pixart", "wan", "cosmos2")
ROWS, NEGATIVE_ROWS = 9, 7  # of text: their lengths differ, so the host never batches them
TOKENS = ((1, 2), (4,))
OVERRIDE = "optimized_attention_override"
FIXED_LATENT = 7


class Pack:
    """The pack's classes as the host has loaded them, and runs of tiny models by its guider."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def __getattr__(self, name: str) -> ModuleType:
        return self.host.pack(MODULES[name])

    def settings(self, mode: str = "text only", **settings: Any) -> Any:
        kind = self.settings_module
        return kind.BalancerSettings(mode=kind.Mode(mode), **settings)

    def branch(self, name: str, model: Any, seed: int, control: Any = None) -> Any:
        layout = self.layout
        left, right = layout.Box(0.0, 0.2, 0.45, 0.9), layout.Box(0.5, 0.1, 1.0, 0.8)
        objects = (layout.LayoutObject("cube", left), layout.LayoutObject("ball", right))
        grounding = self.grounding.Grounding(layout.Layout(objects), TOKENS)
        positive = tiny.conditioning(name, seed, ROWS)
        positive[0][1][self.grounding.OPTION] = grounding
        if control is not None:
            positive[0][1]["control"] = control
        return self.guider.BranchInputs(model, positive, tiny.conditioning(name, 3, NEGATIVE_ROWS))

    def run(
        self,
        name: str,
        settings: Any,
        *,
        model: Any = None,
        control: Any = None,
        sampler: Any = None,
        batch: int = 1,
        steps: int = 3,
        cfg: float = 3.0,
    ) -> tuple[Tensor, Any]:
        """A run of two branches of one model: its latent and its trace."""
        model = model or tiny.patcher(name)
        branches = (self.branch(name, model, seed, control) for seed in (1, 2))
        trace = self.trace.Trace()
        guider = self.guider.RealCompoGuider(*branches, cfg, settings, trace, "test")
        return sampled(guider, name, sampler, batch, steps), trace

    def inside(self, name: str, look: Callable[[Live, Tensor, Tensor], Any], **kwargs: Any) -> Any:
        """What ``look(run, latent, sigma)`` returns inside a run, in place of sampling."""
        import comfy.samplers

        found = []

        def function(
            model: Any, noise: Tensor, sigmas: Tensor, extra_args: dict, **_: Any
        ) -> Tensor:
            guider = model.inner_model
            sigma = sigmas[1:2].expand(noise.shape[0])
            guider(noise, sigma, model_options=extra_args["model_options"], seed=0)
            found.append(look(Live(guider.run), noise, sigma))
            return noise

        settings = kwargs.pop("settings", self.settings())
        self.run(name, settings, sampler=comfy.samplers.KSAMPLER(function), **kwargs)
        return found[0]

    def every_layer(self, name: str) -> Any:
        """Settings that read all layers of a family."""
        return self.settings(downsample=self.reader(tiny.patcher(name)).patch())

    def reader(self, patcher: Any) -> Any:
        return self.families.reader_of(patcher.model)


MODULES = {
    "settings_module": "realcompo_core.sampling.settings",
    "layout": "realcompo_core.layout.model",
    "grounding": "realcompo_core.words.grounding",
    "trace": "realcompo_core.sampling.trace",
    "attention": "realcompo_core.sampling.attention",
    "guider": "nodes.host.sampling.guider",
    "checks": "nodes.host.sampling.checks",
    "capture": "nodes.host.model.capture",
    "families": "nodes.host.model.readers.families",
    "seam": "nodes.host.model.readers.reader",
    "transformer": "nodes.host.model.readers.transformer",
    "recorder": "nodes.host.sampling.recorder",
}


@pytest.fixture(scope="module")
def pack(host: Host) -> Pack:
    return Pack(host)


def sampled(guider: Any, name: str, sampler: Any, batch: int, steps: int) -> Tensor:
    """As the host's executor samples: in inference mode."""
    import comfy.samplers

    sampling = guider.model_patcher.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", steps)
    latent = tiny.empty_latent(name, batch)
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(FIXED_LATENT))
    sampler = sampler or comfy.samplers.sampler_object("euler")
    with torch.inference_mode():
        return guider.sample(noise, latent, sampler, sigmas, seed=1, disable_pbar=True)


def stock(name: str, model: Any, seed: int, positive: list | None = None) -> Tensor:
    """The stock guider, on the conditionings of :meth:`Pack.branch`."""
    import comfy.samplers

    guider = comfy.samplers.CFGGuider(model)
    positive = positive or tiny.conditioning(name, seed, ROWS)
    guider.set_conds(positive, tiny.conditioning(name, 3, NEGATIVE_ROWS))
    guider.set_cfg(3.0)
    return sampled(guider, name, None, 1, 3)


@contextmanager
def attention_calls() -> Iterator[Callable[[Any], list[tuple]]]:
    """Record attention as the host is asked for it: a function that makes a model record, and
    PixArt's own calls, which no model's options hear."""
    from comfy.ldm.pixart import blocks

    calls: list[tuple] = []

    def keep(q: Tensor, k: Tensor, heads: int, mask: Any, skip_reshape: bool) -> None:
        calls.append((q.clone(), k.clone(), heads, mask, skip_reshape))

    def override(
        function: Callable, q: Tensor, k: Tensor, v: Tensor, heads: int, *rest: Any, **kw: Any
    ) -> Any:
        keep(q, k, heads, rest[0] if rest else kw.get("mask"), kw.get("skip_reshape", False))
        return function(q, k, v, heads, *rest, **kw)

    def recording(model: Any) -> list[tuple]:
        model.model_options["transformer_options"][OVERRIDE] = override
        return calls

    original = blocks.optimized_attention

    def pixart(q: Tensor, k: Tensor, v: Tensor, heads: int, **kwargs: Any) -> Tensor:
        keep(q, k, heads, kwargs.get("mask"), kwargs.get("skip_reshape", False))
        return original(q, k, v, heads, **kwargs)

    blocks.optimized_attention = pixart
    try:
        yield recording
    finally:
        assert blocks.optimized_attention is pixart
        blocks.optimized_attention = original


def naive(call: tuple, image: int, text: int, size: tuple[int, int]) -> Tensor:
    """Maps of all objects' tokens by a plain softmax over all keys in double precision."""
    q, k, heads, mask, skip_reshape = call
    if not skip_reshape:
        q, k = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k))
    logits = q.double() @ k.double().mT / q.shape[-1] ** 0.5
    if mask is not None:
        logits = logits + mask.double()
    probability = logits.softmax(dim=-1).mean(dim=1)
    tokens = [text + token for group in TOKENS for token in group]
    return probability[:, image : image + size[0] * size[1], tokens].mT.unflatten(-1, size)


@pytest.mark.parametrize("name", FAMILIES)
def test_capture_changes_no_prediction(pack: Pack, name: str) -> None:
    """Nor does the end of a graph, with an override that is there already, which is still asked."""

    import comfy.samplers

    def predictions(run: Live, latent: Tensor, sigma: Tensor, ending: Any, watched: bool) -> list:
        model = run.text
        conds = [model.positive, model.guider.conds["negative"]]
        capture = model._capture(model.positive, latent, run.objective)
        options = capture.install(model.options, ending) if watched else model.options
        found = comfy.samplers.calc_cond_batch(model.model, conds, latent, sigma, options)
        assert bool(capture.pieces) == watched
        return found

    def look(run: Live, latent: Tensor, sigma: Tensor) -> None:
        asked, found = [], []
        for ending, watched in ((None, False), (None, True), (pack.capture.GRAPH_END, True)):
            calls.clear()
            found.append(predictions(run, latent, sigma, ending, watched))
            asked.append(len(calls))
        assert asked[0] == asked[1] == asked[2] > 0
        for watched in found[1:]:
            assert all(map(torch.equal, found[0], watched))
        graph, _ = run.text.predict_and_pull(latent, sigma, run.objective, gradient=True)
        for plain, kept in zip(found[0], (graph.cond, graph.uncond), strict=True):
            assert relative(plain, kept) < 1e-3

    model = tiny.patcher(name)
    with attention_calls() as recording:
        calls = recording(model)
        pack.inside(name, look, model=model, settings=pack.every_layer(name))


@pytest.mark.parametrize("name", FAMILIES)
def test_maps_are_those_of_a_plain_softmax(pack: Pack, name: str) -> None:
    def look(run: Live, latent: Tensor, sigma: Tensor) -> None:
        import comfy.samplers

        model, conds = run.text.model, run.text.positive
        capture = run.text._capture(conds, latent, run.objective)
        calls.clear()
        options = capture.install(run.text.options, None)
        comfy.samplers.calc_cond_batch(model, [conds], latent, sigma, options)
        ((_, maps),) = capture.layers()
        assert len(maps) == len(reader.layers())
        reached = 0
        for found in maps:
            errors = [error(found, call) for call in calls[reached:]]
            best = min(range(len(errors)), key=errors.__getitem__)
            assert errors[best] < 1e-6
            reached += best + 1  # the next layer's is a later call

    def error(found: Tensor, call: tuple) -> float:
        keys = call[1].shape[-2]
        spans = reader.spans(keys, size[0] * size[1], pack.seam.TextRows(rows))
        queries, tokens = call[0].shape[-2], size[0] * size[1]
        if (
            min(spans.image, spans.text) < 0
            or spans.text + rows > keys
            or spans.image + tokens > queries
        ):
            return float("inf")  # text or image by itself
        expected = naive(call, spans.image, spans.text + rows - ROWS, size)
        return float((found - expected).abs().max())

    model = tiny.patcher(name)
    reader, rows = pack.reader(model), 512 if name == "flux2" else ROWS
    size = reader.grid(tiny.FAMILIES[name].size)
    with attention_calls() as recording:
        calls = recording(model)
        pack.inside(name, look, model=model, settings=pack.every_layer(name))


@pytest.mark.parametrize("name", FAMILIES)
def test_words_and_cells_are_where_the_reader_says(pack: Pack, name: str) -> None:
    """The first layer's keys change where a word does, its queries where a cell does."""
    row, (y, x) = 4, (3, 6)

    def first_seen(word: float = 0.0, cell: float = 0.0) -> Any:
        seen: list[Any] = []

        def look(run: Live, latent: Tensor, sigma: Tensor) -> None:
            latent = latent.clone()
            latent[..., y, x] += cell
            cond = run.text.positive[0]["model_conds"]["c_crossattn"]
            cond.cond = cond.cond.clone()
            cond.cond[:, cond.cond.shape[1] - ROWS + row] += word
            options = dict(run.text.options)
            options["transformer_options"] = dict(options["transformer_options"])
            reader.install(options, reader.layers()[:1], seen.append, None)
            import comfy.samplers

            comfy.samplers.calc_cond_batch(
                run.text.model, [run.text.positive], latent, sigma, options
            )

        pack.inside(name, look, model=model)
        return seen[0]

    def changed(one: Tensor, other: Tensor) -> list[int]:
        return (one != other).any(dim=-1).any(dim=1)[0].nonzero().flatten().tolist()

    model = tiny.patcher(name)
    reader = pack.reader(model)
    plain, worded, celled = first_seen(), first_seen(word=1.0), first_seen(cell=1.0)
    rows, columns = reader.grid(tiny.FAMILIES[name].size)
    count = 512 if name == "flux2" else ROWS
    spans = reader.spans(plain.k.shape[2], rows * columns, pack.seam.TextRows(count))
    words, cells = changed(plain.k, worded.k), changed(plain.q, celled.q)
    if name in MIXED_TEXT:
        assert words[0] == spans.text and set(words) <= set(range(spans.text, spans.text + 32))
    else:
        assert words == [spans.text + count - ROWS + row]
    if name in MIXED_IMAGE:
        assert cells[0] == spans.image and len(cells) >= rows * columns
    else:
        patch = reader.patch()
        assert cells == [spans.image + y // patch * columns + x // patch]


@pytest.mark.parametrize("checkpoints", [True, False], ids=["checkpointed", "kept"])
@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_agree_with_finite_differences(
    pack: Pack, name: str, checkpoints: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack.transformer.Transformer, "checkpoints", checkpoints)

    slope, difference = pack.inside(name, slopes, settings=pack.every_layer(name))
    assert slope > 0 and relative(slope, difference) < 1e-2


@pytest.mark.parametrize("checkpoints", [True, False], ids=["checkpointed", "kept"])
@pytest.mark.parametrize("name", ["flux", "sd3", "qwen image"])
def test_gradients_flow_through_a_controlnet(
    pack: Pack, name: str, checkpoints: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is right, and another one than without."""
    monkeypatch.setattr(pack.transformer.Transformer, "checkpoints", checkpoints)
    settings = pack.every_layer(name)
    alone, _ = pack.inside(name, slopes, settings=settings)
    control = tiny.controlnet(name)
    slope, difference = pack.inside(name, slopes, settings=settings, control=control)
    assert slope > 0 and relative(slope, difference) < 1e-2
    assert relative(slope, alone) > 1e-2


def slopes(run: Live, latent: Tensor, sigma: Tensor) -> tuple[float, float]:
    """The loss along its gradient: by the gradient, and by finite differences."""

    def loss(at: Tensor) -> float:
        pull = run.text.pull(at, sigma, run.objective, gradient=False)
        return float(pull.losses.double().sum())

    gradient = run.text.pull(latent, sigma, run.objective, gradient=True).gradient
    direction = gradient / gradient.norm()
    step = 0.003 * latent.norm()
    ahead, behind = loss(latent + step * direction), loss(latent - step * direction)
    return float((gradient * direction).sum()), float((ahead - behind) / (2 * step))


@pytest.mark.parametrize("name", FAMILIES)
def test_neither_checkpointing_nor_the_end_of_a_graph_changes_a_gradient(
    pack: Pack, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(run: Live, latent: Tensor, sigma: Tensor) -> list[Tensor]:
        ended = run.text.predict_and_pull(latent, sigma, run.objective, gradient=True)[1]
        found = [run.text.pull(latent, sigma, run.objective, gradient=True), ended]
        monkeypatch.setattr(pack.transformer.Transformer, "checkpoints", False)
        found.append(run.text.pull(latent, sigma, run.objective, gradient=True))
        return [pull.gradient for pull in found]

    first, *others = pack.inside(name, look, settings=pack.every_layer(name))
    assert first.abs().max() > 0
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("name", ["flux", "sd3", "z-image", "pixart"])
def test_a_batch_is_its_pictures_one_by_one(pack: Pack, name: str) -> None:
    def look(run: Live, latent: Tensor, sigma: Tensor) -> list[Tensor]:
        whole = run.text.pull(latent, sigma, run.objective, gradient=True)
        each = zip(latent.split(1), sigma.split(1), strict=True)
        parts = [run.text.pull(*one, run.objective, gradient=True) for one in each]
        gradients = torch.cat([part.gradient for part in parts])
        assert relative(whole.gradient, gradients) < 1e-4
        return relative(whole.losses, torch.cat([part.losses for part in parts]))

    assert pack.inside(name, look, batch=2) < 1e-5


@pytest.mark.parametrize("name", FAMILIES)
def test_a_pass_that_only_reads_stops_after_the_last_layer(pack: Pack, name: str) -> None:
    def look(run: Live, latent: Tensor, sigma: Tensor) -> tuple[int, int]:
        calls.clear()
        run.text.pull(latent, sigma, run.objective, gradient=False)
        read = len(calls)
        run.text.predict_and_pull(latent, sigma, run.objective, gradient=False)
        return read, len(calls) - read

    model = tiny.patcher(name)
    with attention_calls() as recording:
        calls = recording(model)
        read, whole = pack.inside(name, look, model=model)
    assert 0 < read < whole / 2


@pytest.mark.parametrize("name", FAMILIES)
def test_one_sided_modes_are_the_stock_sampler(pack: Pack, name: str) -> None:
    model = tiny.patcher(name)
    for mode, seed in (("text only", 1), ("spatial only", 2)):
        ours, _ = pack.run(name, pack.settings(mode), model=model)
        assert torch.equal(ours, stock(name, model, seed))


@pytest.mark.parametrize("name", ["flux", "flux2", "pixart", "qwen image", "wan"])
def test_attention_is_recorded_in_any_run(pack: Pack, name: str) -> None:
    """The picture stays the same, also where latents have a time."""
    model, trace = tiny.patcher(name), pack.trace.Trace()
    positive = pack.branch(name, model, 1).positive
    layers, option = pack.attention.Layers.ALL, pack.grounding.OPTION
    recorder = pack.recorder.Recorder([positive[0][1][option]], 0, layers, trace, "test")
    assert torch.equal(
        stock(name, recorder.attach(model), 1, positive), stock(name, model, 1, positive)
    )
    readings = [step.readings["model"][0] for step in trace.steps]
    assert len(readings) == 3
    grid = pack.reader(model).grid(tiny.FAMILIES[name].size)
    assert all(reading.attention.shape == (1, 2, *grid) for reading in readings)


@pytest.mark.parametrize("name", FLAT)
def test_both_branches_are_blended_and_balanced(pack: Pack, name: str) -> None:
    """Weights are as they were after it, and so is the next stock picture."""
    model = tiny.patcher(name)
    before = stock(name, model, 1)
    weights = [(id(t), t.is_inference()) for t in model.model.parameters()]
    fixed, _ = pack.run(name, pack.settings("fixed"), model=model)
    online, trace = pack.run(name, pack.settings("dynamic", warmup=0.34), model=model)
    assert fixed.isfinite().all() and online.isfinite().all()
    assert not torch.equal(fixed, online) and len(trace.losses()) == 2
    assert weights == [(id(t), t.is_inference()) for t in model.model.parameters()]
    assert torch.equal(before, stock(name, model, 1))


@pytest.mark.parametrize("name", TIMED)
@pytest.mark.parametrize("mode", ["fixed", "dynamic"])
def test_latents_with_a_time_are_refused_by_name(pack: Pack, name: str, mode: str) -> None:
    model = type(tiny.patcher(name).model).__name__
    with pytest.raises(ValueError, match=f"text model.*{model}, whose latents have a time"):
        pack.run(name, pack.settings(mode))


def test_attention_of_several_frames_is_refused(pack: Pack) -> None:
    listener = pack.transformer._Listener(None, [], None, None)
    with pytest.raises(ValueError, match="one frame, got 3 frames"):
        listener.around(None, torch.zeros(1, 16, 3, 4, 4), None)


def test_layers_are_those_of_the_table(pack: Pack) -> None:
    """Flux.1's double blocks 4 to 15 of 19, SD3's 7 to 12 of 24, else the second quarter."""
    placing, layer = pack.host.pack("nodes.host.model.readers.placing"), pack.seam.Layer

    def numbers(share: Any, depth: int) -> list[int]:
        layers = [layer(("double", i), 2, None, None) for i in range(depth)]
        return [found.key[1] for found in share.of(layers)]

    assert numbers(placing.FLUX, 19) == list(range(4, 16))
    assert numbers(placing.SD3, 24) == list(range(7, 13))
    assert numbers(placing.SECOND_QUARTER, 60) == list(range(15, 30))
    thirds = [numbers(share, 30) for share in placing.THIRDS.values()]
    assert thirds == [list(range(10)), list(range(10, 20)), list(range(20, 30))]
    assert all(numbers(share, 1) == [0] for share in (placing.FLUX, placing.SECOND_QUARTER))


@pytest.mark.parametrize("layers", ["down", "middle", "up", "all"])
def test_early_middle_and_late_layers_can_be_read(pack: Pack, layers: str) -> None:
    reader = pack.reader(tiny.patcher("flux"))
    found = reader.chosen(0, pack.attention.Layers(layers), (8, 12))
    first = {"down": ("double", 0), "middle": ("double", 2), "up": ("single", 1)}
    assert found[0].key == first.get(layers, ("double", 0))
    assert [layer.key for layer in reader.chosen(2, pack.attention.Layers.ALL, (8, 12))] == [
        *(("double", i) for i in range(3)),
        *(("single", i) for i in range(3)),
    ]
    with pytest.raises(ValueError, match=r"one of these layers' factors \[2\], got 4"):
        reader.chosen(4, pack.attention.Layers(layers), (8, 12))


def test_a_family_without_a_reader_says_what_works(pack: Pack) -> None:
    model = tiny.patcher("flux").model
    model.diffusion_model = torch.nn.Identity()
    with pytest.raises(ValueError, match=r"Flux\.2.*got Flux \(Identity\).*mode fixed"):
        pack.families.reader_of(model)


@pytest.mark.parametrize("name", ["flux", "pixart"])
def test_a_run_that_fails_leaves_nothing_behind(pack: Pack, name: str) -> None:
    """Neither hooks nor functions, whether in the first run of a block or in its second."""
    from comfy.ldm.flux import math
    from comfy.ldm.modules import attention
    from comfy.ldm.pixart import blocks

    class Stop(Exception):
        pass

    model = tiny.patcher(name)
    network = model.model.diffusion_model
    module = pack.reader(model).layers()[1].block
    for at in (1, 2, 3):
        count = []

        def stop(*_: Any, count: list = count, at: int = at) -> None:
            count.append(1)
            if len(count) == at:
                raise Stop

        hook = module.register_forward_hook(stop)
        with pytest.raises(Stop):
            pack.inside(name, pulled, model=model, settings=pack.every_layer(name))
        hook.remove()
        for part in network.modules():
            assert not part._forward_pre_hooks and "forward" not in vars(part)
        for scope in (math, blocks):
            assert scope.optimized_attention is attention.optimized_attention
    assert torch.is_grad_enabled()


def pulled(run: Live, latent: Tensor, sigma: Tensor) -> Any:
    return run.text.pull(latent, sigma, run.objective, gradient=True)


def test_rope_is_plain_in_a_gradient_pass(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Newer hosts keep kernels without a backward in ``comfy.quant_ops.ck``."""
    import comfy.quant_ops

    kernels, plain = ModuleType("ck"), ModuleType("comfy_kitchen.backends.eager.rope")
    kernels.apply_rope, kernels.other = "kernel", "kept"
    plain.apply_rope = "plain"
    packages = ["comfy_kitchen", "comfy_kitchen.backends", "comfy_kitchen.backends.eager"]
    for package in packages:
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
    monkeypatch.setitem(sys.modules, plain.__name__, plain)
    sys.modules[packages[-1]].rope = plain
    monkeypatch.setattr(comfy.quant_ops, "ck", kernels, raising=False)
    with pack.host.pack("nodes.host.model.repairs").plain_rope():
        assert comfy.quant_ops.ck.apply_rope == "plain" and comfy.quant_ops.ck.other == "kept"
    assert comfy.quant_ops.ck is kernels
