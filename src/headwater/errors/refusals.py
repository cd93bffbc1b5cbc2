"""Errors that say no to what a caller sent, as it is."""

from headwater.errors.base import HeadwaterError


class Rejection(HeadwaterError):
    """The domain refuses a command; nothing is stored. Subclass it in your domain."""

    decided = True
    status = 422


class CommandRefused(Rejection):
    """A saga's command was refused for a reason that is no rejection of the domain.

    ``cause_code`` is the code of the error, such as ``aggregate-not-found``.
    """

    command: str
    cause_code: str
    reason: str
    template = "{command} was refused ({cause_code}): {reason}"


class RemoteRejection(Rejection):
    """Another service's domain refused a command, by a class that is not known here."""

    source: str
    remote_code: str
    detail: str
    template = "{source} refused ({remote_code}): {detail}"


class InvalidInput(HeadwaterError):
    """What the caller sent cannot be understood."""

    status = 400
    reason: str
    template = "{reason}"


class MalformedMessage(InvalidInput):
    """A message is not JSON or not of the declared shape."""

    name: str
    template = "{name} is malformed: {reason}: correct the content and send it again"


class UnknownMessage(InvalidInput):
    """A message type that nobody here handles."""

    status = 404
    name: str
    reason: str = ""
    template = "nobody here handles {name!r}: check the name and where its handler is registered"


class TokenMismatch(InvalidInput):
    """A consistency token was issued by another store, or by the store before a restore."""

    status = 409
    reason: str = ""
    source: str
    expected: str
    actual: str
    template = (
        "the consistency token names epoch {actual!r} of {source!r}, which is at {expected!r}: "
        "the store was replaced; read again without a token"
    )


class NotFound(HeadwaterError):
    """Something named by the caller does not exist."""

    status = 404


class AggregateNotFound(NotFound):
    """A command names an aggregate that has no events."""

    decided = True
    aggregate: str
    id: str
    template = "{aggregate} {id!r} does not exist: create it first or correct the id"


class ViewNotFound(NotFound):
    """No view is stored under the key."""

    view: str
    key: str
    template = "{view} {key!r} does not exist"


class RouteNotFound(NotFound):
    """No handler for the method and path."""

    method: str
    path: str
    template = "no route for {method} {path}: the OpenAPI page at /docs lists all routes"


class InstanceNotFound(NotFound):
    """No instance is registered under the id: it never was, or its lease ran out."""

    id: str
    template = "instance {id!r} is not registered: register it (again)"


class ServiceNotFound(NotFound):
    """No instance of the service is registered."""

    service: str
    known: list[str]
    template = "no instance of {service!r} is registered: start one; known are {known}"


class ChangeNotFound(NotFound):
    """The settings have no change of this number."""

    number: int
    latest: int
    template = (
        "there is no change {number} of the settings, the latest is {latest}: "
        "`headwater config history` lists them"
    )


class Unauthenticated(HeadwaterError):
    """The caller did not say who it is."""

    status = 401
    template = "credentials are missing or invalid: send valid ones"


class Forbidden(HeadwaterError):
    """The caller may not do this."""

    status = 403
    action: str
    template = "not allowed: {action}"


class TooLarge(HeadwaterError):
    """A body is larger than allowed."""

    status = 413
    limit_bytes: int
    template = "the body is larger than {limit_bytes} bytes: send less"


class UnsupportedMediaType(HeadwaterError):
    """A body is not declared to be of the kind that is understood."""

    status = 415
    expected: str
    actual: str
    template = "the body must be {expected}, and is declared as {actual!r}: send Content-Type"
