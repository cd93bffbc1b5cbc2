"""Which database, and which schema in it, a URL names."""

import re
from typing import NamedTuple, Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from headwater.errors import ConfigurationError

SCHEMES = ("postgres", "postgresql")
_PLAIN = re.compile(r"[a-z_][a-z0-9_]{0,62}")


class Place(NamedTuple):
    """A schema of a database.

    Attributes:
        dsn: what the driver connects to; may hold a password.
        schema: whose tables; a plain name that needs no quotes.
        name: for messages, without user and password.
    """

    dsn: str
    schema: str
    name: str

    @classmethod
    def parse(cls, url: str, *, schema: str = "headwater") -> Self:
        """Return the place that a URL names; ``?schema=accounts`` overrules ``schema``.

        Raises:
            ConfigurationError: it is no URL of PostgreSQL, or the schema's name is not plain.
        """
        parts = urlsplit(url)
        subject = "database URL"
        if parts.scheme not in SCHEMES:
            reason = "expected postgresql://user:password@host:port/database?schema=name"
            raise ConfigurationError(subject=subject, reason=reason)
        options = parse_qsl(parts.query, keep_blank_values=True)
        chosen = next((value for key, value in options if key == "schema"), schema)
        if not _PLAIN.fullmatch(chosen) or chosen.startswith("pg_"):
            reason = (
                f"schema {chosen!r} is not plain: use at most 63 small letters, digits and _, "
                "not beginning with a digit or pg_"
            )
            raise ConfigurationError(subject=subject, reason=reason)
        rest = [(key, value) for key, value in options if key != "schema"]
        several = "," in parts.netloc  # then each has its port, which the driver reads
        try:
            port = f":{parts.port}" if not several and parts.port else ""
        except ValueError as error:
            raise ConfigurationError(
                subject=subject, reason=f"the port is wrong: {error}"
            ) from None
        host = parts.netloc.rpartition("@")[2] if several else parts.hostname
        host = host or dict(rest).get("host", "")
        dsn = urlunsplit(parts._replace(query=urlencode(rest)))
        return cls(dsn, chosen, f"postgresql://{host}{port}{parts.path}?schema={chosen}")


def name_of(url: str) -> str:
    """Return what a place is called in messages, without user and password."""
    return Place.parse(url).name


def schema_for(service: str) -> str:
    """Return the schema that a service uses when its URL names none."""
    plain = re.sub(r"[^a-z0-9_]+", "_", service.lower()).strip("_")[:60]
    return plain if _PLAIN.fullmatch(plain) and not plain.startswith("pg_") else f"s_{plain}"
