"""However weights are stored, loaded or compiled.

The limits are stock, gradients are right, nothing is left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from testkit.graph import Links
from testkit.host import Host
from testkit.live_run import inspect, pull_agrees_with_finite_difference, relative
from testkit.one_sided import assert_limits
from testkit.random_models import SMALL_UNET, unet_weights
from testkit.scene import LORA, Scene

FP8 = torch.float8_e4m3fn


@cache
def small_weights() -> dict[str, Tensor]:
    return unet_weights(5, SMALL_UNET)


def loaded(weights: dict[str, Tensor], metadata: dict | None = None, **options: Any) -> Any:
    import comfy.sd

    return comfy.sd.load_diffusion_model_state_dict(
        weights, model_options=options, metadata=metadata
    )


def stored(dtype: torch.dtype) -> Any:
    """A model whose weights the host keeps in a type, and casts as it computes."""
    return loaded(dict(small_weights()), dtype=dtype)


def computed(dtype: torch.dtype) -> Any:
    """A model that the host also computes in a type."""
    model = stored(dtype).clone()
    model.set_model_compute_dtype(dtype)
    return model


def linear_weights() -> dict[str, Tensor]:
    return {name: weight for name, weight in small_weights().items() if weight.ndim == 2}


def quantised_weights(scale_name: str) -> dict[str, Tensor]:
    """A checkpoint in fp16, but for the linear layers: fp8, each with a scale of its own."""
    weights = {name: weight.half() for name, weight in small_weights().items()}
    for name, weight in linear_weights().items():
        scale = weight.abs().max() / 448
        weights[name] = (weight / scale).to(FP8)
        weights[name.removesuffix("weight") + scale_name] = scale
    return weights


def scaled_fp8() -> Any:
    return loaded(quantised_weights("scale_weight") | {"scaled_fp8": torch.zeros(0, dtype=FP8)})


def mixed_precision() -> Any:
    """The host's newer kind: its own tensor subclass for quantised layers."""
    import json

    layers = {
        name.removesuffix(".weight"): {"format": "float8_e4m3fn"} for name in linear_weights()
    }
    return loaded(
        quantised_weights("weight_scale"),
        {"_quantization_metadata": json.dumps({"layers": layers})},
    )


class Packed(torch.Tensor):
    """Weights as GGUF loaders keep them.

    Raw numbers in a tensor subclass that says the shape they stand for.
    """

    @classmethod
    def of(cls, weight: Tensor, *, quantise: bool) -> Packed:
        scale = weight.abs().max() / 127
        packed = (weight / scale).round().to(torch.int8).flatten() if quantise else weight
        packed = packed.as_subclass(cls)
        packed.scale, packed.stands_for = (scale if quantise else None), weight.shape
        return packed

    def to(self, *args: Any, **kwargs: Any) -> Packed:
        moved = super().to(*args, **kwargs)
        moved.__dict__.update(vars(self))
        return moved

    def detach(self) -> Packed:
        return self

    def clone(self, **_: Any) -> Packed:
        return self

    @property
    def shape(self) -> torch.Size:
        return self.stands_for

    def unpacked(self, dtype: torch.dtype) -> Tensor:
        plain = self.as_subclass(Tensor)
        return (
            plain.to(dtype)
            if self.scale is None
            else (plain * self.scale).to(dtype).view(self.stands_for)
        )


def dequantising() -> SimpleNamespace:
    """The host's layers, but linear ones unpack their weights at every call."""
    import comfy.ops

    class Linear(comfy.ops.manual_cast.Linear):
        def _load_from_state_dict(self, state_dict: dict, prefix: str, *_: Any) -> None:
            for name in ("weight", "bias"):
                value = state_dict.get(prefix + name)
                setattr(
                    self, name, None if value is None else nn.Parameter(value, requires_grad=False)
                )

        def forward_comfy_cast_weights(self, x: Tensor) -> Tensor:
            bias = None if self.bias is None else self.bias.unpacked(x.dtype)
            return nn.functional.linear(x, self.weight.unpacked(x.dtype), bias)

    kinds = {
        name: getattr(comfy.ops.manual_cast, name)
        for name in dir(comfy.ops.manual_cast)
        if name[0] != "_"
    }
    return SimpleNamespace(**kinds | {"Linear": Linear})


