"""What is to be sent later: what there is, and how to take it back."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from headwater.errors import ConfigurationError
from headwater.operations.loading import load_service
from headwater.operations.stores import chosen_services, exists, require, settings_of
from headwater.operations.system import load_system
from headwater.processing import Schedule, Scheduled
from headwater.service.engines import VIEW_STORES, check_owner, open_view_store


class Found(msgspec.Struct, frozen=True):
    """Something that a service is to send later."""

    service: str
    scheduled: Scheduled


@contextlib.asynccontextmanager
async def open_schedules(file: Path, service: str) -> AsyncIterator[dict[str, Schedule]]:
    """Open what is to be sent later by a service, or by all that send later.

    Raises:
        ConfigurationError: the service is unknown or sends nothing later, there is nothing stored
            yet, or what is stored belongs to another service.
        StoreUnavailable, StoreCorrupt, SchemaTooNew: a database cannot be opened.
    """
    system = load_system(file)
    async with contextlib.AsyncExitStack() as resources:
        opened: dict[str, Schedule] = {}
        for name in chosen_services(system, service):
            loaded = load_service(system.services[name].app, python_path=system.python_path)
            url = settings_of(system, name).url("views")
            if not loaded.scheduling:
                if service:
                    reason = "sends nothing later: declare it with Service(..., scheduling=True)"
                    raise ConfigurationError(subject=f"service {name!r}", reason=reason)
                continue
            if not service and not exists(url, VIEW_STORES):
                continue
            require(url, subject=f"view store of {name}", engines=VIEW_STORES)
            views = await open_view_store(url)
            resources.push_async_callback(views.close)
            check_owner(await views.owner(), loaded.name, name=VIEW_STORES.name_of(url))
            opened[name] = Schedule(views, service=loaded.name)
            await opened[name].open()
        yield opened


async def waiting(opened: dict[str, Schedule]) -> AsyncIterator[Found]:
    """Yield what is to be sent later, by service, the next first.

    Raises:
        StoreUnavailable: a store is away.
    """
    for name, schedule in opened.items():
        async for one in schedule.waiting():
            yield Found(name, one)


async def cancel(opened: dict[str, Schedule], id: str) -> str:
    """Take a command back, so that it is not sent; return whose it was.

    Raises:
        ConfigurationError: it is not there (any more).
        InvalidInput: it is declared, and would come again.
        StoreUnavailable: a store is away.
    """
    for name, schedule in opened.items():
        if await schedule.cancel(id):
            return name
    raise ConfigurationError(
        subject=f"scheduled command {id!r}",
        reason="is not waiting: it was sent, is on its way, or never was; "
        "`headwater schedule list` shows what waits",
    )
