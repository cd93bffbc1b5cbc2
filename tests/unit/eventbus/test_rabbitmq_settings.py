"""What the URL of a bus on RabbitMQ says."""

import pytest

from headwater.errors import ConfigurationError
from headwater.eventbus.rabbitmq import ENGINE
from headwater.eventbus.rabbitmq.publishing import publisher_name
from headwater.eventbus.rabbitmq.settings import Place
from headwater.service.engines import EVENT_BUSES


def test_all_of_it() -> None:
    """Host, port, user, virtual host, name and TLS; what is encoded is decoded."""
    place = Place.parse(
        "rabbitmq-stream://led%40ger:s3cr%2Fet@mq:6000/team%2Fa?name=bank&tls=true&cafile=/ca.pem"
    )
    assert (place.host, place.port, place.user, place.password) == (
        "mq", 6000, "led@ger", "s3cr/et",
    )  # fmt: skip
    assert (place.vhost, place.bus, place.tls, place.cafile) == ("team/a", "bank", True, "/ca.pem")
    assert (place.stream(3), place.notes) == ("bank-3", "bank-notes")


def test_what_is_left_out() -> None:
    """A host is enough."""
    place = Place.parse("rabbitmq-stream://mq")
    assert (place.port, place.vhost, place.bus, place.user) == (5552, "/", "headwater", "guest")
    assert Place.parse("rabbitmq-stream://mq?tls=true").port == 5551


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("rabbitmq-stream:", "expected rabbitmq-stream://user:password@host"),
        (
            "rabbitmq-stream://u:s3cret@mq?nmae=x",
            r"unknown options \['nmae'\]: there are name, tls",
        ),
        ("rabbitmq-stream://u:s3cret@mq?name=a/b", "name 'a/b' is not plain"),
        ("rabbitmq-stream://u:s3cret@mq?tls=yes", "tls is 'yes', expected true or false"),
        ("rabbitmq-stream://u:s3cret@mq:x", "the port is wrong"),
    ],
)
def test_what_is_wrong(url: str, reason: str) -> None:
    """It is said what, and nothing of the password."""
    with pytest.raises(ConfigurationError, match=reason) as caught:
        Place.parse(url)
    assert "s3cret" not in str(caught.value)


def test_names_have_no_password() -> None:
    """What messages call a bus leaves user and password out."""
    url = "rabbitmq-stream://ledger:s3cret@mq/team?name=bank"
    assert EVENT_BUSES.of(url) is ENGINE
    assert EVENT_BUSES.name_of(url) == "rabbitmq-stream://mq:5552/team?name=bank"


def test_publishers_have_a_name_each() -> None:
    """Also those of long names, of which only so many bytes are possible."""
    long = ["ü" * 200 + end for end in ("a", "b")]
    names = [publisher_name(source, "e1") for source in ("accounts", "stock", *long)]
    assert len(set(names)) == 4
    assert max(len(name.encode()) for name in names) <= 255
    assert publisher_name("accounts", "e1") != publisher_name("accounts", "e2")
