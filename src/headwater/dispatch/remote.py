"""The buses across the network: the same call, carried to the service that handles the message."""

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import msgspec

from headwater.client import HttpCaller, Reply, Request
from headwater.client.answers import error_of
from headwater.discovery import Discovery, Instance
from headwater.dispatch.api import CommandResult
from headwater.dispatch.http import HttpForm
from headwater.dispatch.local import LocalCommandBus, LocalQueryBus
from headwater.errors import ConfigurationError, NotKnownYet, RemoteError, UnknownMessage
from headwater.messages import Command, ConsistencyToken, Query, new_id
from headwater.messages.headers import (
    CONSISTENCY_TOKEN,
    IDEMPOTENCY_KEY,
    IF_MATCH,
    KEEP_REFUSAL,
    to_header,
)
from headwater.messages.idempotency import check_key

R = TypeVar("R")

_decode_result = msgspec.json.Decoder(CommandResult).decode


class MessageDirectory:
    """Says which service handles a message, from the routes that instances registered."""

    def __init__(self, discovery: Discovery, kind: Literal["command", "query"] = "command") -> None:
        """Follow a discovery's cache; a command and a query may have the same name."""
        self._discovery = discovery
        self._kind = kind
        self._known: Mapping[str, tuple[Instance, ...]] | None = None
        self._services: dict[str, frozenset[str]] = {}

    def service_of(self, name: str) -> str:
        """Return the service that handles the message of this wire name.

        Raises:
            UnknownMessage: no registered instance, of any status, declares it.
            NotKnownYet: likewise, but the registry has not heard from everyone, or is away.
            ConfigurationError: several services do, and nobody can tell which one is meant.
        """
        services = self._discovery.services()
        if services is not self._known:
            self._known = services
            current: dict[str, set[str]] = {}
            for service, instances in services.items():
                for instance in instances:
                    for route in instance.routes:
                        if route.message and route.kind == self._kind:
                            current.setdefault(route.message, set()).add(service)
            # A service whose last instance is just restarting is still the one to ask.
            self._services.update({name: frozenset(found) for name, found in current.items()})
        found = self._services.get(name)
        if found is None:
            standing = self._discovery.standing()
            if not standing.complete:
                left_s = max(standing.settling_s, 1.0)
                raise NotKnownYet(what=f"who handles {name!r}", retry_after_s=left_s)
            raise UnknownMessage(name=name)
        if len(found) > 1:
            owners = " and ".join(map(repr, sorted(found)))
            raise ConfigurationError(
                subject=f"{self._kind} {name!r}",
                reason=f"is handled by services {owners}, which mean different things by it: give "
                'one of the two another name, @wire("AnotherName")',
            )
        (service,) = found
        return service


class RemoteCommandBus:
    """Handles commands here when this process has the handler, else sends them to who has.

    Across the network every command carries an idempotency key, its own if the caller gave none,
    so that a lost answer can be retried safely. All commands of one target go to the same
    instance while it lives, which spares conflicts.
    """

    def __init__(
        self,
        caller: HttpCaller,
        discovery: Discovery,
        *,
        local: LocalCommandBus | None = None,
        timeout_s: float = 10.0,
        retries: int = 3,
    ) -> None:
        """Send through a caller; ``local`` goes first."""
        self._caller = caller
        self._directory = MessageDirectory(discovery)
        self._local = local
        self._timeout_s = timeout_s
        self._retries = retries
        self._forms: dict[type, HttpForm] = {}

    async def send(
        self,
        command: Command,
        *,
        idempotency_key: str = "",
        expected_version: int | None = None,
        keep_refusal: bool = False,
    ) -> CommandResult:
        """Send a command (see `CommandBus.send`)."""
        if self._local is not None and self._local.handles(type(command)):
            return await self._local.send(
                command,
                idempotency_key=idempotency_key,
                expected_version=expected_version,
                keep_refusal=keep_refusal,
            )
        if idempotency_key:
            check_key(idempotency_key)
        form = _form(self._forms, type(command))
        http = form.request(command)
        service = self._directory.service_of(form.kind.name)
        reply = await self._caller.call(
            Request(
                service=service,
                method=http.method,
                path=http.path,
                headers=_headers(idempotency_key, expected_version, keep_refusal=keep_refusal),
                body=http.body,
                timeout_s=self._timeout_s,
                routing_key=form.kind.target_of(command),
                role="command",
                idempotent=True,
                retries=self._retries,
            )
        )
        if not 200 <= reply.status < 300:
            raise error_of(reply, service)
        try:
            return _decode_result(reply.body)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise _unreadable(reply, service, error) from error


class RemoteQueryBus:
    """Answers queries here when this process has the handler, else asks who has."""

    def __init__(
        self,
        caller: HttpCaller,
        discovery: Discovery,
        *,
        local: LocalQueryBus | None = None,
        timeout_s: float = 10.0,
        retries: int = 3,
    ) -> None:
        """Ask through a caller; ``local`` goes first."""
        self._caller = caller
        self._directory = MessageDirectory(discovery, "query")
        self._local = local
        self._timeout_s = timeout_s
        self._retries = retries
        self._forms: dict[type, HttpForm] = {}

    async def ask(self, query: Query[R], *, token: ConsistencyToken | str | None = None) -> R:
        """Ask (see `QueryBus.ask`)."""
        if self._local is not None and self._local.handles(type(query)):
            return await self._local.ask(query, token=token)
        form = _form(self._forms, type(query))
        http = form.request(query)
        service = self._directory.service_of(form.kind.name)
        text = token.encode() if isinstance(token, ConsistencyToken) else token
        reply = await self._caller.call(
            Request(
                service=service,
                method=http.method,
                path=http.path,
                headers={CONSISTENCY_TOKEN: text} if text else {},
                body=b"",
                timeout_s=self._timeout_s,
                role="query",
                idempotent=True,
                retries=self._retries,
            )
        )
        if not 200 <= reply.status < 300:
            raise error_of(reply, service)
        try:
            answer: R = msgspec.json.decode(reply.body, type=form.kind.answer)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise _unreadable(reply, service, error) from error
        return answer


def _headers(
    idempotency_key: str, expected_version: int | None, *, keep_refusal: bool
) -> dict[str, str]:
    headers = {
        "content-type": "application/json",
        IDEMPOTENCY_KEY: to_header(idempotency_key) or new_id(),
    }
    if expected_version is not None:
        headers[IF_MATCH] = f'"{expected_version}"'
    if keep_refusal:
        headers[KEEP_REFUSAL] = "true"
    return headers


def _form(forms: dict[type, HttpForm], cls: Any) -> HttpForm:
    form = forms.get(cls)
    if form is None:
        form = forms[cls] = HttpForm(cls)
    return form


def _unreadable(reply: Reply, service: str, error: Exception) -> RemoteError:
    """Return what an answer of another shape is: a fault of the other side, never a refusal."""
    detail = f"an unreadable answer ({error}): {reply.body[:100].decode(errors='replace')}"
    return RemoteError(
        source=f"{service} ({reply.instance})",
        remote_status=reply.status,
        detail=detail,
        outcome=reply.outcome or "unknown",
    )
