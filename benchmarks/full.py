"""What balancing and finetuning cost at true sizes: SD1.5 and SDXL with random weights.

``python -m benchmarks.full [--family sd15 sdxl] [--pixels 512] [--output FILE]``, with ComfyUI at
COMFYUI_PATH: fp32 on the CPU, fp16 on a GPU, PyTorch's attention on both. A gradient pass is
measured in units of one model evaluation of one sample; what an image costs follows from that and
from the exact counts of ``benchmarks.cost``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from testkit.host import Host
from testkit.quiet_host import quiet_host
from testkit.random_models import REAL_WIDTH, SD15, SDXL, Family, random_weight
from testkit.scene import Scene

from . import ROOT
from .cost import gradient_pass, surroundings
from .meters import around, peak_bytes, seconds
from .rows import BUDGET, STEPS, extra_rows, floor
from .tables import rounded, say, table

UNETS: dict[str, tuple[Family, dict[str, Any]]] = {
    "sd15": (
        SD15,
        {
            "model_channels": REAL_WIDTH,
            "num_res_blocks": [2, 2, 2, 2],
            "channel_mult": (1, 2, 4, 4),
            "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
            "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
            "transformer_depth_middle": 1,
        },
    ),
    "sdxl": (
        SDXL,
        {
            "model_channels": REAL_WIDTH,
            "num_res_blocks": [2, 2, 2],
            "channel_mult": (1, 2, 4),
            "transformer_depth": [0, 0, 2, 2, 10, 10],
            "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
            "transformer_depth_middle": 10,
        },
    ),
}
WAYS = {
    "online": {"online": True},
    "online, checkpointed": {"online": True, "checkpointing": True},
    "look-ahead": {"online": False},
    "look-ahead, checkpointed": {"online": False, "checkpointing": True},
}
GUIDING = {  # how the warm-up of each way is guided
    "online": "online",
    "online, checkpointed": "online, checkpointed",
    "look-ahead": "online",
    "look-ahead, checkpointed": "online, checkpointed",
}
TRAINING = {
    "prompt": "a red cube and a blue ball",
    "objects": "a red cube\na blue ball",
    "steps": 2,
    "batch": 1,
    "learning_rate": 8e-6,
    "seed": 0,
    "separate": 1.0,
    "enhance": 0.5,
    "norm": False,
    "norm_weight": 0.5,
    "overlap": "pairs",
    "downsample": 0,
    "layers": "all",
    "rank": 0,
    "dtype": "model",
    "checkpoint_every": 0,
    "prefix": "loras/SepEn",
    "resume": "none",
}


@dataclass
class Calls:
    """Seconds of every call of a method, and the most MiB that each held over what was there."""

    times: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)

    def meter(self, call: Callable[[], Any]) -> None:
        """Make a call, and note its time and its memory."""
        self.peaks.append(peak_bytes(lambda: self.times.append(seconds(call))) / 2**20)


@contextmanager
def metered(owner: type, method: str) -> Generator[Calls]:
    """Time and weigh every call of a method."""
    calls = Calls()
    with around(owner, method, calls.meter):
        yield calls


def true_size(family: str) -> Any:
    """Make a patcher of a family's real U-Net with random weights, in place: in memory once."""
    import comfy.model_management as memory
    import comfy.supported_models
    from comfy.model_patcher import ModelPatcher

    device = memory.get_torch_device()
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    small, sizes = UNETS[family]
    kind = {"sd15": comfy.supported_models.SD15, "sdxl": comfy.supported_models.SDXL}[family]
    config = kind({**small.unet, **sizes, "out_channels": 4, "dtype": dtype})
    config.set_inference_dtype(dtype, None)
    model = config.get_model({}, "", device=memory.unet_offload_device())
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.diffusion_model.named_parameters():
        weight.data.copy_(random_weight(name, weight.shape, generator))
    return ModelPatcher(model, load_device=device, offload_device=memory.unet_offload_device())


