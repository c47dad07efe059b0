"""ControlNets and model patches of transformers under a gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from testkit.host import Host
from testkit.live_run import Live, relative
from testkit.tiny_controls import CONTROLS, USO_TOKENS, controlled
from testkit.tiny_runs import ROWS, Pack, slopes


@pytest.fixture(scope="module")
def pack(host: Host) -> Pack:
    return Pack(host)


@pytest.mark.parametrize("name", CONTROLS)
def test_gradients_flow_through_a_control(
    pack: Pack, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are right, with and without checkpoints, and others than without the control."""
    family, _ = CONTROLS[name]
    settings = pack.every_layer(family)
    model, control = controlled(name, pack.model(family))

    def gradient(run: Live, latent: Tensor, sigma: Tensor) -> Tensor:
        return run.text.pull(latent, sigma, run.objective, gradient=True).gradient

    def look(run: Live, latent: Tensor, sigma: Tensor) -> list[Tensor]:
        slope, difference = slopes(run, latent, sigma)
        assert slope > 0 and relative(slope, difference) < 1e-2
        checkpointed = gradient(run, latent, sigma)
        monkeypatch.setattr(pack.transformer.Transformer, "checkpoints", False)
        return [checkpointed, gradient(run, latent, sigma)]

    alone = pack.inside(family, gradient, settings=settings)
    found = pack.inside(family, look, settings=settings, model=model, control=control)
    assert relative(*found) < 1e-5 and relative(found[0], alone) > 1e-2


@pytest.mark.parametrize("name", CONTROLS)
def test_a_reading_leaves_a_control_as_it_was(pack: Pack, name: str) -> None:
    """Some patches keep what they made for one block until the next, and a reading stops early."""
    family, _ = CONTROLS[name]
    model, control = controlled(name, pack.model(family))

    def look(run: Live, latent: Tensor, sigma: Tensor) -> list[Tensor]:
        before = run.text.predict(latent, sigma).cond
        run.text.pull(latent.roll(1, -1), sigma, run.objective, gradient=True)
        return [before, run.text.predict(latent, sigma).cond]

    settings = pack.settings(layers=pack.attention.Layers.DOWN)
    before, after = pack.inside(family, look, settings=settings, model=model, control=control)
    assert torch.equal(before, after)


def test_words_are_found_behind_the_tokens_of_a_style(pack: Pack) -> None:
    """USO's tokens stand before the text's: maps are of the words all the same."""

    def look(run: Live, latent: Tensor, sigma: Tensor) -> tuple[Any, Any]:
        import comfy.samplers

        reader, seen, conds = pack.reader(run.text.guider.model_patcher), [], run.text.positive
        options = comfy.model_patcher.create_model_options_clone(run.text.options)
        reader.install(options, reader.layers()[:1], seen.append, None)
        comfy.samplers.calc_cond_batch(run.text.model, [conds], latent, sigma, options)
        text, keys = pack.capture._text_of(conds[0]), pack.attention.Keys.ALL
        return seen[0], seen[0].maps(range(ROWS), text, keys)

    plain, _ = pack.inside("flux", look)
    styled, maps = pack.inside("flux", look, model=controlled("flux uso", pack.model("flux"))[0])
    words = range(USO_TOKENS, USO_TOKENS + ROWS)
    torch.testing.assert_close(plain.k[:, :, :ROWS], styled.k[:, :, words])
    image = styled.q[:, :, words.stop :]
    expected = pack.attention.joint_probabilities(image, styled.k, words)
    torch.testing.assert_close(expected, maps.flatten(2))
