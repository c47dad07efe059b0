"""Phrases in the conditionings of every family's text encoders.

The networks inside mix nothing: where a word changes, so do its own rows alone, as the host's text
model puts them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from testkit import text_encoders, tiny_transformers
from testkit.graph import Graph, Links
from testkit.host import Host, PromptError
from testkit.scene import GLIGEN, LAYOUT, SAMPLING

FAMILIES = text_encoders.families()
LATIN = ("flux", "chroma", "cosmos2", "lumina2", "wan", "anima")  # what their vocabularies spell
PROMPTS = {
    "plain": "a photo of a {} on the grass",
    "weights": "a (very big:0.8) ({}:1.3), a ball",
    "accents and lines": "cr\u00e8me br\u00fbl\u00e9e, caf\u00e9\n{} and a T-shirt",
    "other scripts": "\u732b\u548c\u72d7 {} \u5728\u8349\u5730\u4e0a",
    "punctuation": "the king's {}; it's raining (close-up)",
    "long": "very " * 90 + "big {} and more",
}


@pytest.fixture(scope="module", autouse=True)
def forgotten() -> Iterator[None]:
    """Text encoders are kept for all tests of this file, and no longer."""
    yield
    text_encoders.clip_of.cache_clear()


def rows(host: Host, clip: Any, prompt: str, *phrases: str) -> list[tuple[int, ...]]:
    layout = host.pack("realcompo_core.layout.model")
    objects = tuple(layout.LayoutObject(phrase, layout.Box(0, 0, 1, 1)) for phrase in phrases)
    readings = host.pack("nodes.host.text.tokenizer").prompt_of(clip, prompt).encoders
    locate_in = host.pack("realcompo_core.words.tokenized").locate_in
    return list(locate_in(layout.Layout(objects), readings))


def text_of(clip: Any, prompt: str) -> Tensor:
    """The text [rows, features] as the network gets it."""
    with torch.inference_mode():
        ((text, options),) = clip.encode_from_tokens_scheduled(clip.tokenize(prompt))
    if "t5xxl_ids" in options:  # Anima makes a row of each of these
        return options["t5xxl_ids"][:, None]
    if "conditioning_llama3" not in options:
        return text[0]
    llama = options["conditioning_llama3"][0, -1]
    return torch.cat([text[0], llama, llama])  # HiDream


def changed(one: Tensor, other: Tensor) -> set[int]:
    return set((one != other).any(dim=-1).nonzero().flatten().tolist())


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_phrase_has_the_rows_that_change_with_it(host: Host, family: str, prompt: str) -> None:
    clip = text_encoders.clip_of(family)
    one, other = prompt.format("red car"), prompt.format("big dog")
    (found,) = rows(host, clip, one, "red car")
    assert set(found) == changed(text_of(clip, one), text_of(clip, other))
    assert len(set(found)) == len(found) > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_letters_of_other_scripts_are_found_where_a_vocabulary_has_them(
    host: Host, family: str
) -> None:
    clip, prompt = text_encoders.clip_of(family), "\u4e00\u53ea{} and a ball"
    cat = prompt.format("\u732b")
    differing = changed(text_of(clip, cat), text_of(clip, prompt.format("\u72d7")))
    if family in LATIN:
        assert not differing
        with pytest.raises(ValueError, match="phrase '\u732b': expected words of the prompt"):
            rows(host, clip, cat, "\u732b")
    else:
        (found,) = rows(host, clip, cat, "\u732b")
        assert differing and differing <= set(found)  # their first byte may be the same


@pytest.mark.parametrize("family", ["sd3", "chroma", "z-image"])
def test_words_that_look_the_same_are_the_same(host: Host, family: str) -> None:
    """Escaped brackets, curly quotes and underscores."""
    clip = text_encoders.clip_of(family)
    prompt = "a robot \\(old\\) with the king\u2019s red_cube"
    for phrase in ("robot (old)", r"robot \(old\)", "the king's", "red cube", "red_cube"):
        (found,) = rows(host, clip, prompt, phrase)
        assert found
    with pytest.raises(ValueError, match="phrase 'bot'"):
        rows(host, clip, prompt, "bot")


def test_sd3_has_rows_in_clip_and_in_t5(host: Host) -> None:
    """Both CLIPs share rows, T5's are behind their 77."""
    (found,) = rows(host, text_encoders.clip_of("sd3"), "a red car", "red car")
    assert found == (2, 3, 79, 80)


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        (("t5xxl",), (2, 3)),
        (("clip_l", "clip_g"), (2, 3)),
        (("clip_l",), (2, 3, 79, 80)),
    ],
)
def test_sd3_works_without_some_of_its_encoders(
    host: Host, missing: tuple[str, ...], expected: tuple[int, ...]
) -> None:
    whole = text_encoders.clip_of("sd3")
    clip, model = whole.clone(), copy.copy(whole.cond_stage_model)
    model._modules = model._modules | dict.fromkeys(missing)
    clip.cond_stage_model = model
    (found,) = rows(host, clip, "a red car", "red car")
    assert found == expected and set(found) == changed(
        text_of(clip, "a red car"), text_of(clip, "a big dog")
    )


