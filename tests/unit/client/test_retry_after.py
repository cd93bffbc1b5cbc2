"""When an answer asks to be asked again."""

import pytest

from headwater.client.retries import retry_after_s

DATE = "Mon, 30 Nov 1999 12:00:00 GMT"  # of a machine whose clock is wrong


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "-7"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Mon, 30 Nov 1999 12:00:03 GMT", "Date": DATE}, 3.0),
        ({"Retry-After": "Mon, 30 Nov 1999 11:00:00 GMT", "Date": DATE}, 0.0),
        ({"Retry-After": "Mon, 30 Nov 1999 12:00:03 GMT"}, None),
        ({"Retry-After": "Mon, 30 Nov 1999 12:00:03 GMT", "Date": "now"}, None),
        ({"Retry-After": "Mon, 30 Nov 1999 12:00:03 -0000", "Date": DATE}, None),
    ],
)
def test_retry_after(headers: dict[str, str], expected: float | None) -> None:
    """A date counts from the answer's own date, whatever our clock says."""
    assert retry_after_s(headers) == expected
