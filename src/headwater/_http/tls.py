"""Contexts for TLS, from files: those of servers, and those of clients that call them."""

import ssl
from pathlib import Path

from headwater.errors import ConfigurationError


def server_context(certificate: str, key: str) -> ssl.SSLContext | None:
    """Return the context of a server that shows a certificate; None without one.

    Args:
        certificate: a PEM file: the certificate, then those that lead to its authority.
        key: a PEM file with its private key; empty when that is in the same file.

    Raises:
        ConfigurationError: a file cannot be read, they do not belong together, or there is only
            a key.
    """
    if not certificate:
        if key:
            raise _wrong("tls_key", key, "is set without tls_certificate: set both, or none")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key or None, password=_no_password)
    except (OSError, ValueError) as error:
        reason = f"cannot be used with key {key or certificate!r}: {_said(error)}"
        raise _wrong("tls_certificate", certificate, reason) from error
    return context


def client_context(ca: str) -> ssl.SSLContext | None:
    """Return the context of a client that trusts the authorities in a PEM file, and no others.

    None without one: the system's are trusted.

    Raises:
        ConfigurationError: the file cannot be read, or holds no certificate.
    """
    if not ca:
        return None
    try:
        return ssl.create_default_context(cafile=Path(ca))
    except (OSError, ValueError) as error:
        raise _wrong("tls_ca", ca, f"cannot be used: {_said(error)}") from error


def broker_context(cafile: str, certfile: str, keyfile: str, *, subject: str) -> ssl.SSLContext:
    """Return the context of a client of a broker, which may show a certificate of its own.

    Args:
        cafile: a PEM file of authorities; empty: the system's are trusted.
        certfile: a PEM file: its certificate; empty: it shows none.
        keyfile: a PEM file with the private key; empty when that is in the same file.
        subject: what the broker is called, for messages.

    Raises:
        ConfigurationError: a file cannot be read, or they do not belong together.
    """
    try:
        context = ssl.create_default_context(cafile=cafile or None)
        if certfile:
            context.load_cert_chain(certfile, keyfile or None, password=_no_password)
    except (OSError, ValueError) as error:
        names = ", ".join(filter(None, (cafile, certfile, keyfile)))
        reason = f"the certificates in {names} cannot be used: {_said(error)}"
        raise ConfigurationError(subject=subject, reason=reason) from None
    return context


def _no_password() -> str:
    """Refuse a key with a password, instead of asking for it at the terminal."""
    raise ValueError("the key has a password: store it without one, readable by this user alone")


def _wrong(setting: str, value: str, reason: str) -> ConfigurationError:
    return ConfigurationError(subject=f"{setting} {value!r}", reason=reason)


def _said(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    return (error.strerror if isinstance(error, OSError) else "") or str(error)


__all__ = ["broker_context", "client_context", "server_context"]
