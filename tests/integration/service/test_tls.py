"""Services that talk by https, with an authority of their own."""

from pathlib import Path

import aiohttp
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from headwater._http.tls import client_context, server_context
from headwater.bridges.amqp.broker import Broker
from headwater.client import Request
from headwater.config import ConfigServer
from headwater.discovery import DiscoveryServer
from headwater.errors import ConfigurationError, Unreachable
from headwater.eventbus.rabbitmq.settings import Place
from headwater.service import Service
from headwater.service.runtime import Runtime
from tests.integration.service.shop import AddItem, GetItem, Item, Items


class Files:
    """An authority and a certificate for 127.0.0.1, in files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        authority = trustme.CA()
        self.ca, self.certificate, self.key = (
            str(folder / name) for name in ("ca.pem", "cert.pem", "key.pem")
        )
        issued = authority.issue_cert("127.0.0.1", "localhost")
        authority.cert_pem.write_to_path(self.ca)
        issued.private_key_pem.write_to_path(self.key)
        for number, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(self.certificate, append=bool(number))
        self.settings = {
            "tls_certificate": self.certificate,
            "tls_key": self.key,
            "tls_ca": self.ca,
        }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Return one authority's files."""
    return Files(tmp_path_factory.mktemp("tls") / "one")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Return those of another authority."""
    return Files(tmp_path_factory.mktemp("tls") / "other")


async def test_two_services_by_https(tmp_path: Path, files: Files):
    """Commands and queries of one service reach the other by https, and so do the platform's."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "shop.yaml").write_text("headwater:\n  cache_size: 7\n")
    tls = server_context(files.certificate, files.key)
    async with (
        DiscoveryServer(tls=tls) as discovery,
        ConfigServer(tmp_path / "config", tls=tls) as config,
    ):
        given = {**files.settings, "discovery": (discovery.url,), "config": (config.url,)}
        shop = Service("shop", aggregates=[Item], projections=[Items])
        asking = Service("asking", projections=[])
        async with (
            Runtime(shop, {**given, "data": str(tmp_path / "shop")}) as one,
            Runtime(asking, {**given, "data": str(tmp_path / "asking")}) as other,
        ):
            assert one.url.startswith("https://")
            assert one.settings.cache_size == 7
            (found,) = other.discovery.instances("shop")
            assert found.url == one.url
            result = await other.commands.send(AddItem("i1", "lamp"))
            view = await other.queries.ask(GetItem("i1"), token=result.token)
            assert view is not None
            async with aiohttp.ClientSession() as plain:
                with pytest.raises(aiohttp.ClientError):
                    await plain.get(one.url.replace("https", "http") + "/health/live")


async def test_who_is_not_vouched_for(tmp_path: Path, files: Files, others: Files):
    """A certificate of another authority is not believed, and nothing is sent."""
    given = {**files.settings, "tls_ca": others.ca, "data": str(tmp_path)}
    service = Service("shop", aggregates=[Item], projections=[Items])
    async with Runtime(service, given) as running:
        with pytest.raises(Unreachable, match="certificate verify failed"):
            await running.caller.call(Request("GET", "/health/live", url=running.url))


def test_a_key_with_a_password(tmp_path: Path, files: Files):
    """It is refused with its name; nobody is asked for a password at a terminal."""
    key = serialization.load_pem_private_key(Path(files.key).read_bytes(), None)
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ConfigurationError, match="the key has a password: store it without one"):
        server_context(files.certificate, str(locked))
    for broker in (
        Broker.parse(f"amqps://mq/?certfile={files.certificate}&keyfile={locked}"),
        Place.parse(
            f"rabbitmq-stream://mq/?tls=true&certfile={files.certificate}&keyfile={locked}"
        ),
    ):
        with pytest.raises(ConfigurationError, match="the key has a password"):
            broker.ssl_context()


def test_files_that_are_wrong(tmp_path: Path, files: Files, others: Files):
    """What is wrong with which file is said."""
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for certificate, key, words in (
        (files.certificate, others.key, "KEY_VALUES_MISMATCH"),
        (str(tmp_path / "none.pem"), "", "No such file"),
        (str(empty), files.key, "cannot be used"),
        ("", files.key, "without tls_certificate"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            server_context(certificate, key)
    for ca in (str(tmp_path / "none.pem"), str(empty)):
        with pytest.raises(ConfigurationError, match="tls_ca"):
            client_context(ca)
    assert server_context("", "") is None
    assert client_context("") is None
