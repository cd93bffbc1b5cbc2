"""URLs of event buses on Kafka: what they name, and what is refused about them."""

import subprocess
import sys

import pytest

from headwater.errors import ConfigurationError
from headwater.eventbus.kafka.settings import OURS, Place, name_of


def test_servers_prefix_and_user() -> None:
    """Servers get the usual port, a user comes in encrypted, and the name has no password."""
    url = "kafka://me%40x:p%2Fw:1@a,b:9093,[::1]/bank.live?cafile=/ca.pem"
    place = Place.parse(url)
    assert (place.events, place.notes) == ("bank.live.events", "bank.live.notes")
    assert place.client == {
        "bootstrap.servers": "a:9092,b:9093,[::1]:9092",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "me@x",
        "sasl.password": "p/w:1",
        "ssl.ca.location": "/ca.pem",
    }
    assert name_of(url) == "kafka://a,b:9093,[::1]/bank.live"
    assert (place.replication, place.min_insync) == (-1, 0)


def test_options() -> None:
    """Safety is said in words of ours, and settings of librdkafka are passed on with a prefix."""
    place = Place.parse(
        "kafka://u:p@h/b?security=SASL_PLAINTEXT&mechanism=SCRAM-SHA-512&certfile=c&keyfile=k"
        "&replication=3&min_insync=2&kafka.compression.type=zstd"
    )
    assert (place.replication, place.min_insync) == (3, 2)
    assert place.client["sasl.mechanism"] == "SCRAM-SHA-512"
    assert place.client["compression.type"] == "zstd"
    assert place.client["ssl.certificate.location"] == "c"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("kafka:///bank", "expected kafka://user:password@host:9092"),
        ("kafka://h h/bank", "expected kafka://user:password@host:9092"),
        ("kafka://h:1,,k/bank", "expected kafka://user:password@host:9092"),
        ("kafka://u:s3cret@h:port/bank", "expected kafka://user:password@host:9092"),
        ("kafka://u:s3cret@h", "the prefix of topics is ''"),
        ("kafka://u:s3cret@h/a/b", "the prefix of topics is 'a/b'"),
        ("kafka://u:s3cret@h/b?security=TLS", "security is 'TLS': expected one of PLAINTEXT, SSL"),
        ("kafka://u:s3cret@h/b?security=SSL", "security is SSL, and a user is given"),
        ("kafka://h/b?security=SASL_SSL", "security is SASL_SSL, and no user is given"),
        ("kafka://h/b?mechanism=PLAIN", "a mechanism is given, and no user"),
        ("kafka://h/b?acks=1", "there is no option 'acks', only security, mechanism, cafile"),
        ("kafka://h/b?kafka.acks=1", "kafka.acks cannot be given"),
        ("kafka://h/b?replication=0", "replication is '0': expected a number from 1"),
        ("kafka://h/b?min_insync=two", "min_insync is 'two': expected a number from 1"),
    ],
)
def test_what_is_refused(url: str, reason: str) -> None:
    """Each fault is named, and nothing secret is."""
    with pytest.raises(ConfigurationError, match="event bus URL") as caught:
        Place.parse(url)
    assert reason in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_no_promise_can_be_given_away() -> None:
    """Whatever the bus sets by itself, so that it keeps its promises, cannot be said in a URL."""
    from headwater.eventbus.kafka import publishing, reading

    assert publishing._GUARANTEES.keys() | reading._GUARANTEES.keys() <= OURS | {
        "check.crcs", "enable.auto.offset.store", "max.poll.interval.ms",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("client", "scheme", "extra"),
    [("confluent_kafka", "kafka", "kafka"), ("rstream", "rabbitmq-stream", "rabbitmq")],
)
def test_without_the_client(client: str, scheme: str, extra: str) -> None:
    """Who names such a bus without its client installed is told what to install."""
    program = (
        f"import sys; sys.modules['{client}'] = None\n"
        "from headwater.cli.app import _missing\n"
        "from headwater.service.engines import EVENT_BUSES\n"
        f"try:\n    EVENT_BUSES.of('{scheme}://h/b')\n"
        "except ImportError as error:\n    print(_missing(error))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert f"run `pip install headwater[{extra}]`" in done.stdout, done.stderr
