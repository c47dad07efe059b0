"""The one error: a sentence that names the node once."""

import pytest

from realcompo_core.errors import InputError, naming


def test_the_innermost_node_is_named() -> None:
    with (
        pytest.raises(InputError) as caught,
        naming("RealCompo Guider"),
        naming("RealCompo Layout"),
    ):
        raise InputError("box", "four numbers", "three", "Add one.")
    assert str(caught.value) == "RealCompo Layout, box: expected four numbers, got three. Add one."


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(KeyError, match="box"), naming("RealCompo Layout"):
        raise KeyError("box")
