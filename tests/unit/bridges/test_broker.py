"""Which broker a URL names; what it says of itself holds no password."""

import aio_pika
import pytest

from headwater.bridges.amqp.broker import Broker, broker_of
from headwater.errors import ConfigurationError, StoreUnavailable
from tests.ports import HeldPort

SECRET = "s3cr3t"  # the test looks for it


def test_a_url_names_a_broker():
    """User, password, virtual host and options are taken from the URL."""
    broker = Broker.parse(f"amqp://eve:{SECRET}%40@mq.example/a%2Fb?heartbeat=7")
    assert (broker.host, broker.port, broker.vhost) == ("mq.example", 5672, "a/b")
    assert (broker.user, broker.password, broker.heartbeat_s) == ("eve", f"{SECRET}@", 7)
    assert not broker.tls
    assert broker.ssl_context() is None
    tls = Broker.parse("amqps://mq.example")
    assert (tls.port, tls.vhost, tls.tls) == (5671, "/", True)
    assert tls.ssl_context().check_hostname


@pytest.mark.parametrize(
    "url",
    [
        f"http://eve:{SECRET}@mq.example",
        f"amqp://eve:{SECRET}@",
        f"amqp://eve:{SECRET}@mq.example:port",
        f"amqp://eve:{SECRET}@mq.example?name=x",
        f"amqp://eve:{SECRET}@mq.example?heartbeat=0",
        f"amqp://eve:{SECRET}@[mq.example",
        f"eve:{SECRET}@mq.example",
    ],
)
def test_a_wrong_url_is_refused_without_its_password(url):
    """What is wrong is told, and no password with it."""
    with pytest.raises(ConfigurationError) as caught:
        Broker.parse(url)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_certificates_that_cannot_be_read(tmp_path):
    """A file that is not there is named."""
    broker = Broker.parse(f"amqps://eve:{SECRET}@mq.example?cafile={tmp_path}/none.pem")
    with pytest.raises(ConfigurationError, match=r"none\.pem") as caught:
        broker.ssl_context()
    assert SECRET not in str(caught.value)


def test_what_the_client_says_is_told_without_the_password():
    """The client may quote where it connects to."""
    broker = Broker.parse(f"amqp://eve:{SECRET}@mq.example")
    error = broker.unavailable(ConnectionError(f"amqp://eve:{SECRET}@mq.example refused"))
    assert SECRET not in str(error)
    assert "mq.example" in str(error)


def test_no_url():
    """Who needs a broker says so where none is set."""
    with pytest.raises(ConfigurationError, match="set amqp"):
        broker_of("", wanted_by="Shipments")


async def test_a_connection_that_fails_is_closed_at_once(monkeypatch):
    """Nothing of it is left to whoever collects it, when perhaps no loop runs."""
    made, make = [], aio_pika.Connection.__init__

    def making(self, *given, **named):
        made.append(self)
        make(self, *given, **named)

    monkeypatch.setattr(aio_pika.Connection, "__init__", making)
    with HeldPort() as port, pytest.raises(StoreUnavailable):
        await Broker.parse(f"amqp://127.0.0.1:{port}/").connect("test")
    assert [one.is_closed for one in made] == [True]
