"""The composition benchmark's arms: ways to sample a prompt of the toy world, as node graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from demo.judging.prompts import Prompt
from realcompo_core.sampling.regional_attention import RegionalSettings
from realcompo_core.sampling.settings import BalancerSettings
from testkit.graph import Graph

PIXELS = 128
STEPS, CFG = 25, 3.0
SAMPLING = {
    "steps": STEPS,
    "cfg": CFG,
    "sampler_name": "ddim",
    "scheduler": "normal",
    "denoise": 1.0,
}
FLOW = SAMPLING | {"sampler_name": "euler", "scheduler": "simple"}
# What a user gets; the node reads weights as text.
BALANCER = {**asdict(BalancerSettings()), "object_weights": ""}


@dataclass(frozen=True)
class Base:
    """Name the demo's style of a base, the spatial branch that it has, and how it is sampled."""

    style: str
    spatial: str
    sampling: Mapping[str, Any]


BASES = {
    "unet": Base("photo", "control", SAMPLING),
    "transformer": Base("photo (transformer)", "regional", FLOW),
}
SPATIAL = ("control", "gligen", "regional")


class PromptGraph(Graph):
    """Loaders, conditionings and an empty latent for one prompt.

    The spatial branch is one of ``SPATIAL``; a transformer has ``regional`` alone.
    """

    def __init__(
        self,
        prompt: Prompt,
        seed: int,
        batch: int = 1,
        spatial: str = "control",
        base: str = "unet",
    ) -> None:
        super().__init__()
        self.base = BASES[base]
        loaded = self.add("RealCompoDemoModels", style=self.base.style)
        self.model, self.vae = loaded[0], loaded[2]
        self.spatial_model = None
        if spatial == "regional":
            self.spatial_model = self.add(
                "RealCompoRegionalAttention", model=self.model, **asdict(RegionalSettings())
            )[0]
        clip = loaded[1]
        layout = self.add("RealCompoLayout", layout=prompt.layout)[0]
        inputs = {"clip": clip, "text": prompt.text, "layout": layout}
        if spatial == "gligen":
            inputs["gligen"] = loaded[4]
        tied = self.add("RealCompoLayoutConditioning", **inputs)
        self.text, self.spatial = tied[0], tied[1]
        self.negative = self.spatial_negative = self.add("CLIPTextEncode", clip=clip, text="")[0]
        if spatial == "control":
            self._control(loaded[3], layout)
        self.latent = self.add("EmptyLatentImage", width=PIXELS, height=PIXELS, batch_size=batch)[0]
        self.seed = seed

    def _control(self, net: list, layout: list) -> None:
        """Apply a ControlNet that reads painted boxes to the spatial branch."""
        hint = self.add("RealCompoDemoPaintedBoxes", layout=layout, size=PIXELS)[0]
        applied = self.add(
            "ControlNetApplyAdvanced",
            positive=self.spatial,
            negative=self.negative,
            control_net=net,
            image=hint,
            strength=1.0,
            start_percent=0.0,
            end_percent=1.0,
        )
        self.spatial, self.spatial_negative = applied[0], applied[1]

    def sample(self, arm: Arm) -> list:
        """Return the latent that an arm makes."""
        inputs = {**self.base.sampling, "latent_image": self.latent, "seed": self.seed}
        text = {"positive": self.text, "negative": self.negative}
        spatial = {"positive": self.spatial, "negative": self.spatial_negative}
        if arm.stock:
            model, prompts = self.model, text
            if arm.stock == "spatial":
                model, prompts = self.spatial_model or self.model, spatial
            return self.add("KSampler", model=model, **inputs, **prompts)[0]
        both = text | {f"spatial_{name}": link for name, link in spatial.items()}
        models = {"model": self.model, "spatial_model": self.spatial_model}
        balancer = self.balancer(**arm.balancer)
        return self.add("RealCompoKSampler", balancer=balancer, **models, **inputs, **both)[0]

    def picture(self, latent: list) -> list:
        """Return a latent's picture."""
        return self.add("VAEDecode", samples=latent, vae=self.vae)[0]


@dataclass(frozen=True)
class Arm:
    """Hold a name and settings of the balancer.

    Where ``stock`` names a branch, the stock KSampler samples it instead.

    Static arms do not look at attention; names of the others begin with ``dynamic``.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    stock: str = ""

    @property
    def dynamic(self) -> bool:
        """Tell whether attention moves the balance."""
        return self.name.startswith("dynamic")

    @property
    def balancer(self) -> dict[str, Any]:
        """Return everything that the balancer is set to; nothing for a stock sampler."""
        return {} if self.stock else {**BALANCER, **self.settings}


SWITCHES = (0.16, 0.2, 0.24, 0.28, 0.4, 0.6)
FIXED = {"mode": "fixed"}
FROZEN = {"step_scale": 0.0, "release": 0.0, "guidance": 0.0, "online": False}
STATIC = (
    Arm("text only", stock="text"),
    Arm("spatial only", stock="spatial"),
    *(Arm(f"fixed {w}", {**FIXED, "text_weight": w, "warmup": 0.0}) for w in (0.3, 0.5, 0.7)),
    *(Arm(f"switch at {s}", {**FIXED, "text_weight": 1.0, "warmup": s}) for s in SWITCHES),
    *(Arm(f"prior, warm-up {w}", {**FROZEN, "lean": 0.0, "warmup": w}) for w in (0.0, 0.4)),
    Arm("prior with lean, warm-up 0.2", {**FROZEN, "warmup": 0.2}),
)
SWITCHED = {"step_scale": 0.0, "release": 0.0, "prior": 0.0, "lean": 100.0, "limit": 100.0}
# The balance without guidance, at the warm-up that suits it best.
ALONE = {"guidance": 0.0, "warmup": 0.2}
DYNAMIC = (
    *(Arm(f"dynamic paper, warm-up {w}", {"recipe": "paper", "warmup": w}) for w in (0.0, 0.4)),
    Arm("dynamic official", {"recipe": "official", "warmup": 0.4}),
    Arm("dynamic balanced"),
    Arm("dynamic balanced, look-ahead", {"online": False}),
    Arm("dynamic balanced, no guidance", {"guidance": 0.0}),
    *(Arm(f"dynamic guidance, switch at {s}", {**SWITCHED, "warmup": s}) for s in (0.16, 0.2)),
    *(Arm(f"dynamic balance alone, warm-up {w}", {**ALONE, "warmup": w}) for w in (0.0, 0.2, 0.4)),
    Arm("dynamic balance alone, look-ahead", {**ALONE, "online": False}),
    *(Arm(f"dynamic balance alone, every {n}", {**ALONE, "every": n}) for n in (2, 4)),
    Arm("dynamic balance alone, no release", {**ALONE, "release": 0.0}),
)
ARMS = (*STATIC, *DYNAMIC)
FEW = ("text only", "spatial only", "fixed 0.5", "dynamic balanced")
QUICK = tuple(arm for arm in ARMS if arm.name in FEW)
