"""Labels stand apart, on the canvas, near their regions."""

from hypothesis import given
from hypothesis import strategies as st

from realcompo_core.drawing.labels import Rect, overlap, place

RECTS = st.tuples(
    st.integers(0, 400), st.integers(0, 400), st.integers(20, 100), st.integers(20, 100)
).map(lambda r: (r[0], r[1], r[0] + r[2], r[1] + r[3]))


@given(st.lists(RECTS, min_size=12, max_size=12))
def test_twelve_labels_of_a_usual_size_never_overlap(regions: list[Rect]) -> None:
    placed = place(regions, [(16, 90)] * 12, (512, 512))
    assert all(
        top >= 0 and left >= 0 and bottom <= 512 and right <= 512
        for top, left, bottom, right in placed
    )
    assert sum(overlap(one, other) for i, one in enumerate(placed) for other in placed[:i]) == 0


def test_the_first_label_stands_at_the_top_left_of_its_region() -> None:
    assert place([(10, 20, 60, 120)], [(16, 40)], (100, 200)) == [(10, 20, 26, 60)]


def test_labels_of_one_region_move_aside() -> None:
    placed = place([(0, 0, 100, 100)] * 4, [(16, 40)] * 4, (100, 100))
    assert [rect[:2] for rect in placed] == [(0, 0), (0, 60), (84, 0), (84, 60)]


def test_a_label_wider_than_the_canvas_is_cut_to_it() -> None:
    assert place([(0, 0, 8, 8)], [(16, 400)], (64, 32)) == [(0, 0, 16, 32)]
