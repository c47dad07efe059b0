"""SepEn Train through the real host.

What it learns, saves and resumes, and what it leaves alone.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from testkit.failing import break_down, interrupt, patched_attn2, run_out_of_memory
from testkit.graph import Links
from testkit.held import Held, tensor_bytes
from testkit.host import Host, PromptError
from testkit.random_models import WIDTH
from testkit.scene import PROMPT, Scene

OBJECTS = "a red cube\na blue ball"
TRAINING = {
    "prompt": PROMPT,
    "objects": OBJECTS,
    "steps": 2,
    "batch": 1,
    "learning_rate": 1e-3,
    "seed": 3,
    "separate": 1.0,
    "enhance": 0.5,
    "norm": False,
    "norm_weight": 0.5,
    "overlap": "pairs",
    "resolution": 64,
    "downsample": 1,
    "layers": "down",
    "rank": 0,
    "checkpointing": False,
    "dtype": "model",
    "checkpoint_every": 0,
    "prefix": "loras/SepEn",
    "resume": "none",
}
EVERYWHERE = {
    "downsample": 0,
    "layers": "all",
}  # the node's defaults; the rest of the tests read one layer, for speed


@pytest.fixture(autouse=True)
def loras(host: Host, tmp_path: Path) -> Iterator[Path]:
    """An output folder of the test's own.

    Its LoRAs are known to the loaders, as in a started server.
    """
    import folder_paths

    before = folder_paths.get_output_directory()
    folder_paths.set_output_directory(str(tmp_path))
    folder_paths.add_model_folder_path("loras", str(tmp_path / "loras"))
    (tmp_path / "loras").mkdir()
    yield tmp_path / "loras"
    folder_paths.folder_names_and_paths["loras"][0].remove(str(tmp_path / "loras"))
    folder_paths.set_output_directory(before)


class Training(Scene):
    """A small scene to train on."""

    def __init__(self, **scene: Any) -> None:
        super().__init__(**{"width": 64, "height": 64, "gligen": False} | scene)

    def train(self, **settings: Any) -> Links:
        return self.add(
            "SepEnTrain", **{"model": self.model, "clip": self.clip} | TRAINING | settings
        )

    def concepts(self, concepts: str = "cat, polar bear, hot air balloon", **inputs: Any) -> list:
        defaults = {"templates": "a {a} and a {b}\na {x} {a} with a {b}", "attributes": "red"}
        return self.add("SepEnConcepts", concepts=concepts, **defaults | inputs)[0]


def learned(host: Host, **settings: Any) -> dict[str, torch.Tensor]:
    host.forget()
    scene = Training()
    return host.run(scene, lora=scene.train(**settings)[1])["lora"]


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def losses(report: str) -> list[dict[str, float]]:
    """The losses at the start and the end of a run, from its report."""
    rows = [row.partition(": ")[2].split(", ") for row in report.splitlines()[1:]]
    return [{name: float(value) for name, value in (part.split() for part in row)} for row in rows]


# What is learned


def test_only_keys_of_cross_attention_are_learned(host: Host) -> None:
    lora = learned(host, **EVERYWHERE)
    assert (
        len(lora) == 6
    )  # three blocks on the way down, one in the middle, two up at a quarter of the latent
    assert all(
        name.startswith("diffusion_model.") and name.endswith(".attn2.to_k.diff") for name in lora
    )
    assert all(
        t.dtype is torch.float32 and t.shape == (WIDTH, 768) and t.abs().max() > 0
        for t in lora.values()
    )


def test_a_low_rank_is_a_lora_of_that_rank(host: Host) -> None:
    lora = learned(host, rank=4)
    shapes = {name.partition("to_k.")[2]: tuple(tensor.shape) for name, tensor in lora.items()}
    assert shapes == {"lora_up.weight": (WIDTH, 4), "lora_down.weight": (4, 768), "alpha": ()}
    assert all(tensor.abs().max() > 0 for tensor in lora.values())


def test_the_layers_that_are_read_decide_what_is_trained(host: Host) -> None:
    """Nothing after the last layer that is read can change what is read."""
    assert len(learned(host)) == 1
    assert len(learned(host, layers="middle", downsample=0)) == 4


def test_the_losses_fall(host: Host, loras: Path) -> None:
    """On the same noise: a run from the trained weights begins at the first lesson again."""
    scene = Training()
    trained = scene.train(steps=40, learning_rate=3e-4, enhance=0.0)
    scene.add("SaveLoRA", lora=trained[1], prefix="loras/plain")
    before = host.run(scene, report=trained[3])["report"]
    scene = Training()
    again = scene.train(steps=1, enhance=0.0, resume=next(loras.glob("plain*")).name)
    after = host.run(scene, report=again[3])["report"]
    assert losses(after)[0]["separate"] < 0.75 * losses(before)[0]["separate"]


@pytest.mark.parametrize(("rank", "rate"), [(0, 1e-2), (4, 1.0)])
def test_training_sees_what_the_saved_weights_do(
    host: Host, loras: Path, rank: int, rate: float
) -> None:
    """The difference beside the weights and the difference in the weights have the same losses."""
    scene = Training()
    trained = scene.train(rank=rank, learning_rate=rate)
    scene.add("SaveLoRA", lora=trained[1], prefix="loras/plain")
    model = host.run(scene, model=trained[0])["model"]
    host.functions["tuned"] = lambda _: model
    scene = Training()
    beside = scene.train(steps=1, rank=rank, resume=next(loras.glob("plain*")).name)
    inside = scene.train(steps=1, rank=rank, model=scene.apply(scene.latent, "tuned"))
    fresh = scene.train(steps=1, rank=rank)
    out = host.run(scene, beside=beside[3], inside=inside[3], fresh=fresh[3])
    beside, inside, fresh = (
        losses(out[name])[0]["total"] for name in ("beside", "inside", "fresh")
    )
    assert beside == pytest.approx(inside, rel=1e-3) and fresh != pytest.approx(inside, rel=1e-3)


def test_the_norm_loss_is_zero_at_first_and_holds_the_model_back(host: Host) -> None:
    scene = Training()
    first, free, held = (
        scene.train(steps=steps, norm=True, norm_weight=weight, learning_rate=1e-2)[3]
        for steps, weight in ((1, 1.0), (3, 0.0), (3, 100.0))
    )
    out = host.run(scene, first=first, free=free, held=held)
    assert losses(out["first"])[0]["norm"] == 0
    assert 0 < losses(out["held"])[1]["norm"] < losses(out["free"])[1]["norm"]


def test_checkpointing_changes_no_weight(host: Host) -> None:
    settings = {"norm": True, "steps": 1} | EVERYWHERE
    assert equal(learned(host, **settings), learned(host, checkpointing=True, **settings))


def test_other_precision_learns_much_the_same(host: Host) -> None:
    exact, rough = learned(host, steps=1, dtype="fp32"), learned(host, steps=1, dtype="bf16")
    assert not equal(exact, rough)
    agreement = [
        torch.sign(exact[name]).eq(torch.sign(rough[name])).float().mean() for name in exact
    ]
    assert min(agreement) > 0.6


def test_a_seed_repeats_bit_for_bit_and_another_does_not(host: Host) -> None:
    assert equal(learned(host), learned(host))
    assert not equal(learned(host), learned(host, seed=4))


@pytest.mark.parametrize("family", ["sd2 v", "sdxl"])
@pytest.mark.parametrize("rank", [0, 4])
def test_other_families_learn_save_and_load(
    host: Host, loras: Path, family: str, rank: int
) -> None:
    scene = Training.of(family)
    trained = scene.train(rank=rank, concepts=scene.concepts(), learning_rate=1e-2, **EVERYWHERE)
    scene.add("SaveLoRA", lora=trained[1], prefix="loras/family")
    before, ours = scene.stock(steps=1), scene.stock(model=trained[0], steps=1)
    out = host.run(scene, before=before[0], ours=ours[0], lora=trained[1])
    assert all(".attn2.to_k." in name for name in out["lora"])
    name = next(loras.glob("family*")).name
    loaded = scene.add(
        "LoraLoaderModelOnly", model=scene.model, lora_name=name, strength_model=1.0
    )[0]
    stock = host.run(scene, stock=scene.stock(model=loaded, steps=1)[0])["stock"]["samples"]
    assert torch.equal(stock, out["ours"]["samples"]) and not torch.equal(
        stock, out["before"]["samples"]
    )


# Files


@pytest.mark.parametrize("rank", [0, 4])
def test_core_saves_and_loads_what_was_learned(host: Host, loras: Path, rank: int) -> None:
    scene = Training()
    trained = scene.train(rank=rank)
    scene.add("SaveLoRA", lora=trained[1], prefix="loras/mine", steps=2)
    ours = host.run(scene, latent=scene.stock(model=trained[0])[0])["latent"]["samples"]
    name = next(loras.glob("mine_2_steps*.safetensors")).name
    inputs = {"model": scene.model, "lora_name": name}
    whole = scene.add("LoraLoaderModelOnly", strength_model=1.0, **inputs)
    half = scene.add("LoraLoader", clip=scene.clip, strength_model=0.5, strength_clip=1.0, **inputs)
    out = host.run(scene, whole=scene.stock(model=whole[0])[0], half=scene.stock(model=half[0])[0])
    assert torch.equal(ours, out["whole"]["samples"]) and not torch.equal(
        ours, out["half"]["samples"]
    )


def test_core_loads_it_without_a_word_about_unknown_keys(
    host: Host, loras: Path, caplog: pytest.LogCaptureFixture
) -> None:
    learned(host, checkpoint_every=2)
    scene = Training()
    name = next(loras.glob("*.safetensors")).name
    host.run(
        scene,
        model=scene.add(
            "LoraLoaderModelOnly", model=scene.model, lora_name=name, strength_model=1.0
        )[0],
    )
    assert "not loaded" not in caplog.text


def test_a_resumed_run_ends_as_one_that_never_stopped(host: Host, loras: Path) -> None:
    whole = learned(host, steps=4, norm=True, checkpoint_every=2)
    (half,) = loras.glob("SepEn_2_steps*.safetensors")
    assert equal(whole, learned(host, steps=4, norm=True, resume=half.name))
    Path(f"{half}.optimizer").unlink()
    assert not equal(whole, learned(host, steps=4, norm=True, resume=half.name))


def test_checkpoints_are_lists_of_tensors_and_their_step(host: Host, loras: Path) -> None:
    lora = learned(host, steps=2, checkpoint_every=1)
    files = sorted(loras.glob("*.safetensors"))
    assert [path.name[:13] for path in files] == ["SepEn_1_steps", "SepEn_2_steps"]
    assert equal(load_file(files[1]), lora)
    with safe_open(files[0], "pt") as file:
        assert file.metadata() == {"realcompo_step": "1"}


# What is shown


def test_progress_is_told_with_the_losses(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    from server import PromptServer

    told: list[tuple[str, str]] = []
    monkeypatch.setattr(
        PromptServer.instance, "send_progress_text", lambda text, node: told.append((node, text))
    )
    host.forget()
    scene = Training()
    trained = scene.train(norm=True)
    out = host.run(scene, curve=trained[2], report=trained[3])
    assert [text.split(":")[0] for _, text in told] == ["step 1 of 2", "step 2 of 2"]
    assert {node for node, _ in told} == {trained.key}
    assert all(name in told[0][1] for name in ("separate", "enhance", "norm", "total"))
    assert out["curve"].shape[0] == 1 and out["curve"].shape[-1] == 3 and out["curve"].std() > 0
    assert out["report"].startswith(f"2 steps, up to step 2; 1 layers, {WIDTH * 768} weights")


def test_concepts_show_some_prompts(host: Host) -> None:
    scene = Training()
    shown = scene.add(
        "SepEnConcepts", concepts="cat\ndog", templates="a {a} and a {b}", attributes=""
    )
    lines = host.run(scene, examples=shown[1])["examples"].splitlines()
    assert lines[0] == "2 concepts, such as:"
    assert set(lines[1:]) == {"a cat and a dog", "a dog and a cat"}


def test_concepts_come_from_a_file_too(host: Host) -> None:
    import folder_paths

    path = Path(folder_paths.get_input_directory()) / "concepts.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text("dog\n# none\nhot air balloon\n", encoding="utf-8")
    scene = Training()
    found = host.run(scene, found=scene.concepts("cat, dog", file="concepts.txt"))["found"]
    assert found.concepts == ("cat", "dog", "hot air balloon")


# What is left alone


class Taught(Held):
    """Held models, with a training run on them."""

    def taught(self, **settings: Any) -> Links:
        return self.add(
            "SepEnTrain", **{"model": self.model, "clip": self.clip} | TRAINING | settings
        )


def test_a_good_run_leaves_nothing_behind(host: Host) -> None:
    scene = Taught(host)
    image, weights = scene.stock_image(), scene.weights()
    scene.build()
    trained = scene.taught(norm=True, dtype="bf16", **EVERYWHERE)
    lora = host.run(scene, lora=trained[1])["lora"]
    assert all(not tensor.requires_grad and tensor.grad_fn is None for tensor in lora.values())
    assert scene.weights() == weights
    assert scene.hooks() == [] and scene.loaded["model"].model.current_patcher is None
    assert torch.equal(image, scene.stock_image())


def test_a_sampled_model_gives_its_weights_back(host: Host) -> None:
    scene = Taught(host)
    image = scene.stock_image()
    scene.build()
    trained = scene.taught()
    tuned = host.run(scene, latent=scene.stock(scene.spatial, model=trained[0])[0])["latent"][
        "samples"
    ]
    assert not torch.equal(image, tuned) and torch.equal(image, scene.stock_image())


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("fail", [interrupt, break_down, run_out_of_memory])
def test_a_failed_run_keeps_its_weights_and_leaves_nothing_behind(
    host: Host, loras: Path, fail: Callable[[], None], checkpointing: bool
) -> None:
    scene = Taught(host)
    image, weights = scene.stock_image(), scene.weights()
    one_step = learned(host, steps=1, **EVERYWHERE)
    scene.build()
    host.functions["failing"] = patched_attn2(failing_in_the_second_step(fail))
    broken = scene.taught(
        model=scene.apply(scene.model, "failing"),
        steps=4,
        checkpointing=checkpointing,
        **EVERYWHERE,
    )
    with pytest.raises(PromptError):
        host.run(scene, lora=broken[1])
    (kept,) = loras.glob("SepEn_1_steps*.safetensors")
    assert equal(load_file(kept), one_step)
    assert scene.weights() == weights and scene.hooks() == []
    assert torch.equal(image, scene.stock_image())


def failing_in_the_second_step(fail: Callable[[], None]) -> Callable:
    """An attn2 patch that fails in the second training pass.

    The middle is read, so it is never recomputed.
    """
    passes: list[Any] = []

    def patch(q: torch.Tensor, context: torch.Tensor, value: torch.Tensor, options: dict) -> tuple:
        learning = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        if learning and options["block"][0] == "middle":
            passes.append(options["block"])
            if len(passes) == 2:
                fail()
        return q, context, value

    return patch


def test_runs_do_not_grow(host: Host) -> None:
    counts = []
    for seed in range(4):
        learned(host, seed=seed, steps=1, norm=True)
        host.forget()
        gc.collect()
        counts.append(tensor_bytes())
    assert max(counts[1:]) <= counts[1] + 2**20


# Bad input


def told(host: Host, build: Callable[[Training], list]) -> str:
    """The error of a prompt; then a good one must run."""
    host.forget()
    scene = Training()
    with pytest.raises(PromptError) as caught:
        host.run(scene, wanted=build(scene))
    learned(host, steps=1)
    return str(caught.value)


@pytest.mark.parametrize(
    ("settings", "start", "part"),
    [
        (
            {"objects": "a red cube\na green cone"},
            "SepEn Train, phrase 'a green cone':",
            "a[1] red[2] cube[3]",
        ),
        ({"objects": "a red cube"}, "SepEn Train, objects:", "two objects or more, got 1"),
        ({"objects": "a red cube\ncube"}, "SepEn Train, objects:", "words of its own"),
        ({"separate": 0.0, "enhance": 0.0}, "SepEn Train, separate:", "both weights 0"),
        ({"downsample": 3}, "SepEn Train, model, downsample:", "factors [1, 2, 4]"),
        ({"prefix": "../../away"}, "SepEn Train, prefix:", "inside ComfyUI's output folder"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_settings(host: Host, settings: dict, start: str, part: str) -> None:
    error = told(host, lambda scene: scene.train(**settings)[1])
    assert error.startswith(start) and part in error


@pytest.mark.parametrize("name", ["missing.txt", "../secret.txt", "/etc/passwd"])
def test_concept_files_stay_in_the_input_folder(host: Host, name: str) -> None:
    import folder_paths

    (Path(folder_paths.get_input_directory()).parent / "secret.txt").write_text("cat\ndog")
    error = told(host, lambda scene: scene.concepts(file=name))
    assert error.startswith("SepEn Concepts, file: expected a text file") and repr(name) in error


def test_a_family_that_has_no_such_attention(host: Host) -> None:
    def foreign(model: Any) -> Any:
        clone = model.clone()

        class Flux(torch.nn.Module):
            latent_format, model_sampling = model.model.latent_format, model.model.model_sampling
            diffusion_model, device = torch.nn.Identity(), None

        clone.model = Flux()
        return clone

    host.functions["foreign"] = foreign
    error = told(host, lambda scene: scene.train(model=scene.apply(scene.model, "foreign"))[1])
    assert (
        error.startswith("SepEn Train, model, attention:") and "Flux" in error and "SDXL" in error
    )


def test_a_resume_file_of_other_settings(host: Host, loras: Path) -> None:
    learned(host, steps=1, checkpoint_every=1)
    name = next(loras.glob("*.safetensors")).name
    error = told(host, lambda scene: scene.train(rank=4, resume=name)[1])
    assert (
        error.startswith("SepEn Train, resume: expected weights like 3 tensors")
        and "got 1 tensors" in error
    )
    error = told(host, lambda scene: scene.train(steps=1, resume=name)[1])
    assert error.startswith(
        "SepEn Train, steps: expected more than the 1 of the resumed run, got 1"
    )


def test_a_resume_file_that_is_none(host: Host, loras: Path) -> None:
    (loras / "broken.safetensors").write_text(json.dumps({"not": "tensors"}))
    error = told(host, lambda scene: scene.train(resume="broken.safetensors")[1])
    assert error.startswith("SepEn Train, resume: expected weights that SepEn Train saved")


def test_a_checkpoint_without_a_text_encoder(host: Host) -> None:
    host.functions["nothing"] = lambda _: None
    error = told(host, lambda scene: scene.train(clip=scene.apply(scene.clip, "nothing"))[1])
    assert error.startswith("SepEn Train, clip: expected a text encoder")


def test_the_last_good_weights_survive_a_loss_that_is_not_finite(host: Host, loras: Path) -> None:
    def nan_later(calls: list) -> Callable:
        def patch(
            q: torch.Tensor, context: torch.Tensor, value: torch.Tensor, options: dict
        ) -> tuple:
            calls.append(options["block"] == ("input", 1))
            return (q * float("nan") if sum(calls) > 1 else q), context, value

        return patch

    host.functions["nan"] = patched_attn2(nan_later([]))
    error = told(host, lambda scene: scene.train(model=scene.apply(scene.model, "nan"))[1])
    assert "finite losses and gradients, got separate nan" in error and "step 1" in error
    (kept,) = loras.glob("SepEn_1_steps*.safetensors")
    assert all(tensor.isfinite().all() for tensor in load_file(kept).values())
