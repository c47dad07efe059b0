"""The toy world's transformer: how it is trained, and what ComfyUI and RealCompo do with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from benchmarks.arms import Arm, PromptGraph
from benchmarks.toy import inside
from demo.judging.detect import read
from demo.judging.prompts import prompts
from testkit.graph import Graph
from testkit.host import Host, PromptError

STYLE = "photo (transformer)"
SAMPLING = {"seed": 1, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}


def asked(host: Host, **changes: Any) -> Tensor:
    """Four pictures of a red circle by stock nodes alone."""
    graph = Graph()
    model, clip, vae = (graph.add("RealCompoDemoModels", style=STYLE)[n] for n in range(3))
    positive, negative = (
        graph.add("CLIPTextEncode", clip=clip, text=text)[0]
        for text in ("a red circle on sand", "")
    )
    latent = graph.add("EmptyLatentImage", width=128, height=128, batch_size=4)[0]
    inputs = SAMPLING | {"steps": 12} | changes
    prompts = {"positive": positive, "negative": negative}
    sampled = graph.add("KSampler", model=model, latent_image=latent, **prompts, **inputs)[0]
    image = graph.add("VAEDecode", samples=sampled, vae=vae)[0]
    return host.run(graph, image=image)["image"].movedim(-1, 1)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m"])
def test_stock_nodes_alone_draw_what_is_asked(host: Host, sampler: str) -> None:
    readings = [read(picture) for picture in asked(host, sampler_name=sampler)]
    kinds = [[thing.kind for thing in reading.things] for reading in readings]
    assert kinds.count([("red", "circle")]) >= 3
    assert all(reading.ground == "sand" for reading in readings)


def test_at_mid_noise_words_are_read_where_their_object_stands(host: Host) -> None:
    some = [prompt for prompt in prompts("development", 12) if len(prompt.scene.things) > 1][:3]
    shares = [inside(host, prompt, "transformer", seed) for seed, prompt in enumerate(some)]
    assert sum(shares) / len(shares) > 0.5


@pytest.mark.parametrize(
    ("spatial", "got"), [("control", "a ControlNet"), ("gligen", "GLIGEN boxes")]
)
def test_what_is_made_for_the_unet_is_refused(host: Host, spatial: str, got: str) -> None:
    graph = PromptGraph(prompts("development", 1)[0], 0, spatial=spatial, base="transformer")
    with pytest.raises(PromptError, match=rf"photo \(transformer\): expected .*, got {got}"):
        host.run(graph, latent=graph.sample(Arm("", stock="spatial")))


@pytest.mark.parametrize(("mode", "stock"), [("text only", "text"), ("spatial only", "spatial")])
def test_one_sided_modes_equal_the_stock_sampler(host: Host, mode: str, stock: str) -> None:
    """Its spatial branch is Regional Attention."""
    graph = PromptGraph(prompts("development", 1)[0], 0, spatial="regional", base="transformer")
    graph.base = replace(graph.base, sampling={**graph.base.sampling, "steps": 4})
    ours, theirs, other = (
        graph.sample(arm)
        for arm in (Arm("", {"mode": mode}), Arm("", stock=stock), Arm("", {"mode": "fixed"}))
    )
    out = host.run(graph, ours=ours, theirs=theirs, other=other)
    ours, theirs, other = (out[name]["samples"] for name in ("ours", "theirs", "other"))
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, other)


def lesson(bias: float) -> tuple[Any, Any]:
    """The training's loss, and two pictures whose third word has a region."""
    from demo.training.data import Batch
    from demo.training.diffusion import Flow

    latents = torch.randn(2, 16, 16, 16, generator=Generator().manual_seed(0))
    regions = torch.zeros(2, 40, 16, 16)
    regions[:, 3, 4:8, 4:8] = 1
    tokens = torch.zeros(2, 40, dtype=torch.long)
    return Flow(torch.device("cpu"), bias), Batch([], [], latents, tokens, regions)


@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # bf16 is normed without a fused kernel
@torch.inference_mode(False)
def test_a_training_step_teaches_the_picture_and_where_words_are_read(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    import comfy.model_management as management

    # As the training does: newer ComfyUIs' fused kernels have no backward.
    monkeypatch.setattr(management, "in_training", True, raising=False)
    from demo.training.transformer import transformer

    network = transformer()
    context = torch.randn(2, 40, 128, generator=Generator().manual_seed(1))

    def predict(x: Tensor, sigma: Tensor, attention: Any) -> Tensor:
        options = {"optimized_attention_override": attention}
        return network(x, sigma, context, num_tokens=40, transformer_options=options)

    flow, batch = lesson(0.75)
    denoising, attention = flow(batch, Generator().manual_seed(2), predict)
    assert denoising.item() == pytest.approx(2, rel=0.1)  # it predicts nothing yet
    denoising.backward(retain_graph=True)
    assert network.final_layer.linear.weight.grad.abs().max() > 0
    attention.backward()
    assert all(layer.attention.qkv.weight.grad.abs().max() > 0 for layer in network.layers)


def test_the_loss_of_the_true_flow_is_zero(host: Host) -> None:
    flow, batch = lesson(0.75)

    def predict(x: Tensor, sigma: Tensor, attention: Any) -> Tensor:
        attention.maps.append(torch.ones(2, 64, 40))
        return (x - batch.latents) / sigma[:, None, None, None]

    denoising, outside = flow(batch, Generator().manual_seed(0), predict)
    assert denoising.item() < 1e-6
    assert outside.item() > 0


def test_in_deepest_noise_no_attention_is_taught(host: Host) -> None:
    flow, batch = lesson(0.0)

    def predict(x: Tensor, sigma: Tensor, attention: Any) -> Tensor:
        assert sigma.min() == 1
        attention.maps.append(torch.ones(2, 64, 40))
        return x

    assert flow(batch, Generator().manual_seed(0), predict)[1].item() == 0


def test_joint_attention_is_the_hosts_and_keeps_what_cells_read_of_the_text(host: Host) -> None:
    from demo.training.diffusion import JointAttention

    joint = JointAttention()
    q, k, v = torch.randn(3, 2, 4, 104, 8, generator=Generator().manual_seed(0))
    out = joint(lambda: None, q, k, v, 4, None, skip_reshape=True)
    expected = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(out, expected)
    weights = (q @ k.transpose(-1, -2) * 8**-0.5).softmax(-1)[:, :, 40:, :40].mean(1)
    torch.testing.assert_close(joint.maps, [weights])
    joint(lambda: None, *(t[:, :, :64] for t in (q, k, v)), 4)
    assert len(joint.maps) == 1  # where cells refine themselves there is no text
