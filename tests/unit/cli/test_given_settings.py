"""Settings from flags and environment, and times as people write them."""

import pytest

from headwater.cli.given_settings import given_settings, pairs
from headwater.cli.times import parse_time, show_time
from headwater.errors import ConfigurationError

KNOWN = ("host", "port", "discovery", "segments")


def test_flags_come_before_the_environment():
    """A flag replaces the environment variable of the same setting."""
    values = given_settings(
        KNOWN, {"port": 1}, {"HEADWATER_PORT": "2", "HEADWATER_HOST": "h", "PATH": "x"}
    )
    assert values == {"port": 1, "host": "h"}


def test_lists_are_split_at_commas():
    """Several URLs are separated by commas."""
    values = given_settings(KNOWN, {"discovery": "http://a, http://b"}, {}, lists=("discovery",))
    assert values["discovery"] == ["http://a", "http://b"]


def test_an_unknown_setting_names_the_nearest():
    """A flag that is no setting is refused with the nearest known name."""
    with pytest.raises(ConfigurationError, match="'segmants': did you mean 'segments'"):
        given_settings(KNOWN, {"segmants": 1}, {})


def test_an_unknown_variable_does_not_stop_a_container():
    """Orchestrators inject variables of their own; those that are no setting are ignored."""
    assert given_settings(KNOWN, {}, {"HEADWATER_SERVICE_HOST": "10.0.0.1"}) == {}


def test_pairs_need_an_equals_sign():
    """--set takes key=value; the value may contain further equals signs; dashes are fine."""
    assert pairs(["log-level=debug", "a=b=c"]) == {"log_level": "debug", "a": "b=c"}
    with pytest.raises(ConfigurationError, match="expected key=value"):
        pairs(["port"])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-03-01T12:00:00Z", "2026-03-01T12:00:00.000000Z"),
        ("2026-03-01T12:00:00.123456+02:00", "2026-03-01T10:00:00.123456Z"),
        ("2026-03-01 12:00", "2026-03-01T12:00:00.000000Z"),
        ("2026-03-01", "2026-03-01T00:00:00.000000Z"),
    ],
)
def test_times_are_read_to_the_microsecond(text, shown):
    """ISO 8601 with any zone; without one it is UTC."""
    assert show_time(parse_time(text, option="--at-time")) == shown


def test_a_wrong_time_shows_an_example():
    """What is no time is refused with an example of one."""
    with pytest.raises(ConfigurationError, match="--at-time noon: expected an ISO 8601 time"):
        parse_time("noon", option="--at-time")
