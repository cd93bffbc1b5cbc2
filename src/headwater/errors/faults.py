"""Errors of what is declared, configured or stored wrongly."""

from headwater.errors.base import HeadwaterError, Outcome


class DeclarationError(HeadwaterError):
    """A class or function is declared wrongly; raised while it is being declared."""

    subject: str
    reason: str
    template = "{subject}: {reason}"


class ConfigurationError(HeadwaterError):
    """A file or setting is wrong; raised at start, before anything runs."""

    subject: str
    reason: str
    template = "{subject}: {reason}"


class AddressInUse(ConfigurationError):
    """A port is taken by another process."""

    subject: str = ""
    reason: str = ""
    host: str
    port: int
    template = "{host}:{port} is in use by another process: stop it or choose another port"


class StartupError(ConfigurationError):
    """Something that a service needs at its start cannot be reached."""


class StoreError(HeadwaterError):
    """What is stored cannot be used."""

    outcome: Outcome = "unknown"
    store: str
    reason: str
    template = "store {store!r}: {reason}"


class StoreCorrupt(StoreError):
    """A file is not a database, or damaged."""


class SchemaTooNew(StoreError):
    """A database was written by a newer version of Headwater."""

    outcome: Outcome = "not stored"
    reason: str = ""
    actual: int
    expected: int
    template = (
        "store {store!r} has schema {actual}, this version knows {expected}: "
        "upgrade headwater or use another database"
    )


class ShardMismatch(StoreError):
    """A database is not the shard of a store that its place among the URLs says."""

    outcome: Outcome = "not stored"


class ClaimLost(HeadwaterError):
    """Another process owns the segment now; the transaction was rolled back."""

    processor: str
    segment: int
    template = "segment {segment} of {processor!r} is owned by another process now"


class Unexpected(HeadwaterError):
    """A fault of the service itself; its details are in the log under the reference."""

    outcome: Outcome = "unknown"
    reference: str
    template = "the service failed: its log has the details under {reference!r}"
