"""What a gradient pass costs in transformers at their true size, without their weights.

``python -m benchmarks.transformers [--family NAME ...] [--write]``, with ComfyUI at COMFYUI_PATH.
Networks are built on PyTorch's meta device, where tensors have shapes and no numbers: operations
and bytes are counted, exactly, and nothing is timed. Then two blocks of some networks run in bf16
on this machine, for a check. ``--write`` puts the tables into docs/cost.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from testkit.host import Host
from testkit.quiet_host import quiet_host

from . import ROOT
from .meters import LiveTensors, seconds
from .tables import rounded, say
from .true_shapes import SHAPES, TrueShape

META, CPU = torch.device("meta"), torch.device("cpu")
TOKENS = (1, 2, 3, 4)  # of two objects, two each
PAGE = ROOT / "docs" / "cost.md"
BEGIN, END = "<!-- transformers: written by `make bench-full` -->", "<!-- end of transformers -->"
MODELS = (
    "| model | weights | an evaluation | up to the last layer read | a pass adds | a pass alone "
    "| memory of a pass | with `keys` text | without checkpoints |"
)
CHECKS = "| two blocks, 256 pixels | with checkpoints: counted / run | without |"
# Networks that are cut down to blocks which this machine can run, at so many cells of the latent.
CHECKED = {
    "Flux.1": {"depth": 2, "depth_single_blocks": 0},
    "Qwen-Image": {"num_layers": 2},
    "Z-Image": {"n_layers": 2},
}
CHECKED_CELLS = 32
ID = uuid4()  # of the conditioning
OVERRIDE = "optimized_attention_override"


class Bench:
    """Measures one family: its attention read up to the last layer, and the way back."""

    def __init__(self, host: Host, shape: TrueShape, device: torch.device = META) -> None:
        self.host, self.shape, self.device = host, shape, device
        self.model = built(shape, device)
        self.layers = host.pack("realcompo_core.sampling.attention").Layers
        self.keys = host.pack("realcompo_core.sampling.attention").Keys
        self.capture = host.pack("nodes.host.model.capture")
        self.reader = host.pack("nodes.host.model.readers.families").reader_of(self.model)
        self.read = self.reader.chosen(0, self.layers.ALL, shape.family.size)

    def measure(self) -> dict[str, float]:
        """Return the operations of an evaluation and of a pass, and the bytes that passes hold."""
        whole = operations(lambda: self.evaluate(self.latent(), {}))
        ahead = operations(lambda: self.pull(gradient=False))
        memory = self.peak()
        return {
            "parameters": sum(weight.numel() for weight in self.model.parameters()),
            "operations": whole,
            "read": ahead / whole,
            "pass": operations(self.pull) / whole,
            "memory": memory,
            "kept": self.peak(checkpoints=False),
            "text keys": self.peak(keys=self.keys.TEXT),
            "of two": memory / self.reckoned(),
            "gradient_memory": self.reader.gradient_memory,
        }

    def peak(self, **options: Any) -> int:
        """Return the most bytes that a gradient pass holds beside the weights."""
        with LiveTensors() as live:
            self.pull(**options)
        return live.peak

    def reckoned(self) -> float:
        """Return the bytes that the host reckons on a GPU for evaluating two samples."""
        import comfy.model_management as management

        with patch.object(management, "pytorch_attention_flash_attention", lambda: True):
            return self.model.memory_required([2, *self.latent().shape[1:]])

    def pull(self, gradient: bool = True, checkpoints: bool = True, keys: Any = None) -> None:
        """Read attention, and go back to the latent."""
        options, maps = {"transformer_options": {}}, []
        if self.device is META and self.reader.hears_override:
            options["transformer_options"][OVERRIDE] = counted_attention
        self.watch(options, maps, keys or self.keys.ALL)
        with ExitStack() as stack:
            latent = self.latent()
            if gradient:
                self.prepare(stack, options, checkpoints)
                latent.requires_grad_()
            self.evaluate(latent, options)
            if gradient:
                torch.stack(maps).sum().backward()

    def watch(self, options: dict, maps: list[Tensor], keys: Any) -> None:
        """Let the words of two objects be read, and the model stop after the last layer."""
        from comfy.patcher_extension import WrappersMP, add_wrapper_with_key

        text = self.host.pack("nodes.host.model.readers.reader").TextRows(self.shape.rows)
        ending = self.capture.EARLY_EXIT

        def report(seen: Any) -> None:
            maps.append(seen.maps(TOKENS, text, keys))

        self.reader.install(options, self.read, report, ending.act)
        kind = WrappersMP.APPLY_MODEL
        add_wrapper_with_key(kind, ending.key, ending.wrapper, options, True)

    def prepare(self, stack: ExitStack, options: dict, checkpoints: bool) -> None:
        """Make a way back possible, as the pack does."""
        model = "nodes.host.model"
        stack.enter_context(self.host.pack(f"{model}.gradients").differentiable([self.model]))
        self.host.pack(f"{model}.repairs").differentiable_options(options)
        if checkpoints:
            blocks = self.reader.recomputable(self.read)
            stack.enter_context(self.host.pack(f"{model}.recomputation").recomputed(blocks))

    def evaluate(self, latent: Tensor, options: dict) -> None:
        """Evaluate the model as the host does, one sample with one conditioning."""
        transformer = dict(options.get("transformer_options", {}))
        transformer |= {"uuids": [ID], "cond_or_uncond": [0]}
        if self.device is META and OVERRIDE not in transformer:
            transformer[OVERRIDE] = counted_attention
        sigma = torch.full((1,), 0.5, device=self.device)
        inputs = {"noise": latent, "device": self.device, "width": 1024, "height": 1024}
        inputs |= self.shape.conditioning(self.device, torch.bfloat16)
        conds = {name: each.cond for name, each in self.model.extra_conds(**inputs).items()}
        with self.unheard():
            self.model.apply_model(latent, sigma, transformer_options=transformer, **conds)

    def unheard(self) -> Any:
        """Let attention that hears no override be counted too."""
        if self.device is not META or self.reader.hears_override:
            return nullcontext()
        calls = self.host.pack("nodes.host.model.attention_calls")
        return calls.replaced_attention(
            self.model.modules(), lambda _: partial(counted_attention, None)
        )

    def latent(self) -> Tensor:
        """Return a latent of one sample."""
        family = self.shape.family
        size = (family.channels, *((1,) if family.frames else ()), *family.size)
        return torch.ones(1, *size, device=self.device, dtype=torch.bfloat16)


def built(shape: TrueShape, device: torch.device) -> Any:
    """Return the host's model, in bf16; on a real device with random weights."""
    import comfy.supported_models

    settings = shape.family.settings()
    config = getattr(comfy.supported_models, shape.family.config)(settings)
    config.set_inference_dtype(torch.bfloat16, None)
    model = config.get_model({}, "", device=device)
    for weight in model.diffusion_model.parameters():
        weight.requires_grad_(False)
        if device is not META:
            weight.normal_(std=0.02)
    return model


