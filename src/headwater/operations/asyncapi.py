"""The AsyncAPI 3.0 document of services: what they say on the event bus, and what they follow."""

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from headwater.errors import ConfigurationError
from headwater.messages import Event, message_type
from headwater.modelling.handler_tables import handler_table
from headwater.operations.event_schemas import event_schemas, own_events
from headwater.service.event_names import saga_types
from headwater.service.service import Service

STRUCTURED = "application/cloudevents+json"
_REF = "#/components/schemas/{name}"
_PORTS = {"kafka": 9092, "rabbitmq-stream": 5552}
_ANY = "any"  # who sends an event whose class names no service

_CLOUDEVENT: dict[str, Any] = {
    "type": "object",
    "description": "A CloudEvents 1.0 document in structured mode",
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "minLength": 1, "description": "with source, the event's own"},
        "source": {"type": "string", "minLength": 1, "description": "whose event it is"},
        "type": {"type": "string", "minLength": 1},
        "time": {"type": "string", "format": "date-time"},
        "subject": {"type": "string", "description": "the stream, whose events are in order"},
        "datacontenttype": {"type": "string"},
        "sequence": {"type": "string", "description": "the position in the source, 20 digits"},
        "partitionkey": {"type": "string", "description": "the stream"},
        "traceparent": {"type": "string", "description": "W3C trace context"},
        "epoch": {"type": "string", "description": "changes when a source begins anew"},
        "version": {"type": "integer", "minimum": 0, "description": "in the stream"},
        "typeversion": {"type": "integer", "minimum": 1, "description": "of the type"},
        "tags": {"type": "string", "description": "a JSON list"},
        "metadata": {"type": "string", "description": "a JSON object"},
        "confirmed": {"type": "string", "description": "up to where the source is on the bus"},
    },
    "required": ["specversion", "id", "source", "type"],
}


def asyncapi_document(
    services: Sequence[Service], *, title: str, version: str = "", bus: str = ""
) -> dict[str, Any]:
    """Return the document of services that share an event bus.

    Args:
        services: what sends and receives.
        title: of the document.
        version: of the document.
        bus: the URL of the bus; nothing of its credentials or options gets into the document.

    Raises:
        ConfigurationError: the URL names no host.
        DeclarationError: something about the events is declared wrongly.

    Source: AsyncAPI Specification 3.0.0; payloads are JSON Schema, as in the OpenAPI document.
    """
    sent = {service.name: own_events(service) for service in services}
    heard = {service.name: list(_heard(service)) for service in services}
    classes = [*(e for own in sent.values() for e in own)]
    classes += [e for events in heard.values() for e in events]
    events = list(dict.fromkeys(classes))
    schemas, components = event_schemas(events, template=_REF)
    payloads = dict(zip(events, schemas, strict=True))
    messages: dict[str, dict[str, Any]] = {}
    operations: dict[str, dict[str, Any]] = {}
    for name, own in sent.items():
        keys = [_add(messages, name, event, payloads[event]) for event in own]
        _operate(operations, f"{name}.publishes", "send", keys)
    for name, others in heard.items():
        keys = []
        for event in others:
            senders = [owner for owner, own in sent.items() if event in own]
            senders = senders or [message_type(event).source or _ANY]
            keys += [_add(messages, sender, event, payloads[event]) for sender in senders]
        _operate(operations, f"{name}.follows", "receive", keys)
    servers, address = _servers(bus)
    channel: dict[str, Any] = {
        "address": address,
        "description": "The event bus: all services publish here, in order per stream.",
        "messages": {key: {"$ref": f"#/components/messages/{key}"} for key in messages},
    }
    if address and "{partition}" in address:
        channel["parameters"] = {"partition": {"description": "from 0"}}
    if servers:
        channel["servers"] = [{"$ref": f"#/servers/{name}"} for name in servers]
    return {
        "asyncapi": "3.0.0",
        "info": {"title": title, "version": version or "0"},
        "defaultContentType": STRUCTURED,
        **({"servers": servers} if servers else {}),
        "channels": {"events": channel},
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": {**components, "CloudEvent": _CLOUDEVENT},
        },
    }


def _heard(service: Service) -> Iterable[type[Event]]:
    """Return the events that a service follows on the bus."""
    found: list[type[Event]] = []
    for handlers in (*service.projections, *service.handlers):
        if handlers.source == "bus":
            found += handler_table(type(handlers)).events
    for saga in saga_types(service):
        if saga.cls.saga_source == "bus":
            found += saga.events
    return dict.fromkeys(found)


def _add(
    messages: dict[str, dict[str, Any]], source: str, event: type[Event], data: dict[str, Any]
) -> str:
    """Add the message of an event of a source; return its key."""
    kind = message_type(event)
    key = f"{source}.{kind.name}"
    if key not in messages:
        of_source = {} if source == _ANY else {"source": _source(source)}
        own = {**of_source, "type": {"enum": list(kind.names)}, "data": data}
        if kind.version > 1:
            own["typeversion"] = {"type": "integer", "maximum": kind.version}
        summary = (event.__doc__ or kind.name).strip().splitlines()[0]
        messages[key] = {
            "name": kind.name,
            "title": kind.name,
            "summary": summary,
            "contentType": STRUCTURED,
            "payload": {
                "allOf": [
                    {"$ref": _REF.format(name="CloudEvent")},
                    {"type": "object", "properties": own, "required": ["data"]},
                ]
            },
        }
    return key


def _source(name: str) -> dict[str, Any]:
    """Return the schema of the sources of a service: the logs of its shards are numbered."""
    return {"type": "string", "pattern": f"^{name}(/[0-9]+)?$"}


def _operate(
    operations: dict[str, dict[str, Any]], name: str, action: str, keys: Sequence[str]
) -> None:
    if keys:
        operations[name] = {
            "action": action,
            "channel": {"$ref": "#/channels/events"},
            "messages": [
                {"$ref": f"#/channels/events/messages/{key}"} for key in dict.fromkeys(keys)
            ],
        }


def _servers(bus: str) -> tuple[dict[str, Any], str | None]:
    """Return the servers of a bus, and the address of its events; none within one machine."""
    scheme = bus.partition(":")[0]
    if scheme not in _PORTS:
        return {}, None
    parts = urlsplit(bus)
    hosts = parts.netloc.rpartition("@")[2]
    if not hosts:
        reason = f"names no host: {scheme}://host:{_PORTS[scheme]}/prefix"
        raise ConfigurationError(subject="the URL of the bus", reason=reason)
    options = dict(parse_qsl(parts.query))
    servers: dict[str, Any] = {}
    for number, host in enumerate(hosts.split(","), 1):
        place = host if ":" in host.rpartition("]")[2] else f"{host}:{_PORTS[scheme]}"
        servers[f"bus{number}"] = {"host": place, "protocol": scheme}
    if scheme == "kafka":
        usual = "SASL_SSL" if "@" in parts.netloc else ""
        if options.get("security", usual).endswith("SSL"):
            for server in servers.values():
                server["protocol"] = "kafka-secure"
        return servers, f"{parts.path.strip('/')}.events"
    return servers, f"{options.get('name', 'headwater')}-{{partition}}"


__all__ = ["STRUCTURED", "asyncapi_document"]