def gguf() -> Any:
    """Attention's linear layers packed in 8 bits, the other linear layers as they are."""
    weights = dict(small_weights())
    for name, weight in linear_weights().items():
        weights[name] = Packed.of(weight, quantise="attn" in name)
        bias = name.removesuffix("weight") + "bias"
        if bias in weights:
            weights[bias] = Packed.of(weights[bias], quantise=False)
    return loaded(weights, custom_operations=dequantising())


fp16 = partial(stored, torch.float16)  # the other tests' kind
KINDS: dict[str, Callable[[], Any]] = {
    "bf16": partial(stored, torch.bfloat16),
    "fp8_e4m3fn": partial(stored, FP8),
    "scaled fp8": scaled_fp8,
    "mixed precision": mixed_precision,
    "gguf": gguf,
}


def keeping(make: Callable[[], Any]) -> Callable[[Any], Any]:
    """A function for a scene that makes a model once, where the host runs its nodes."""
    kept: list[Any] = []

    def function(_: Any) -> Any:
        kept[:] = kept or [make()]
        return kept[0]

    return function


class Stored(Scene):
    """A small scene of a kind of model, on conditionings that are made once."""

    conditionings: ClassVar[dict[str, Any]] = {}

    def __init__(self, host: Host, make: Callable[[], Any]) -> None:
        host.forget()
        self.host = host
        if not self.conditionings:
            scene = Scene.of("sd1")
            self.conditionings |= host.run(
                scene, text=scene.text, spatial=scene.spatial, negative=scene.negative
            )
        super().__init__(width=32, height=32, gligen=False)
        for name, value in self.conditionings.items():
            setattr(self, name, self.kept(name, lambda value=value: value))
        self.model = self.kept("model", make)

    def kept(self, name: str, make: Callable[[], Any]) -> list:
        name = f"{name} {len(self.host.functions)}"
        self.host.functions[name] = keeping(make)
        return self.apply(self.latent, name)

    def weights(self) -> list[tuple]:
        """Each weight's class and storage, and what autograd thinks of it, once the host has taken
        its patches off.
        """
        import comfy.model_management

        with torch.inference_mode():
            comfy.model_management.unload_all_models()
        module = self.host.run(self, model=self.model)["model"].model
        tensors = [*module.parameters(), *module.buffers()]
        return [
            (type(t), t.dtype, t.data_ptr(), t.is_inference(), t.requires_grad) for t in tensors
        ]

    def stock_image(self) -> Tensor:
        again = self.stock(self.spatial, model=self.apply(self.model, "same"), steps=2)
        self.host.functions["same"] = lambda value: value
        return self.host.run(self, latent=again[0])["latent"]["samples"]


def assert_clean_balance(scene: Stored) -> None:
    """Dynamic runs balance at every step but one, and leave each weight, and the next image, as
    they were.
    """
    image, weights = scene.stock_image(), scene.weights()
    for online, steps in ((False, 3), (True, 2)):
        ours = scene.realcompo({"online": online}, steps=steps)
        out = scene.host.run(scene, latent=ours[0], trace=ours[1])
        assert out["latent"]["samples"].isfinite().all() and len(out["trace"].losses()) == steps - 1
    assert scene.weights() == weights
    assert torch.equal(image, scene.stock_image())


def with_lora(scene: Stored, model: list) -> list:
    return scene.add("LoraLoaderModelOnly", model=model, lora_name=LORA, strength_model=1.0)[0]


def assert_all(scene: Stored) -> None:
    assert_limits(scene.host, scene, steps=2)
    assert_clean_balance(scene)
    assert pull_agrees_with_finite_difference(scene.host, scene)


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_storage(host: Host, kind: str) -> None:
    assert_all(Stored(host, KINDS[kind]))


