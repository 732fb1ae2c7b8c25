"""Registering endpoints by address: what is asked for, and what came of it."""

from __future__ import annotations

from typing import NamedTuple

from holdfast.domain.deployment import HttpVersion
from holdfast.storage.base import StoredDeployment


class Registration(NamedTuple):
    """A request to register an endpoint."""

    uri: str
    headers: dict[str, str]
    metadata: dict[str, str]
    http_version: HttpVersion | None = None
    """None takes HTTP/2, with TLS the best that both know."""
    is_forced: bool = False
    """Ask a known endpoint again; also allows what `is_breaking` allows."""
    is_breaking: bool = False
    """Allow services to change their kind."""
    is_dry_run: bool = False


class Change(NamedTuple):
    """A request to change a registered endpoint; None leaves a member as it is."""

    uri: str | None = None
    headers: dict[str, str] | None = None
    http_version: HttpVersion | None = None
    is_overwriting: bool = False
    """Take the services that the endpoint has now, breaking changes included."""
    is_dry_run: bool = False


class Registered(NamedTuple):
    """What a registration came to."""

    deployment: StoredDeployment
    is_new: bool
    """False: an endpoint of this address was known."""