def test_embeddings_that_an_encoder_ignores_take_no_rows(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are of CLIP-L and bigG: T5's words stand where they would without."""
    save_file(
        {"clip_l": torch.randn(2, 768), "clip_g": torch.randn(2, 1280)},
        tmp_path / "oil.safetensors",
    )
    clip = text_encoders.clip_of("sd3")
    for part in (clip.tokenizer.clip_l, clip.tokenizer.clip_g, clip.tokenizer.t5xxl):
        monkeypatch.setattr(part, "embedding_directory", str(tmp_path))
    prompt = "photo, embedding:oil of a {}"
    (found,) = rows(host, clip, prompt.format("red car"), "red car")
    texts = (text_of(clip, prompt.format(phrase)) for phrase in ("red car", "big dog"))
    assert set(found) == changed(*texts) and len(found) == 4


def test_gligen_needs_the_text_encoder_that_it_was_trained_with(host: Host) -> None:
    graph = objects(host, text_encoders.clip_of("qwen image"))
    gligen = graph.add("GLIGENLoader", gligen_name=GLIGEN)[0]
    tied = conditioned(graph, "a red cube and a blue ball", gligen=gligen)
    with pytest.raises(PromptError, match="gligen: expected a CLIP whose texts have 768 values"):
        host.run(graph, text=tied[0])


def test_words_of_a_template_are_not_the_prompts(host: Host) -> None:
    clip = text_encoders.clip_of("omnigen2")
    with pytest.raises(ValueError, match=r"phrase 'images'.* got a prompt with a\[23\] red"):
        rows(host, clip, "a red car", "images")


def test_rows_of_llama_are_where_hidreams_network_has_them() -> None:
    """Behind T5's 9 rows are the 12 of Llama's last layer, then those of each block's own."""
    latent, time = tiny_transformers.empty_latent("hidream"), torch.ones(1)
    ((text, options),) = tiny_transformers.conditioning("hidream", 1)
    llama, pooled = options["conditioning_llama3"], options["pooled_output"]
    changed_llama = llama.clone()
    changed_llama[:, :, 5] += 1.0
    network = tiny_transformers.patcher("hidream").model.diffusion_model

    def keys(rows: Tensor) -> Tensor:
        found: list[Tensor] = []

        def listening(function: Any, q: Tensor, k: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            found.append(k)
            return function(q, k, *args, **kwargs)

        override = {"optimized_attention_override": listening}
        network(latent, time, pooled, text, rows, transformer_options=override)
        return found[0].flatten(2)[0] if found[0].ndim == 4 else found[0][0]

    with torch.inference_mode():
        one, other = keys(llama), keys(changed_llama)
    image = 4 * 6
    assert changed(one, other) == {image + 9 + 5, image + 9 + 12 + 5}


# Errors


class Strange(torch.nn.Module):
    """A text model of no encoder that the host has."""

    def encode_token_weights(self, tokens: dict) -> tuple[Tensor, None]:
        raise AssertionError("it must not encode in earnest")


class Mixing(torch.nn.Module):
    """A text model that makes other features of its encoders'."""

    def __init__(self, t5xxl: torch.nn.Module) -> None:
        super().__init__()
        self.t5xxl = t5xxl

    def encode_token_weights(self, tokens: dict) -> tuple[Tensor, None]:
        text, pooled = self.t5xxl.encode_token_weights(tokens["t5xxl"])
        return text.sin(), pooled


@pytest.mark.parametrize("kind", [Strange, Mixing])
def test_encoders_that_cannot_be_asked_are_told(host: Host, kind: type) -> None:
    known = text_encoders.clip_of("chroma")
    clip = known.clone()
    parts = [] if kind is Strange else [known.cond_stage_model.t5xxl]
    clip.cond_stage_model = kind(*parts)
    with pytest.raises(ValueError, match=r"clip: expected text encoders whose rows .* got t5xxl"):
        rows(host, clip, "a red car", "red car")


# Through the executor


def objects(host: Host, clip: Any) -> Graph:
    """A graph with a layout and these text encoders."""
    host.functions["encoders"] = lambda _: clip
    graph = Graph()
    graph.add("RealCompoLayout", layout=LAYOUT)
    graph.add("TestApply", value=0, function="encoders")
    return graph


def conditioned(graph: Graph, prompt: str, **inputs: Any) -> Links:
    layout, clip = ["1", 0], ["2", 0]
    return graph.add("RealCompoLayoutConditioning", clip=clip, text=prompt, layout=layout, **inputs)


BALANCED = [name for name in ("chroma", "lumina2", "hidream") if name in FAMILIES]


@pytest.mark.parametrize("family", BALANCED)
def test_a_transformer_is_balanced_by_the_words_of_its_own_encoder(
    fresh: Host, family: str
) -> None:
    clip = text_encoders.clip_of(family, tiny_transformers.WIDTH)
    graph = objects(fresh, clip)
    tied = conditioned(graph, "a red cube and a blue ball")
    fresh.functions["model"] = lambda _: tiny_transformers.patcher(family)
    fresh.functions["latent"] = lambda _: {"samples": tiny_transformers.empty_latent(family)}
    model, latent = (
        graph.add("TestApply", value=0, function=name)[0] for name in ("model", "latent")
    )
    sampled = graph.add(
        "RealCompoKSampler",
        **SAMPLING | {"steps": 3, "scheduler": "simple", "cfg": 3.0},
        model=model,
        positive=tied[0],
        negative=graph.add("CLIPTextEncode", clip=["2", 0], text="blurry")[0],
        spatial_positive=tied[1],
        latent_image=latent,
        balancer=graph.balancer(warmup=0.0),
    )
    found = fresh.run(graph, latent=sampled[0], trace=sampled[1], tokens=tied[2])
    assert found["latent"]["samples"].isfinite().all()
    assert "red[" in found["tokens"] and "ball[" in found["tokens"]
    readings = [part for step in found["trace"].steps for part in step.readings.get("text", ())]
    losses = torch.stack([reading.losses for reading in readings])
    assert losses.isfinite().all() and (losses[..., 0] != losses[..., 1]).all()