def counted_attention(
    _: Any,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: int,
    *rest: Any,
    skip_reshape: bool = False,
    skip_output_reshape: bool = False,
    **options: Any,
) -> Tensor:
    """Attend as a kernel that keeps no full map does; masks are left out."""
    if not skip_reshape:
        q, k, v = (t.flatten(2).unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
    out = torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, None, True)[0]
    return out if skip_output_reshape else out.transpose(1, 2).flatten(2)


def operations(call: Callable[[], Any]) -> float:
    """Return the floating-point operations of a call's matrix products."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def checked(host: Host, shape: TrueShape, cut: dict[str, int]) -> dict[str, float]:
    """Run a gradient pass of a few blocks, and count the same on the meta device."""
    size = (CHECKED_CELLS, CHECKED_CELLS)
    family = replace(shape.family, network=shape.family.network | cut, size=size)
    small = replace(shape, family=family)
    real, counted = Bench(host, small, CPU), Bench(host, small)
    for bench in (real, counted):
        bench.read = bench.reader.layers()[-1:]
    found: dict[str, float] = {"counted": counted.peak(), "real": real.peak()}
    found |= {
        "counted, kept": counted.peak(checkpoints=False),
        "real, kept": real.peak(checkpoints=False),
        "seconds": seconds(real.pull),
        "seconds, kept": seconds(lambda: real.pull(checkpoints=False)),
    }
    return found


def markdown(found: dict[str, dict[str, float]], checks: dict[str, dict[str, float]]) -> str:
    """Return the tables of the page."""
    lines = [MODELS, "|---" * MODELS.count(" | ") + "|---|"]
    lines += [model_line(shape.name, found) for shape in SHAPES if shape.name in found]
    lines += ["", CHECKS, "|---" * CHECKS.count(" | ") + "|---|"]
    lines += [check_line(name, checks[name]) for name in CHECKED if name in checks]
    return "\n".join(lines)


def model_line(name: str, every: dict[str, dict[str, float]]) -> str:
    """Return what one model costs."""
    found = every[name]
    cells = [
        name,
        f"{found['parameters'] / 1e9:.1f} B",
        f"{found['operations'] / 1e12:.0f} TFLOP",
        f"{found['read']:.0%}",
        f"{found['pass'] - found['read']:.2f}",
        f"{found['pass']:.2f}",
        *(f"{found[each] / 2**30:.1f} GiB" for each in ("memory", "text keys", "kept")),
    ]
    return f"| {' | '.join(cells)} |"


def check_line(name: str, found: dict[str, float]) -> str:
    """Return what two blocks of one model hold, as counted and as run."""
    cells = [name]
    for way in ("", ", kept"):
        counted, real = (f"{found[each + way] / 2**20:.1f}" for each in ("counted", "real"))
        cells.append(f"{counted} / {real} MiB, {found['seconds' + way]:.1f} s")
    return f"| {' | '.join(cells)} |"


def write_page(tables: str) -> None:
    """Put the tables into docs/cost.md, between their marks."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{BEGIN}\n{tables}\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Measure, print and write the report."""
    options = arguments()
    found = {"counted": {}, "checks": {}}
    if options.output.exists():
        found = json.loads(options.output.read_text())
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with quiet_host() as host:
        for shape in SHAPES:
            if shape.name in options.family:
                say(shape.name)
                measure(host, shape, found)
                options.output.write_text(json.dumps(rounded(found), indent=2) + "\n")
    tables = markdown(found["counted"], found["checks"])
    say(f"\n{tables}\n\n{options.output}")
    if options.write:
        write_page(tables)


def measure(host: Host, shape: TrueShape, found: dict[str, dict]) -> None:
    """Add a family's figures to those that were found."""
    found["counted"][shape.name] = Bench(host, shape).measure()
    if shape.name in CHECKED:
        found["checks"][shape.name] = checked(host, shape, CHECKED[shape.name])


def arguments() -> argparse.Namespace:
    """Read the command line."""
    names = [shape.name for shape in SHAPES]
    output = ROOT / "output" / "bench" / "transformers.json"
    parser = argparse.ArgumentParser(prog="benchmarks.transformers", description=__doc__)
    parser.add_argument("--family", nargs="+", choices=names, default=names)
    parser.add_argument("--output", type=Path, default=output, help="the JSON file; it is added to")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/cost.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