def gradient_of(scene: Stored) -> Tensor:
    def look(run: Any, latent: Tensor, sigma: Tensor, options: dict) -> Tensor:
        return run.spatial.pull(latent, sigma, run.objective, gradient=True).gradient

    return inspect(scene.host, scene, look)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 1e-2), (torch.bfloat16, 5e-2)])
def test_gradients_computed_in_low_precision(
    host: Host, dtype: torch.dtype, tolerance: float
) -> None:
    """The gradient is that of the same weights computed in fp32, up to a few roundings.

    Of 11 and 8 bits: losses are too coarse there for finite differences.
    """
    low, full = (gradient_of(Stored(host, partial(make, dtype))) for make in (computed, stored))
    assert relative(low, full) < tolerance


def test_a_model_computed_in_low_precision(host: Host) -> None:
    scene = Stored(host, partial(computed, torch.bfloat16))
    assert_limits(host, scene, steps=2)
    assert_clean_balance(scene)


NO_VRAM, SOME = (
    0.1,
    1.6e6,
)  # bytes of weights on the device: the host's own figure for --novram, and a quarter


@pytest.fixture
def partly(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The host loads as much of a model as it would with so much memory.

    The rest is cast and patched at each call.
    """
    from comfy.model_management import LoadedModel

    load = LoadedModel.model_load

    def load_partly(self: Any, lowvram_model_memory: float = 0, **options: Any) -> Any:
        return load(self, request.param - self.model_loaded_memory() or 0.1, **options)

    monkeypatch.setattr(LoadedModel, "model_load", load_partly)


@pytest.mark.parametrize(
    ("partly", "branches"), [(NO_VRAM, "both"), (SOME, "text")], indirect=["partly"]
)
def test_partial_loading_with_a_lora(host: Host, partly: None, branches: str) -> None:
    scene = Stored(host, fp16)
    plain, scene.model = scene.model, with_lora(scene, scene.model)
    scene.spatial_model = plain if branches == "text" else None
    assert_all(scene)
    module = host.run(scene, model=plain)["model"].model
    assert module.model_lowvram and module.lowvram_patch_counter > 0


@pytest.mark.parametrize("partly", [NO_VRAM], ids=["novram"], indirect=True)
def test_partial_loading_with_checkpointing(host: Host, partly: None) -> None:
    scene = Stored(host, fp16)
    scene.model = with_lora(scene, scene.model)
    plain, recomputed = (scene.realcompo({"checkpointing": on})[0] for on in (False, True))
    out = host.run(scene, plain=plain, recomputed=recomputed)
    assert torch.equal(out["plain"]["samples"], out["recomputed"]["samples"])


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """As newer hosts cast offloaded weights on a GPU.

    Into one buffer, as long as there is a stream for it.
    """
    import comfy.model_management
    import comfy.ops

    cast, buffer = comfy.ops.cast_bias_weight, []

    def cast_into_buffer(*args: Any, **kwargs: Any) -> tuple:
        weight, *rest = cast(*args, **kwargs)
        if weight is not None and comfy.model_management.NUM_STREAMS:
            buffer[:] = buffer or [torch.empty(4 * 10**7)]
            weight = buffer[0][: weight.numel()].view(weight.shape).copy_(weight)
        return weight, *rest

    monkeypatch.setattr(comfy.ops, "cast_bias_weight", cast_into_buffer)
    monkeypatch.setattr(comfy.model_management, "NUM_STREAMS", 2)


def test_weights_that_are_cast_into_a_shared_buffer(host: Host, streams: None) -> None:
    scene = Stored(host, fp16)
    assert_clean_balance(scene)
    assert pull_agrees_with_finite_difference(host, scene)


class Compiler:
    """A backend of torch.compile that changes nothing, and counts what it is given to compile and
    to run.
    """

    def __init__(self) -> None:
        self.graphs = self.runs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list) -> Callable:
        self.graphs += 1

        def run(*args: Any) -> Any:
            self.runs += 1
            return graph.forward(*args)

        return run


class Compiled(Stored):
    """A scene whose model is compiled as the host's node does it, whose backends need a C++
    compiler or a GPU.
    """

    def __init__(self, host: Host, compiler: Compiler, *parts: str) -> None:
        super().__init__(host, fp16)
        self.compiler, self.parts = compiler, list(parts)
        self.plain, self.model = self.model, self.compiled(self.model)

    def compiled(self, model: list) -> list:
        self.host.functions["compiled"] = self.compile
        return self.apply(model, "compiled")

    def compile(self, model: Any) -> Any:
        from comfy_api.torch_helpers import set_torch_compile_wrapper

        clone = model.clone()
        set_torch_compile_wrapper(clone, backend=self.compiler, keys=self.parts)
        return clone

    def images(self, *runs: Links) -> list[Tensor]:
        out = self.host.run(self, **{f"image{index}": run[0] for index, run in enumerate(runs)})
        return [out[f"image{index}"]["samples"] for index in range(len(runs))]

    def graphs_of(self, *runs: Links) -> int:
        """How many graphs are compiled for some runs."""
        before = self.compiler.graphs
        self.images(*runs)
        return self.compiler.graphs - before


# What is compiled once is tested in one process.
compiled = pytest.mark.xdist_group("compiled")


@pytest.fixture(scope="module")
def compiler() -> Iterator[Compiler]:
    torch.compiler.reset()
    yield Compiler()
    torch.compiler.reset()


@pytest.fixture
def block(host: Host, compiler: Compiler) -> Compiled:
    """A model of which one transformer block is compiled, all that is quickly done.

    Attention is read there too.
    """
    return Compiled(host, compiler, "diffusion_model.middle_block.1.transformer_blocks.0")


@compiled
def test_a_gradient_pass_compiles_nothing(block: Compiled) -> None:
    """Neither for itself, nor do the predictions that follow it look any different."""
    assert_limits(block.host, block)
    assert block.compiler.runs > 0
    ahead = [block.realcompo({"online": False, "text_loss": weight}) for weight in (1.0, 0.0)]
    assert block.graphs_of(*ahead) == 0


@compiled
@pytest.mark.parametrize("online", [False, True])
def test_compiled_models(block: Compiled, online: bool) -> None:
    plain, ours = (
        block.realcompo({"online": online}, model=model) for model in (block.plain, block.model)
    )
    weights = block.weights()
    assert torch.equal(*block.images(plain, ours))
    assert block.weights() == weights
    assert block.graphs_of(block.realcompo({"online": online}, seed=8)) == 0


@compiled
def test_a_whole_compiled_model_as_one_branch(host: Host, compiler: Compiler) -> None:
    whole = Compiled(host, compiler)
    whole.spatial_model = whole.plain
    plain, ours = (whole.realcompo(model=model) for model in (whole.plain, whole.model))
    runs = whole.compiler.runs
    assert torch.equal(*whole.images(plain, ours))
    assert whole.compiler.runs > runs


@compiled
def test_a_compiled_branch_with_a_copy_of_its_own(block: Compiled) -> None:
    """The module that was compiled is the one that has the other branch's LoRA."""
    block.model, block.spatial_model = block.compiled(with_lora(block, block.plain)), block.model
    assert_limits(block.host, block)
    assert block.graphs_of(block.realcompo({"mode": "fixed"}, seed=8)) == 0


@compiled
def test_capture_in_a_compiled_model(block: Compiled) -> None:
    capture = block.add(
        "RealCompoAttentionCapture",
        model=block.model,
        conditioning=block.text,
        downsample=0,
        layers="all",
    )
    assert torch.equal(*block.images(block.stock(), block.stock(model=capture[0])))
    assert len(block.host.run(block, maps=capture[1])["maps"].steps) == 3
    assert block.graphs_of(block.stock(model=capture[0], seed=8)) == 0
