"""The graph that host tests and benchmarks share: two branches and their samplers."""

from __future__ import annotations

from typing import Any

from .graph import Graph, Link, Links
from .random_models import CHECKPOINT, CONTROLNET, GLIGEN, LORA, SD15, SD21, SDXL, UNET_FILE, Family

__all__ = ["CHECKPOINT", "CONTROLNET", "GLIGEN", "LORA", "UNET_FILE", "VARIANTS", "Scene"]

PROMPT = "a red cube and a blue ball"
LAYOUT = "a red cube: 0.05 0.30 0.45 0.90\na blue ball: 0.55 0.30 0.95 0.90"
SAMPLING = {
    "seed": 7,
    "steps": 3,
    "cfg": 7.5,
    "sampler_name": "euler",
    "scheduler": "normal",
    "denoise": 1.0,
}
BALANCER = {"warmup": 0.0, "lean": 0.0, "release": 0.0}
# Checkpoints, what their network predicts (none: as the host detects it) and whether that ends at
# zero SNR.
VARIANTS: dict[str, tuple[Family, str | None, bool]] = {
    "sd1": (SD15, None, False),
    "sd2 v": (SD21, "v_prediction", False),
    "sdxl": (SDXL, None, False),
    "zero snr": (SD15, "v_prediction", True),
    "lcm": (SD15, "lcm", False),
}


class Scene(Graph):
    """A graph with the usual loaders, conditionings and an empty latent, each by name."""

    def __init__(
        self,
        *,
        width: int = 128,
        height: int = 128,
        batch: int = 1,
        gligen: bool = True,
        layout: str = LAYOUT,
        prompt: str = PROMPT,
        family: Family = SD15,
    ) -> None:
        super().__init__()
        loaded = self.add("CheckpointLoaderSimple", ckpt_name=family.checkpoint)
        boxes = self.add("GLIGENLoader", gligen_name=family.gligen)[0] if gligen else None
        self.model, self.clip, self.vae = loaded[0], loaded[1], loaded[2]
        self.spatial_model: Link | None = None  # RealCompo's own default: the text branch's
        self.layout = self.add("RealCompoLayout", layout=layout)[0]
        conditioning = self.tied(prompt, gligen=boxes)
        self.text, self.spatial, self.tokens = conditioning[0], conditioning[1], conditioning[2]
        self.negative = self.add("CLIPTextEncode", clip=self.clip, text="blurry")[0]
        self.latent = self.add("EmptyLatentImage", width=width, height=height, batch_size=batch)[0]

    @classmethod
    def of(cls, variant: str, **options: Any) -> Scene:
        """A small scene of a kind of model.

        Its branches differ in their prompt: GLIGEN is for SD1.x alone.
        """
        family, sampling, zsnr = VARIANTS[variant]
        small: dict[str, Any] = {"width": 64, "height": 64}
        scene = cls(**small | options, gligen=False, family=family)
        if sampling:
            scene.model = scene.predicting(sampling, zsnr)
        scene.spatial = scene.tied(f"drawing of {PROMPT}")[1]
        return scene

    def tied(self, prompt: str, gligen: Link | None = None) -> Links:
        """A prompt's text and spatial conditionings, tied to the layout."""
        return self.add(
            "RealCompoLayoutConditioning",
            clip=self.clip,
            text=prompt,
            layout=self.layout,
            gligen=gligen,
        )

    def predicting(self, sampling: str, zsnr: bool = False) -> Link:
        """The model with another kind of prediction."""
        return self.add("ModelSamplingDiscrete", model=self.model, sampling=sampling, zsnr=zsnr)[0]

    def stock(
        self, positive: Link | None = None, model: Link | None = None, **sampling: Any
    ) -> Links:
        """The stock KSampler, by default on the text conditioning."""
        inputs = SAMPLING | {"latent_image": self.latent, "negative": self.negative} | sampling
        return self.add(
            "KSampler", model=model or self.model, positive=positive or self.text, **inputs
        )

    def balancer(self, look_or_placement: float = 0.0, **settings: Any) -> Link:
        """Add a balancer that does not hand over by itself, unless these settings say so."""
        return super().balancer(look_or_placement, **BALANCER | settings)

    def realcompo(self, settings: dict | None = None, **inputs: Any) -> Links:
        """RealCompoKSampler on both conditionings, with a balancer of these settings."""
        defaults = SAMPLING | {
            "latent_image": self.latent,
            "model": self.model,
            "positive": self.text,
            "negative": self.negative,
            "spatial_positive": self.spatial,
            "spatial_model": self.spatial_model,
        }
        return self.add(
            "RealCompoKSampler", balancer=self.balancer(**settings or {}), **defaults | inputs
        )

    def apply(self, value: Link, function: str) -> Link:
        """What a test's registered function makes of a value."""
        return self.add("TestApply", value=value, function=function)[0]
