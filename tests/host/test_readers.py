"""Attention of every family that has a reader, on tiny models of the host's own classes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from testkit import tiny_transformers as tiny
from testkit.host import Host
from testkit.live_run import Live, relative
from testkit.tiny_runs import TOKENS, Pack, noise_of, slopes, stock

FAMILIES = list(tiny.FAMILIES)
# Where text, or the image, has attended to itself before the first layer that can be read.
MIXED_TEXT = ("z-image", "lumina2", "hunyuan image", "omnigen2", "krea2", "boogu")
MIXED_IMAGE = ("z-image", "lumina2", "omnigen2", "pixart", "wan", "cosmos2", "anima", "boogu")
# Modules that call attention without a model's options.
UNHEARD = ("comfy.ldm.pixart.blocks", "comfy.ldm.ernie.model")
OVERRIDE = "optimized_attention_override"


@pytest.fixture(scope="module")
def pack(host: Host) -> Pack:
    return Pack(host)


@contextmanager
def attention_calls(model: Any) -> Iterator[list[tuple]]:
    """Record a model's attention as the host is asked for it, in its options or without."""
    calls: list[tuple] = []

    def recording(function: Callable, *args: Any, **kwargs: Any) -> Any:
        calls.append(call_of(*args, **kwargs))
        return function(*args, **kwargs)

    scopes = [sys.modules[name] for name in UNHEARD if name in sys.modules]
    originals = [scope.optimized_attention for scope in scopes]
    listening = [partial(recording, original) for original in originals]
    for scope, function in zip(scopes, listening, strict=True):
        scope.optimized_attention = function
    options = model.model_options["transformer_options"]
    options[OVERRIDE] = recording
    try:
        yield calls
    finally:
        del options[OVERRIDE]
        assert [scope.optimized_attention for scope in scopes] == listening
        for scope, original in zip(scopes, originals, strict=True):
            scope.optimized_attention = original


def call_of(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: int,
    mask: Tensor | None = None,
    *_: Any,
    skip_reshape: bool = False,
    **__: Any,
) -> tuple:
    return q.clone(), k.clone(), heads, mask, skip_reshape


def naive(call: tuple, among: slice, image: int, text: int, size: tuple[int, int]) -> Tensor:
    """Maps of all objects' tokens by a plain softmax over some keys in double precision."""
    q, k, heads, mask, skip_reshape = call
    if not skip_reshape:
        q, k = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k))
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    logits = q.double() @ k.double().mT / q.shape[-1] ** 0.5
    if mask is not None:
        logits = logits + mask.double()
    probability = torch.zeros_like(logits)
    probability[..., among] = logits[..., among].softmax(dim=-1)
    probability = probability.mean(dim=1)
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
        whole = pack.folding.whole(latent, model.model)
        found = comfy.samplers.calc_cond_batch(model.model, conds, whole, sigma, options)
        assert bool(capture.pieces) == watched
        return [pack.folding.flat(out) for out in found]

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

    model = pack.model(name)
    with attention_calls(model) as calls:
        pack.inside(name, look, model=model, settings=pack.every_layer(name))


@pytest.mark.parametrize("name", FAMILIES)
def test_maps_are_those_of_a_plain_softmax(pack: Pack, name: str) -> None:
    """Over all keys, or over those of the text."""

    def look(run: Live, latent: Tensor, sigma: Tensor) -> None:
        for keys in pack.attention.Keys:
            compare(run, latent, sigma, keys)

    def compare(run: Live, latent: Tensor, sigma: Tensor, keys: Any) -> None:
        import comfy.samplers

        model, conds = run.text.model, run.text.positive
        text = pack.capture._text_of(conds[0])
        capture = run.text._capture(conds, latent, replace(run.objective, keys=keys))
        calls.clear()
        options = capture.install(run.text.options, None)
        whole = pack.folding.whole(latent, model)
        comfy.samplers.calc_cond_batch(model, [conds], whole, sigma, options)
        ((_, maps),) = capture.layers()
        assert len(maps) == len(reader.layers())
        reached = 0
        for found in maps:
            errors = [error(found, call, text, keys) for call in calls[reached:]]
            best = min(range(len(errors)), key=errors.__getitem__)
            assert errors[best] < 1e-6
            reached += best + 1  # the next layer's is a later call

    def error(found: Tensor, call: tuple, text: Any, keys: Any) -> float:
        total = call[1].shape[-2]
        spans = reader.spans(total, size[0] * size[1], text)
        queries, tokens = call[0].shape[-2], size[0] * size[1]
        if (
            min(spans.image, spans.text) < 0
            or spans.text + text.count > total
            or spans.image + tokens > queries
        ):
            return float("inf")  # text or image by itself
        among = slice(None)
        if keys == "text":
            among = slice(spans.text, spans.text + text.count)
        expected = naive(call, among, spans.image, spans.text + text.added, size)
        return float((found - expected).abs().max())

    model = pack.model(name)
    reader = pack.reader(model)
    size = reader.grid(tiny.FAMILIES[name].size)
    with attention_calls(model) as calls:
        pack.inside(name, look, model=model, settings=pack.every_layer(name))


