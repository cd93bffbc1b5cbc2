"""What stands in a declaration: marks on parameters, the options of a method, `Response`."""

from collections.abc import Mapping
from typing import Generic, TypeVar

import msgspec

B = TypeVar("B")


class HeaderParam(msgspec.Struct, frozen=True):
    """``Annotated[str, HeaderParam("x-tenant")]``: a header; None and ``""`` are left out."""

    name: str


class QueryParam(msgspec.Struct, frozen=True):
    """``Annotated[int, QueryParam("page-size")]``: a query parameter under another name."""

    name: str


class BodyParam(msgspec.Struct, frozen=True):
    """``Annotated[list[Line], BodyParam()]``: the JSON body, where its type does not tell already.

    ``bytes`` are sent as they are, as ``application/octet-stream``.
    """


class Response(msgspec.Struct, Generic[B], frozen=True):
    """An answer with status and headers (names case-insensitive): ``-> Response[X]``."""

    status: int
    headers: Mapping[str, str]
    body: B


class Method(msgspec.Struct, frozen=True):
    """The options of one declared method (see `headwater.client.declarations.Verb`)."""

    verb: str
    path: str
    timeout_s: float
    retries: int
    hedge_s: float
    idempotent: bool
    routing_key: str
    role: str
