"""LoRAs on models."""

from __future__ import annotations

from typing import Any

import comfy.sd


def with_lora(model: Any, lora: dict[str, Any], strength: float = 1.0) -> Any:
    """Return the model with a LoRA's weights added; the given one stays as it is."""
    return comfy.sd.load_lora_for_models(model, None, lora, strength, 0.0)[0]
