"""Phrases through the host's real CLIP tokenizers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from testkit.host import Host

Positions = list[tuple[int, ...]]


def clip(family: str, embeddings: Path | None = None) -> Any:
    """The host's CLIP with a family's real tokenizer, and no weights."""
    import comfy.sd
    from comfy import sd1_clip, sdxl_clip
    from comfy.text_encoders import sd2_clip

    kinds = {
        "sd1": sd1_clip.SD1Tokenizer,
        "sd2": sd2_clip.SD2Tokenizer,
        "sdxl": sdxl_clip.SDXLTokenizer,
    }
    made = comfy.sd.CLIP(no_init=True)
    made.tokenizer = kinds[family](embedding_directory=str(embeddings) if embeddings else None)
    made.tokenizer_options = {}
    return made


def positions(host: Host, clip: Any, prompt: str, *phrases: str) -> Positions:
    layout = host.pack("realcompo_core.layout.model")
    objects = tuple(layout.LayoutObject(phrase, layout.Box(0, 0, 1, 1)) for phrase in phrases)
    encoders = host.pack("nodes.host.text.tokenizer").prompt_of(clip, prompt).encoders
    locate_in = host.pack("realcompo_core.words.tokenized").locate_in
    return list(locate_in(layout.Layout(objects), encoders))


def pieces(clip: Any, prompt: str) -> list[str]:
    """The vocabulary text at every position, by the tokenizer itself."""
    chunks = next(iter(clip.tokenize(prompt).values()))
    return [clip.tokenizer.untokenize([pair])[0][1] for chunk in chunks for pair in chunk]


PROMPTS = {
    "plain": (
        "a red cube and a blue ball",
        ["a red cube", "a blue ball"],
        ["red cube", "blue ball"],
    ),
    "punctuation": (
        "photo, a red cube; (a blue ball).",
        ["red cube", "a blue ball"],
        ["red cube", "blue ball"],
    ),
    "sub-words": (
        "an axolotl beside a zweihander",
        ["a zweihander", "an axolotl"],
        ["zweihander", "axolotl"],
    ),
    "weights": (
        "a (red cube:1.3) and ((a blue ball))",
        ["red cube", "blue ball"],
        ["red cube", "blue ball"],
    ),
    "weight inside": ("a (red:1.2) cube", ["a red cube"], ["red cube"]),
    "escaped brackets": (r"a cube \(red\) here", [r"cube \(red\)"], ["cube ( red"]),
    "repeated nouns": (
        "a corgi, a cat, a corgi",
        ["a corgi", "a cat", "a corgi"],
        ["corgi", "cat", "corgi"],
    ),
    "singular": ("two corgis on a bench", ["a corgi", "a corgi"], ["corgis", "corgis"]),
    "plural": ("a corgi on a bench", ["corgis"], ["corgi"]),
    "hyphens": ("a black-and-white cat", ["black-and-white cat"], ["black - and - white cat"]),
    "apostrophes": ("the king's crown", ["the king's crown"], ["king 's crown"]),
    "upper case": ("A RED Cube", ["a red cube"], ["red cube"]),
    "several words": (
        "a polar bear with a hot air balloon",
        ["hot air balloon", "polar bear"],
        ["hot air balloon", "polar bear"],
    ),
    "repeated words": (
        "a red car and a red bench",
        ["red bench", "red car"],
        ["red bench", "red car"],
    ),
    "and, with": (
        "a bed and breakfast with a rock and roll sign and a man with a hat",
        ["bed and breakfast", "rock and roll sign", "man with a hat"],
        ["bed and breakfast", "rock and roll sign", "man with a hat"],
    ),
    "other scripts": ("a café crème", ["café crème"], ["cafÃ© crÃ¨me"]),
}


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize(("prompt", "phrases", "words"), PROMPTS.values(), ids=PROMPTS)
def test_phrases_are_found(
    host: Host, family: str, prompt: str, phrases: list[str], words: list[str]
) -> None:
    encoder = clip(family)
    texts = pieces(encoder, prompt)
    found = [
        "".join(texts[p] for p in t).replace("</w>", " ").strip()
        for t in positions(host, encoder, prompt, *phrases)
    ]
    assert [" ".join(text.split()) for text in found] == words


def test_repeated_nouns_are_taken_in_order(host: Host) -> None:
    first, _, second = positions(
        host, clip("sd1"), "a corgi, a cat, a corgi", "a corgi", "a cat", "a corgi"
    )
    assert first == (2,) and second == (8,)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_prompts_over_one_chunk(host: Host, family: str) -> None:
    """The second chunk of 77 begins at row 77 with its own start token."""
    encoder = clip(family)
    prompt = "very " * 80 + "red cube"
    (found,) = positions(host, encoder, prompt, "a red cube")
    assert min(found) > 77
    assert [pieces(encoder, prompt)[p] for p in found] == ["red</w>", "cube</w>"]


def test_embeddings_are_words_of_their_own(host: Host, tmp_path: Path) -> None:
    save_file({"emb_params": torch.randn(2, 768)}, tmp_path / "dog.safetensors")
    encoder = clip("sd1", tmp_path)
    prompt = "photo of embedding:dog beside a red cube"
    dog, cube = positions(host, encoder, prompt, "embedding:dog", "a red cube")
    assert dog == (3, 4) and cube == (7, 8)


def test_sdxl_embeddings_move_both_encoders(host: Host, tmp_path: Path) -> None:
    save_file(
        {"clip_l": torch.randn(2, 768), "clip_g": torch.randn(2, 1280)},
        tmp_path / "dog.safetensors",
    )
    dog, cube = positions(
        host,
        clip("sdxl", tmp_path),
        "photo of embedding:dog beside a red cube",
        "embedding:dog",
        "a red cube",
    )
    assert set(dog) == {3, 4} and cube == (7, 8)


def test_positions_are_rows_of_the_conditioning(host: Host) -> None:
    """The encoded prompt has one row for each position that can be found."""
    from testkit.scene import Scene

    scene = Scene(prompt="very " * 80 + "red cube and blue ball")
    ((rows, options),) = host.run(scene, text=scene.text)["text"]
    assert rows.shape[1] == 154
    assert all(77 < p < 154 for tokens in options["realcompo"].tokens for p in tokens)
