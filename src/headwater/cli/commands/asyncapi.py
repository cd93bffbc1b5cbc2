"""``headwater asyncapi``: what services say on the event bus, for programs in any language."""

import sys
from pathlib import Path

import msgspec

from headwater.operations.stores import DEFAULT_FILE


def asyncapi(target: str = "", *, bus: str = "", file: Path = DEFAULT_FILE) -> None:
    """Print the AsyncAPI 3.0 document of the services' events, as JSON.

    Parameters
    ----------
    target
        `module:service` or a file such as `shop.py`; default: all services of the system.
    bus
        URL of the bus, for its servers; default: that of the system. User, password and options
        are left out.
    file
        The description of the system.
    """
    from headwater.operations.asyncapi import asyncapi_document
    from headwater.operations.loading import load_service
    from headwater.operations.system import load_system

    if target:
        services = [load_service(target, python_path=[Path.cwd()])]
        title, version = services[0].name, services[0].version
    else:
        system = load_system(file)
        found = system.services.values()
        services = [load_service(each.app, python_path=system.python_path) for each in found]
        title, version, bus = system.name, "", bus or system.bus.url
    document = asyncapi_document(services, title=title, version=version, bus=bus)
    text = msgspec.json.format(msgspec.json.encode(document), indent=2)
    sys.stdout.write(f"{text.decode()}\n")


__all__ = ["asyncapi"]
