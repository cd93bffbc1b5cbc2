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
    """What is stored cannot be used: the fault of a machine, or of whoever runs it."""

    outcome: Outcome = "unknown"
    status = 503
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


class EventsForgotten(StoreError):
    """Events of a bus were forgotten before whoever asks has read them."""

    outcome: Outcome = "not stored"
    reason: str = "they were forgotten before they were read"
    partition: int
    after: int
    begin: int
    template = (
        "partition {partition} of {store} begins at offset {begin}, and what comes after {after} "
        "was asked for, so events are missing: {reason}: let `headwater processors replay` begin "
        "with what is kept, or fill the views from the stores that the events came from; and let "
        "the bus keep them for longer"
    )


class ShardMismatch(StoreError):
    """A database is not the shard of a store that its place among the URLs says."""

    outcome: Outcome = "not stored"


class EventUnreadable(StoreError):
    """A stored event does not fit its class: the program is at fault, or it is an older one."""

    outcome: Outcome = "not stored"
    status = 500
    store: str = "events"
    type: str
    stream: str = ""
    version: int = 0
    template = (
        "{where} cannot be read: {reason}: correct its class, or register an @upcaster; "
        "`headwater events --stream` shows what is stored"
    )

    @property
    def message(self) -> str:
        """What was wrong and what to do, for a person."""
        where = f"event {self.type!r}"
        if self.stream:
            where = f"{where} at version {self.version} of stream {self.stream!r}"
        return self.template.format(where=where, reason=self.reason)


class ViewUnreadable(StoreError):
    """A stored document does not fit its view class any more."""

    outcome: Outcome = "not stored"
    status = 500
    store: str = "views"
    view: str
    key: str
    remedy: str = "give new fields a default, or rebuild the projection"
    template = "the stored {view} {key!r} does not fit the class ({reason}): {remedy}"


class AheadOfLog(StoreError):
    """What a processor has handled is not in its log, which was cut or replaced."""

    outcome: Outcome = "not stored"
    store: str
    processor: str
    reason: str
    remedy: str = (
        "bring back the log that it has followed, or let it handle what is there now: "
        "`headwater processors replay`"
    )
    template = "{processor!r} has handled what {store!r} does not hold ({reason}): {remedy}"


class Unstorable(HeadwaterError):
    """The program made a value that could not be read again as the same; it was not stored."""

    name: str
    field: str
    value: str
    reason: str
    template = (
        "{name} cannot be stored: its {field} is {value}, {reason}: correct what makes it, or the "
        "declared type"
    )


class CommandTooOld(HeadwaterError):
    """A saga's command was tried for so long that its receiver may have forgotten its key."""

    outcome: Outcome = "unknown"
    type: str
    age_s: int
    reason: str
    template = (
        "{type!r} is {age_s} s old and not acknowledged (last: {reason}); sent again now, it "
        "could act twice, as keys are not known for ever: find out whether its receiver has "
        "carried it out, then drop it, or `headwater dead-letters retry`"
    )


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
