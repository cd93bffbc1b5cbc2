"""What `Service.commands` is while the service runs: commands go now, or later."""

from datetime import datetime, timedelta
from typing import overload

from headwater.dispatch import CommandBus, CommandResult
from headwater.errors import ConfigurationError, InvalidInput
from headwater.messages import Command
from headwater.processing.scheduling import Schedule, Scheduled
from headwater.views import ViewTransaction


class ServiceCommands:
    """The command bus of a running service, which can send later, too."""

    def __init__(self, bus: CommandBus, schedule: Schedule | None, *, service: str) -> None:
        """Send through a bus; without a schedule nothing is sent later."""
        self._bus = bus
        self._schedule = schedule
        self._service = service

    @property
    def schedule(self) -> Schedule:
        """What is to be sent later.

        Raises:
            ConfigurationError: the service does not say that it sends later.
        """
        if self._schedule is None:
            raise ConfigurationError(
                subject=f"service {self._service!r}",
                reason="sends nothing later: declare it with Service(..., scheduling=True)",
            )
        return self._schedule

    @overload
    async def send(
        self,
        command: Command,
        *,
        idempotency_key: str = "",
        expected_version: int | None = None,
        keep_refusal: bool = False,
    ) -> CommandResult: ...
    @overload
    async def send(
        self,
        command: Command,
        *,
        at: datetime,
        idempotency_key: str = "",
        transaction: ViewTransaction | None = None,
    ) -> Scheduled: ...
    @overload
    async def send(
        self,
        command: Command,
        *,
        after: timedelta,
        idempotency_key: str = "",
        transaction: ViewTransaction | None = None,
    ) -> Scheduled: ...
    async def send(
        self,
        command: Command,
        *,
        at: datetime | None = None,
        after: timedelta | None = None,
        idempotency_key: str = "",
        expected_version: int | None = None,
        keep_refusal: bool = False,
        transaction: ViewTransaction | None = None,
    ) -> CommandResult | Scheduled:
        """Send a command: at once (see `CommandBus.send`), or later.

        What is sent later is stored when this returns, and sent at that time by whichever instance
        is there then, until it is acknowledged, under its own idempotency key: so it is carried
        out once. The answer is a receipt, by which it can be cancelled. What is refused becomes a
        dead letter of ``scheduled-commands``.

        Args:
            command: what to send.
            at: when, with a time zone; what is past is sent at once.
            after: or in how long, by the clock of the view store.
            idempotency_key: see `CommandBus.send`; of two that are sent later under one key, the
                second is the first, as long as that waits.
            expected_version: see `CommandBus.send`; not for later.
            keep_refusal: likewise.
            transaction: that of an event handler of this service: the command is put down with
                all else in it, or not at all.

        Raises:
            InvalidInput: the time is none, or these do not go together.
            ConfigurationError: the service does not say that it sends later.
            IdempotencyKeyReused: another command waits under the key.
            StoreUnavailable: the view store is away.
            HeadwaterError: what `CommandBus.send` raises, for what is sent at once.
        """
        if at is None and after is None:
            if transaction is not None:
                reason = "transaction= is for what is sent later: say at= or after="
                raise InvalidInput(reason=reason)
            return await self._bus.send(
                command,
                idempotency_key=idempotency_key,
                expected_version=expected_version,
                keep_refusal=keep_refusal,
            )
        if expected_version is not None or keep_refusal:
            reason = "expected_version= and keep_refusal= are for what is sent at once"
            raise InvalidInput(reason=reason)
        return await self.schedule.add(
            command,
            at=at,
            after=after,
            idempotency_key=idempotency_key,
            transaction=transaction,
        )


__all__ = ["ServiceCommands"]
