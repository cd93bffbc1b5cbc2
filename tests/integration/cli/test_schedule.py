"""`headwater schedule`: what is to be sent later, and how to take it back."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from headwater.operations.loading import load_service
from headwater.processing import Schedule, Scheduled
from headwater.service.engines import open_view_store
from tests.integration.cli.conftest import SAMPLE, headwater, one_line_error

DUE = datetime(2090, 1, 2, 3, 4, 5, tzinfo=UTC)
TOML = """\
[system]
name = "sample"
data = "{folder}"
python_path = ["{sample}"]
[services.later]
app = "later:service"
instances = {{ all = 1 }}
[services.later.settings]
views = "sqlite:{folder}/views.db"
[services.counting]
app = "counting:service"
instances = {{ all = 1 }}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    text = TOML.format(folder=tmp_path, sample=SAMPLE)
    (tmp_path / "headwater.toml").write_text(text, encoding="utf-8")
    return tmp_path


def put_down(folder: Path) -> Scheduled:
    async def work() -> Scheduled:
        views = await open_view_store(f"sqlite:{folder}/views.db")
        await views.settle_owner("later")
        schedule = Schedule(views, service="later")
        await schedule.open()
        # its class is that of the service, which others in this process may have loaded, too
        await asyncio.to_thread(load_service, "later:service", python_path=[SAMPLE])
        from later import Ring  # type: ignore[import-not-found]  # of the sample

        receipt = await schedule.add(Ring("b"), at=DUE)
        await views.close()
        return receipt

    return asyncio.run(work())


def test_listed_and_cancelled(folder: Path) -> None:
    """What is to be sent later is listed with its command, and gone when it was cancelled."""
    receipt = put_down(folder)
    listed = headwater("schedule", "list", "--json", cwd=folder)
    assert listed.returncode == 0, listed.stderr
    assert json.loads(listed.stdout) == {
        "service": "later",
        "id": receipt.id,
        "due": "2090-01-02T03:04:05Z",
        "type": "Ring",
        "command": {"bell_id": "b"},
    }
    assert "2090-01-02" in headwater("schedule", "list", cwd=folder).stdout
    done = headwater("schedule", "cancel", receipt.id, cwd=folder)
    assert done.stdout == f"later: {receipt.id} is not sent\n"
    again = one_line_error(headwater("schedule", "cancel", receipt.id, cwd=folder), code=2)
    assert "it was sent, is on its way, or never was" in again
    assert "nothing is to be sent later" in headwater("schedule", "list", cwd=folder).stdout


def test_who_sends_nothing_later(folder: Path) -> None:
    """A service that does not say that it sends later is told how; a declared one stays."""
    plain = headwater("schedule", "list", "--service", "counting", cwd=folder)
    assert "scheduling=True" in one_line_error(plain, code=2)
    put_down(folder)
    declared = headwater("schedule", "cancel", "every:x", cwd=folder)
    assert "remove the declaration" in one_line_error(declared, code=2)
