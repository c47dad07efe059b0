"""Finetuned weights in ComfyUI's folders: written to the output folder, read back as LoRAs.

Safetensors only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import folder_paths
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ....realcompo_core.errors import InputError

NONE = "none"
STEP = "realcompo_step"
# Not a model's ending: the file beside the weights is in no list of LoRAs.
OPTIMIZER_SUFFIX = ".optimizer"


@dataclass(frozen=True)
class Checkpoint:
    """A run as it was saved. ``optimizer`` is empty for weights that core's SaveLoRA wrote."""

    step: int
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]


class Folder:
    """Where checkpoints go: a name under the output folder.

    Raises :class:`InputError` for a name that leads out of it.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._place()

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write the weights as core's SaveLoRA does, with their step, and the optimizer's state."""
        folder, name, counter = self._place()
        path = folder / f"{name}_{checkpoint.step}_steps_{counter:05}_.safetensors"
        save_file(dict(checkpoint.weights), path, {STEP: str(checkpoint.step)})
        save_file(dict(checkpoint.optimizer), f"{path}{OPTIMIZER_SUFFIX}")
        return path

    def _place(self) -> tuple[Path, str, int]:
        output = folder_paths.get_output_directory()
        try:
            folder, name, counter, _, _ = folder_paths.get_save_image_path(self.prefix, output)
        except Exception as error:  # the host's own class for a path outside of its folder
            expected, got = "a name inside ComfyUI's output folder", repr(self.prefix)
            fix = "Use a plain name such as loras/SepEn."
            raise InputError("prefix", expected, got, fix) from error
        return Path(folder), name, counter


def saved_files() -> list[str]:
    """Return what can be resumed: NONE, and the safetensors among the LoRAs."""
    names = folder_paths.get_filename_list("loras")
    return [NONE, *(name for name in names if name.endswith(".safetensors"))]


def read(name: str) -> Checkpoint:
    """Read a saved run; one of core's SaveLoRA counts as step 0.

    Raises :class:`InputError` for a file that is none.
    """
    path = folder_paths.get_full_path("loras", name) if name in saved_files() else None
    if path is None:
        fix = "Choose a file of the list; refresh the page if it is new."
        raise InputError("resume", "a safetensors file of ComfyUI's loras folders", repr(name), fix)
    try:
        return _checkpoint(path)
    except (SafetensorError, ValueError) as error:
        expected, got = "weights that SepEn Train saved", f"{name!r}: {error}"
        raise InputError("resume", expected, got, "Choose another.") from error


def _checkpoint(path: str) -> Checkpoint:
    weights, metadata = _tensors(path)
    beside = f"{path}{OPTIMIZER_SUFFIX}"
    optimizer = _tensors(beside)[0] if Path(beside).exists() else {}
    return Checkpoint(int(metadata.get(STEP, 0)), weights, optimizer)


def _tensors(path: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        names = file.keys()
        return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
