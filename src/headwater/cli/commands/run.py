"""``headwater run``: one instance in the foreground; this is what a container runs."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from headwater._os.limits import raise_descriptors
from headwater.cli.given_settings import given_settings, pairs

if TYPE_CHECKING:
    from headwater.service.settings import ServiceSettings

PLATFORM = ("discovery", "config", "gateway")


def run(
    target: str,
    *,
    role: Literal["command", "query", "all"] | None = None,
    host: str | None = None,
    port: int | None = None,
    discovery: Annotated[str | None, Parameter(help="URLs, separated by commas.")] = None,
    config: Annotated[str | None, Parameter(help="URLs, separated by commas.")] = None,
    log_level: Literal["debug", "info", "warning", "error"] | None = None,
    log_format: Literal["console", "json"] | None = None,
    set: Annotated[list[str] | None, Parameter(help="A setting, key=value; repeatable.")] = None,
) -> None:
    """Run one instance of a service, or a platform service, until SIGTERM or Ctrl-C.

    Settings: these flags come first, then HEADWATER_<NAME> in the environment, then the section
    `headwater` of the configuration service, then defaults.

    Parameters
    ----------
    target
        `module:service`, a file such as `shop.py` (`shop.py:service` where it has several), or one
        of `discovery`, `config`, `gateway`.
    role
        Which side of the service to run; default: all.
    host
        Address to listen on.
    port
        Port to listen on; 0 lets the system choose one.
    discovery
        Base URLs of the discovery service.
    config
        Base URLs of the configuration service.
    log_level
        Least level of log lines.
    log_format
        Log lines for a person, or as JSON.
    set
        Any further setting.
    """
    from headwater.cli.supervising.supervised import follow_supervisor

    follow_supervisor()
    named = {"role": role, "host": host, "port": port, "discovery": discovery, "config": config}
    named |= {"log_level": log_level, "log_format": log_format}
    given = {name: value for name, value in named.items() if value is not None}
    run_target(target, pairs(set or ()) | given)


def run_target(target: str, flags: Mapping[str, Any]) -> None:
    """Run a service or a platform service with these flags."""
    raise_descriptors()
    if target in PLATFORM:
        from headwater.cli.commands.platform import run_platform

        run_platform(target, flags)
    else:
        run_service(target, flags)


def run_service(app: str, flags: Mapping[str, Any]) -> None:
    """Run an instance of a service until it is told to stop.

    Raises:
        HeadwaterError: the start failed.
    """
    import uvloop

    from headwater.cli.logs import configure_logs
    from headwater.cli.supervising.supervised import report
    from headwater.operations.loading import is_file, load_service
    from headwater.service.runtime import Runtime, serve
    from headwater.service.settings import ServiceSettings

    values = given_settings(
        ServiceSettings.__struct_fields__,
        flags,
        os.environ,
        lists=("discovery", "config"),
    )
    configure_logs(
        values.get("log_level", "info"), values.get("log_format", "console"), final=False
    )
    service = load_service(app, python_path=[Path.cwd()])
    values.pop("service", None)

    def ready(runtime: Runtime) -> None:  # by now it knows what the configuration service says
        configure_logs(runtime.settings.log_level, runtime.settings.log_format)
        report(url=runtime.url)
        if is_file(app):
            sys.stdout.write(_welcome(runtime.settings, runtime.url))
            sys.stdout.flush()

    uvloop.run(serve(service, values, ready=ready))


def _welcome(settings: "ServiceSettings", url: str) -> str:
    """Return what who tries a service for the first time wants to know."""
    views = settings.url("views")
    where = "in memory, and goes with this process"
    if views.startswith("sqlite:"):
        where = f"in {Path(views.removeprefix('sqlite:')).resolve().parent}"
    return f"{settings.service} runs: {url}/docs\nIts data is {where}. Ctrl-C stops it.\n"
