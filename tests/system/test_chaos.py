"""The bank keeps its promises while everything around it fails, and is well again afterwards."""

from pathlib import Path

import pytest

from tests import kafka_server, rabbitmq_server
from tests.system.chaos.play import WentWrong, play
from tests.system.chaos.schedule import schedule

SECONDS = 8.0


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("backend", "seed"), [("sqlite", 6), pytest.param("postgres", 7, marks=pytest.mark.postgres)]
)
async def test_a_short_schedule(backend: str, seed: int, tmp_path: Path):
    """Nothing acknowledged is lost, nothing refused stored, views are the fold, money is kept."""
    told: list[str] = []
    try:
        outcome = await play(
            seed, seconds=SECONDS, backend=backend, folder=tmp_path, say=told.append
        )
    except WentWrong:
        pytest.fail("\n".join(told))
    assert outcome.requests > 20


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("bus", "seed"),
    [
        pytest.param("rabbitmq", 1, marks=pytest.mark.rabbitmq),
        pytest.param("kafka", 3, marks=pytest.mark.kafka),
    ],
)
async def test_a_short_schedule_over_a_broker(bus: str, seed: int, tmp_path: Path):
    """So it is when events go over a broker that fails, too; and each event is there, in order."""
    if reason := {"rabbitmq": rabbitmq_server, "kafka": kafka_server}[bus].missing():
        pytest.skip(reason)
    told: list[str] = []
    try:
        outcome = await play(
            seed, seconds=SECONDS, backend="sqlite", bus=bus, folder=tmp_path, say=told.append
        )
    except WentWrong:
        pytest.fail("\n".join(told))
    assert outcome.requests > 20


def test_a_seed_draws_one_schedule():
    """The same seed lets the same fail at the same times, another one something else."""
    first = schedule(1, seconds=30.0, backend="postgres")
    assert first == schedule(1, seconds=30.0, backend="postgres")
    assert first != schedule(2, seconds=30.0, backend="postgres")
    assert all(fault.at_s < 30.0 for fault in first)
    assert schedule(1, seconds=30.0, backend="postgres", bus="kafka") != first
