"""In which order a commit takes segments."""

from headwater.processing.running.committer import _in_order
from headwater.processing.running.segment_groups import SegmentGroup
from headwater.processing.sources.tokens import Token
from headwater.views import Segment


def group(since: int, *indices: int) -> SegmentGroup:
    return SegmentGroup({n: Segment("p", 1, n, 6, "") for n in indices}, Token(since=since))


def test_segments_of_several_lanes_are_taken_by_index() -> None:
    """Whoever takes several segments does so in one order, each with the token of its group."""
    rows = list(_in_order([group(1, 4, 0, 3), group(2, 1), group(3, 5, 2)]))
    assert [[segment.index for segment in segments] for _, segments in rows] == [
        [0], [1], [2], [3, 4], [5],
    ]  # fmt: skip
    assert [token for token, _ in rows] == [Token(since=n).text for n in (1, 2, 3, 1, 3)]
