"""What is counted of transformers without weights is what they hold with weights."""

from __future__ import annotations

import pytest

from benchmarks.transformers import Bench, checked
from benchmarks.true_shapes import SHAPES, TrueShape
from testkit.host import Host
from testkit.live_run import relative
from testkit.tiny_family import WIDTH
from testkit.tiny_transformers import FAMILIES


@pytest.mark.parametrize("name", ["flux", "qwen image"])
def test_bytes_are_counted_as_they_are_held(host: Host, name: str) -> None:
    found = checked(host, TrueShape(name, FAMILIES[name], 9, WIDTH, 64), {})
    for way in ("", ", kept"):
        assert relative(found["counted" + way], found["real" + way]) < 0.03
    assert found["counted"] < found["counted, kept"]


def test_a_pass_costs_what_is_read_and_the_way_back(host: Host) -> None:
    found = Bench(host, TrueShape("z-image", FAMILIES["z-image"], 32, WIDTH)).measure()
    assert 0 < found["read"] < 1 < found["pass"] < 4
    assert found["text keys"] < found["memory"] < found["kept"]


def test_every_shape_is_of_a_family_that_the_host_has(host: Host) -> None:
    import comfy.supported_models

    assert all(hasattr(comfy.supported_models, shape.family.config) for shape in SHAPES)
