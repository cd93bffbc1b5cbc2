"""Who asks, as credentials have proved it."""

from typing import Literal

import msgspec


class Principal(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who asks, as `authenticate` found out from a request's credentials.

    Attributes:
        subject: who it is, unique at its issuer; empty: nobody has proved to be somebody.
        issuer: who vouches for that, such as the ``iss`` of a token; empty without one.
        kind: a person, or a program: ``service`` is also what this service does by itself.
        scopes: what the credentials are good for.
        roles: what the subject is.
        tenant: whom it belongs to; empty when unused.
    """

    subject: str = ""
    issuer: str = ""
    kind: Literal["person", "service"] = "person"
    scopes: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    tenant: str = ""

    @property
    def name(self) -> str:
        """The subject, after its issuer if there is one: what events say of who asked."""
        return f"{self.issuer}|{self.subject}" if self.issuer else self.subject


ANONYMOUS = Principal()
"""Nobody in particular: a request without credentials, where that is allowed."""

__all__ = ["ANONYMOUS", "Principal"]