class Bench:
    """Measures one family at one size in a host."""

    def __init__(self, host: Host, family: str, pixels: int) -> None:
        self.host, self.family, self.pixels = host, family, pixels
        self.patcher = true_size(family)
        host.functions["true size"] = lambda _: self.patcher

    def scene(self) -> Scene:
        """Return a graph of both branches with the model."""
        family, _ = UNETS[self.family]
        scene = Scene(width=self.pixels, height=self.pixels, gligen=False, family=family)
        scene.model = scene.apply(scene.model, "true size")
        return scene

    def measure(self) -> dict[str, Any]:
        """Measure everything that the report holds of the family."""
        weights = sum(p.nbytes for p in self.patcher.model.diffusion_model.parameters())
        row, least = self.row(), floor(STEPS)
        ways = {way: self.balance(way, settings, row) for way, settings in WAYS.items()}
        for way, found in ways.items():
            balancing, guiding = (ways[one]["row_equivalents"] for one in (way, GUIDING[way]))
            extra = {every: extra_rows(every, balancing, guiding) for every in BUDGET}
            found["over_floor"] = {every: (least + rows) / least for every, rows in extra.items()}
        return {
            "pixels": self.pixels,
            "weights_mb": weights / 2**20,
            "dtype": str(self.patcher.model.get_dtype()).removeprefix("torch."),
            "row_seconds": row,
            "ways": ways,
            "training": {"plain": self.train(False), "checkpointed": self.train(True)},
        }

    def row(self) -> float:
        """Return the seconds of one evaluation, at other than the first, slow step of a run."""
        return mean(self.calls("predict", {"mode": "fixed"}, steps=2).times[2:])

    def balance(self, way: str, settings: dict[str, Any], row: float) -> dict[str, Any]:
        """Return what a gradient pass takes, in evaluations of ``row`` seconds, and holds."""
        say(f"{self.family}: {way}")
        late = settings["online"]
        passes = self.calls(gradient_pass(late), settings, steps=3)  # two of them balance
        each = mean(passes.times[2:]) / row - late  # online, one evaluation is made anyway
        return {"row_equivalents": each, "peak_mb": max(passes.peaks)}

    def calls(self, method: str, settings: dict[str, Any], steps: int) -> Calls:
        """Meter both branches' calls of a method in a run."""
        scene = self.scene()
        ours = scene.realcompo(settings, steps=steps, cfg=1.0)
        kind = self.host.pack("nodes.host.sampling.prepared_model").PreparedModel
        with metered(kind, method) as calls:
            self.host.run(scene, latent=ours[0])
        return calls

    def train(self, checkpointing: bool) -> dict[str, float]:
        """Meter the second step of SepEn Train on one prompt: the first is slow to start."""
        say(f"{self.family}: finetuning, {'checkpointed' if checkpointing else 'plain'}")
        trainer = self.host.pack("nodes.host.training.trainer").Trainer
        scene = self.scene()
        inputs = TRAINING | {"resolution": self.pixels, "checkpointing": checkpointing}
        trained = scene.add("SepEnTrain", model=scene.model, clip=scene.clip, **inputs)
        with metered(trainer, "_take") as steps:
            self.host.run(scene, lora=trained[1])
        return {"seconds": steps.times[-1], "peak_mb": max(steps.peaks)}


def report(found: dict[str, Any]) -> str:
    """Return the figures as text."""
    host = f"ComfyUI {found['host_version']}, torch {found['torch']}, {found['device']}"
    tables = [family_tables(name, figures) for name, figures in found["families"].items()]
    return "\n\n".join([f"{host}, random weights", *tables])


def family_tables(family: str, found: dict[str, Any]) -> str:
    """Return what balancing and finetuning a family cost."""
    size = f"{family}, {found['pixels']} pixels, {found['dtype']}"
    weights, row = (
        f"weights of {found['weights_mb']:.0f} MiB",
        f"{found['row_seconds']:.2f} s a row",
    )
    budgets = ", ".join(f"{budget}" for budget in BUDGET.values())
    title = f"{size}, {weights}, {row}; budgets over the floor {budgets}"
    ways = []
    for way, figures in found["ways"].items():
        ratios = [figures["row_equivalents"], *figures["over_floor"].values()]
        ways.append((way, *(f"{value:.2f}" for value in ratios), f"{figures['peak_mb']:.0f}"))
    training = []
    for name, figures in found["training"].items():
        training.append((name, f"{figures['seconds']:.2f}", f"{figures['peak_mb']:.0f}"))
    header = ("balancing", "rows a pass", "/ floor", "every 2nd", "peak MiB")
    balancing = table(title, header, ways)
    finetuning = table("SepEn Train, one sample", ("", "s a step", "peak MiB"), training)
    return f"{balancing}\n\n{finetuning}"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    output = ROOT / "output" / "bench" / "full.json"
    parser = argparse.ArgumentParser(prog="benchmarks.full", description=__doc__)
    parser.add_argument("--family", nargs="+", choices=list(UNETS), default=list(UNETS))
    parser.add_argument("--pixels", type=int, default=512, help="width and height of the picture")
    parser.add_argument("--output", type=Path, default=output, help="the JSON file")
    return parser.parse_args()


def main() -> None:
    """Measure, print and write the report."""
    options = arguments()
    flags = ["--use-pytorch-cross-attention", *([] if torch.cuda.is_available() else ["--cpu"])]
    with quiet_host(flags) as host:
        families = {}
        for family in options.family:
            families[family] = Bench(host, family, options.pixels).measure()
        found = rounded({"families": families} | surroundings())
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=2) + "\n")
    say(f"\n{report(found)}\n\n{options.output}")


if __name__ == "__main__":
    main()
