"""What operators set for a service, in place of what its code says."""

from __future__ import annotations

import msgspec
from msgspec.structs import asdict, replace

from holdfast.domain.target import HandlerManifest, ServiceManifest


class ServiceSettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Settings of one revision of a service. None: as its code says. Durations in milliseconds.

    They stand where the options of the service do: what a handler says for itself wins.
    """

    is_private: bool | None = None
    idempotency_retention_ms: int | None = None
    workflow_retention_ms: int | None = None
    journal_retention_ms: int | None = None
    inactivity_timeout_ms: int | None = None
    abort_timeout_ms: int | None = None

    def changed(self, by: ServiceSettings) -> ServiceSettings:
        """Return these settings with those of another that are not None."""
        return replace(self, **_set_in(by))

    def applied(self, service: ServiceManifest) -> ServiceManifest:
        """Return what a service is with these settings."""
        found = _set_in(self)
        if not found:
            return service
        handlers = tuple(_with(handler, found) for handler in service.handlers)
        return replace(service, handlers=handlers)


NO_SETTINGS = ServiceSettings()

SETTABLE = tuple(asdict(NO_SETTINGS))
"""Names of options, as in `HandlerManifest`, that a setting may replace."""


def _set_in(settings: ServiceSettings) -> dict[str, int | bool]:
    return {name: value for name, value in asdict(settings).items() if value is not None}


def _with(handler: HandlerManifest, found: dict[str, int | bool]) -> HandlerManifest:
    inherited = {name: value for name, value in found.items() if name not in handler.own_options}
    return replace(handler, **inherited) if inherited else handler
