"""A branch is a whole stock run: whatever other packs do to its model, and to the other one's."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from testkit.bare_scene import BareScene
from testkit.host import Host, PromptError
from testkit.live_run import inspect, relative
from testkit.scene import Scene
from testkit.stand_ins import NODES, STAND_INS, patched

SAMPLING = {"steps": 4, "sampler_name": "euler_ancestral", "cfg": 4.0}
FROZEN = {"step_scale": 0.0, "release": 0.0, "guidance": 0.0, "prior": 0.0}
PATCHES = [*STAND_INS, *NODES]


def runs(host: Host, scene: Scene, **wanted: Any) -> dict[str, Tensor]:
    """Each run's latent. Random state is as it was before each, as it is in a server's own runs."""
    found = {}
    for name, link in wanted.items():
        torch.manual_seed(3)
        found[name] = host.run(scene, latent=link)["latent"]["samples"]
    return found


@pytest.mark.parametrize("name", PATCHES)
def test_each_branch_is_the_stock_run_of_its_model(fresh: Host, name: str) -> None:
    """Of a model that both branches share, with all that it carries."""
    scene = BareScene(fresh, width=96)
    model = patched(fresh, scene, scene.model, name)
    ours = SAMPLING | {"model": model, "spatial_model": model}
    out = runs(
        fresh,
        scene,
        stock_text=scene.stock(model=model, **SAMPLING)[0],
        stock_spatial=scene.stock(scene.spatial, model, **SAMPLING)[0],
        plain=scene.stock(**SAMPLING)[0],
        text=scene.realcompo({"mode": "fixed", "text_weight": 1.0}, **ours)[0],
        spatial=scene.realcompo({"mode": "fixed", "text_weight": 0.0}, **ours)[0],
        text_only=scene.realcompo({"mode": "text only"}, **ours)[0],
        spatial_only=scene.realcompo({"mode": "spatial only"}, **ours)[0],
    )
    assert not torch.equal(out["plain"], out["stock_text"])
    for side in ("text", "spatial"):
        assert torch.equal(out[f"stock_{side}"], out[f"{side}_only"])
        assert torch.equal(out[f"stock_{side}"], out[side])


@pytest.mark.parametrize("side", ["text", "spatial"])
@pytest.mark.parametrize("name", ["momentum in options", "evaluated again", "drawing", "skipping"])
def test_what_one_branch_carries_is_not_the_others(fresh: Host, name: str, side: str) -> None:
    scene = BareScene(fresh)
    models = {
        "text": scene.model,
        "spatial": scene.model,
        side: patched(fresh, scene, scene.model, name),
    }
    ours = SAMPLING | {"model": models["text"], "spatial_model": models["spatial"]}
    out = runs(
        fresh,
        scene,
        stock_text=scene.stock(model=models["text"], **SAMPLING)[0],
        stock_spatial=scene.stock(scene.spatial, models["spatial"], **SAMPLING)[0],
        text=scene.realcompo({"mode": "fixed", "text_weight": 1.0}, **ours)[0],
        spatial=scene.realcompo({"mode": "fixed", "text_weight": 0.0}, **ours)[0],
    )
    for branch in ("text", "spatial"):
        assert torch.equal(out[f"stock_{branch}"], out[branch])


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("name", [*STAND_INS, "TomePatchModel", "EasyCache", "LazyCache"])
def test_reading_changes_no_patched_picture(fresh: Host, name: str, online: bool) -> None:
    """A balance that is read for but never moved is the fixed one, to rounding."""
    scene = BareScene(fresh)
    model = patched(fresh, scene, scene.model, name)
    ours = SAMPLING | {"model": model, "spatial_model": model}
    settings = {"online": online} | FROZEN
    dynamic = scene.realcompo(settings, **ours)
    torch.manual_seed(3)
    out = fresh.run(scene, latent=dynamic[0], trace=dynamic[1])
    fixed = scene.realcompo({"mode": "fixed", "text_weight": 0.5}, **ours)[0]
    expected = runs(fresh, scene, fixed=fixed)["fixed"]
    assert relative(out["latent"]["samples"], expected) < 1e-3
    assert len(out["trace"].losses()) == 3
    assert all(math.isfinite(losses["text"]) for losses in out["trace"].losses())


def test_a_patch_that_writes_in_place_has_its_gradient(host: Host) -> None:
    """It is that of the same patch without writing in place."""

    def without(model: Any) -> Any:
        def patch(h: Tensor, skip: Tensor, options: dict) -> tuple[Tensor, Tensor]:
            half = h.shape[1] // 2
            scale = 1.1 + 0.1 * h.mean(dim=1, keepdim=True).tanh()
            return torch.cat([h[:, :half] * scale, h[:, half:]], dim=1), skip * 0.9

        clone = model.clone()
        clone.set_model_output_block_patch(patch)
        return clone

    def look(run: Any, latent: Tensor, sigma: Tensor, options: dict) -> Tensor:
        return run.spatial.pull(latent, sigma, run.objective, gradient=True).gradient

    found = []
    for change in (STAND_INS["writing in place"], without):
        host.functions["writing"] = change
        scene = BareScene(host)
        scene.model = scene.apply(scene.model, "writing")
        found.append(inspect(host, scene, look, checkpointing=len(found) == 0))
    assert found[0].abs().max() > 0 and relative(*found) < 1e-5


def test_a_mask_that_only_the_spatial_model_changes_is_refused(host: Host) -> None:
    """The mask is the sampler's; on the text model, or on both, such a function acts."""
    scene = BareScene(host)
    mask = scene.add("SolidMask", value=0.5, width=64, height=64)[0]
    scene.latent = scene.add("SetLatentNoiseMask", samples=scene.latent, mask=mask)[0]
    plain, own = scene.model, patched(host, scene, scene.model, "DifferentialDiffusion")
    ours = scene.realcompo({"mode": "fixed"}, model=plain, spatial_model=own)
    with pytest.raises(PromptError, match="expected a model that leaves the inpainting"):
        host.run(scene, latent=ours[0])
    both = scene.realcompo({"mode": "fixed", "text_weight": 0.0}, model=own, spatial_model=own)
    stock = scene.stock(scene.spatial, own)
    out = host.run(scene, both=both[0], stock=stock[0])
    assert torch.equal(out["both"]["samples"], out["stock"]["samples"])
