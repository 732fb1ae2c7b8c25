from __future__ import annotations

from msgspec.structs import replace

from holdfast.domain.setting import NO_SETTINGS, SETTABLE, ServiceSettings
from holdfast.domain.target import HandlerKind, HandlerManifest, ServiceKind, ServiceManifest

PLAIN = HandlerManifest(name="a", kind=HandlerKind.PLAIN)
SERVICE = ServiceManifest(name="S", kind=ServiceKind.SERVICE, handlers=(PLAIN,))


def test_all_settings_are_options_of_handlers() -> None:
    assert set(SETTABLE) <= set(HandlerManifest.__struct_fields__)


def test_nothing_set_changes_nothing() -> None:
    assert NO_SETTINGS.applied(SERVICE) is SERVICE


def test_what_a_handler_says_itself_wins() -> None:
    own = replace(PLAIN, name="b", abort_timeout_ms=5, own_options=("abort_timeout_ms",))
    service = replace(SERVICE, handlers=(PLAIN, own))
    settings = ServiceSettings(is_private=True, abort_timeout_ms=7, journal_retention_ms=0)
    assert settings.applied(service).handlers == (
        replace(PLAIN, is_private=True, abort_timeout_ms=7, journal_retention_ms=0),
        replace(own, is_private=True, journal_retention_ms=0),
    )


def test_a_change_leaves_what_it_does_not_name() -> None:
    settings = ServiceSettings(is_private=True, abort_timeout_ms=7)
    changed = settings.changed(ServiceSettings(is_private=False, inactivity_timeout_ms=0))
    assert changed == ServiceSettings(is_private=False, abort_timeout_ms=7, inactivity_timeout_ms=0)
    assert changed.changed(NO_SETTINGS) == changed