@pytest.mark.parametrize("name", FAMILIES)
def test_words_and_cells_are_where_the_reader_says(pack: Pack, name: str) -> None:
    """The first layer's keys change where a word does, its queries where a cell does."""
    row, (y, x) = 4, (3, 6)

    def first_seen(word: float = 0.0, cell: float = 0.0) -> tuple[Any, Any]:
        seen: list[Any] = []

        def look(run: Live, latent: Tensor, sigma: Tensor) -> Any:
            latent = latent.clone()
            latent[..., y, x] += cell
            text = pack.capture._text_of(run.text.positive[0])
            cond = run.text.positive[0]["model_conds"]["c_crossattn"]
            cond.cond = cond.cond.clone()
            cond.cond[:, text.added + row] += word
            options = dict(run.text.options)
            options["transformer_options"] = dict(options["transformer_options"])
            reader.install(options, reader.layers()[:1], seen.append, None)
            import comfy.samplers

            model, whole = run.text.model, pack.folding.whole(latent, run.text.model)
            comfy.samplers.calc_cond_batch(model, [run.text.positive], whole, sigma, options)
            return text

        text = pack.inside(name, look, model=model)
        return seen[0], text

    def changed(one: Tensor, other: Tensor) -> list[int]:
        return (one != other).any(dim=-1).any(dim=1)[0].nonzero().flatten().tolist()

    model = pack.model(name)
    reader = pack.reader(model)
    (plain, text), (worded, _), (celled, _) = first_seen(), first_seen(1.0), first_seen(0.0, 1.0)
    rows, columns = reader.grid(tiny.FAMILIES[name].size)
    spans = reader.spans(plain.k.shape[2], rows * columns, text)
    words, cells = changed(plain.k, worded.k), changed(plain.q, celled.q)
    if name in MIXED_TEXT:
        assert words[0] == spans.text and set(words) <= set(range(spans.text, spans.text + 32))
    else:
        assert words == [spans.text + text.added + row]
    if name in MIXED_IMAGE:
        assert cells[0] == spans.image and len(cells) >= rows * columns
    else:
        patch = reader.patch()
        assert cells == [spans.image + y // patch * columns + x // patch]


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_agree_with_finite_differences(
    pack: Pack, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are the same with and without checkpoints, and where the model goes on without graph."""

    def look(run: Live, latent: Tensor, sigma: Tensor) -> list[Tensor]:
        slope, difference = slopes(run, latent, sigma)
        assert slope > 0 and relative(slope, difference) < 1e-2
        ended = run.text.predict_and_pull(latent, sigma, run.objective, gradient=True)[1]
        found = [run.text.pull(latent, sigma, run.objective, gradient=True), ended]
        monkeypatch.setattr(pack.transformer.Transformer, "checkpoints", False)
        found.append(run.text.pull(latent, sigma, run.objective, gradient=True))
        return [pull.gradient for pull in found]

    first, *others = pack.inside(name, look, settings=pack.every_layer(name))
    assert first.abs().max() > 0
    assert all(torch.equal(first, other) for other in others)


def test_the_gradient_is_right_where_attention_is_shared_out_among_the_text(pack: Pack) -> None:
    keys = pack.attention.Keys.TEXT
    settings = replace(pack.every_layer("z-image"), keys=keys)
    slope, difference = pack.inside("z-image", slopes, settings=settings)
    assert slope > 0 and relative(slope, difference) < 1e-2


@pytest.mark.parametrize("name", ["flux", "sd3", "z-image", "pixart"])
def test_a_batch_is_its_pictures_one_by_one(pack: Pack, name: str) -> None:
    def look(run: Live, latent: Tensor, sigma: Tensor) -> list[Tensor]:
        whole = run.text.pull(latent, sigma, run.objective, gradient=True)
        each = zip(latent.split(1), sigma.split(1), strict=True)
        parts = [run.text.pull(*one, run.objective, gradient=True) for one in each]
        gradients = torch.cat([part.gradient for part in parts])
        assert relative(whole.gradient, gradients) < 1e-4
        return relative(whole.losses, torch.cat([part.losses for part in parts]))

    assert pack.inside(name, look, noise=noise_of(name, 2)) < 1e-5


@pytest.mark.parametrize("name", FAMILIES)
def test_a_pass_that_only_reads_stops_after_the_last_layer(pack: Pack, name: str) -> None:
    def look(run: Live, latent: Tensor, sigma: Tensor) -> tuple[int, int]:
        calls.clear()
        run.text.pull(latent, sigma, run.objective, gradient=False)
        read = len(calls)
        run.text.predict_and_pull(latent, sigma, run.objective, gradient=False)
        return read, len(calls) - read

    model = pack.model(name)
    with attention_calls(model) as calls:
        read, whole = pack.inside(name, look, model=model)
    assert 0 < read < whole / 2


@pytest.mark.parametrize("name", ["flux", "flux2", "pixart", "qwen image", "wan"])
def test_attention_is_recorded_in_any_run(pack: Pack, name: str) -> None:
    """The picture stays the same, also where latents have a time."""
    model, trace = pack.model(name), pack.trace.Trace()
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
    reader = pack.reader(pack.model("flux"))
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
    class Unknown:
        diffusion_model = torch.nn.Identity()

    with pytest.raises(ValueError, match=r"Flux\.2.*got Unknown \(Identity\).*mode fixed"):
        pack.families.reader_of(Unknown())


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
