"""Settings of a server, checked when they are made."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import NamedTuple

from holdfast.domain.errors import UsageError

DURABILITIES = ("full", "relaxed")


class Address(NamedTuple):
    """A place to listen."""

    host: str
    port: int
    """0 chooses a free one."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(text: str, option: str) -> Address:
    """Parse `HOST:PORT`, `:PORT` (loopback) or `[IPV6]:PORT`.

    Raises:
        UsageError: HF1202, with the option's name.
    """
    host, separator, port = text.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not separator or not port.isdecimal() or int(port) > 65_535:
        raise UsageError(
            f"{option} {text!r} is not an address.",
            code="HF1202",
            hint="Write HOST:PORT, for example 127.0.0.1:8080.",
        )
    return Address(host, int(port))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Settings of a server."""

    store: str = "sqlite:./holdfast-data/holdfast.db"
    """`sqlite:PATH` or `memory:`."""
    durability: str = "full"
    """`full`: a commit is on disk before anybody hears of it. `relaxed`: the loss of power may take
    the last commits; a crash of the process does not."""
    ingress: str = "127.0.0.1:8080"
    """Where clients call, `HOST:PORT`."""
    admin: str = "127.0.0.1:9070"
    """Where operators and workers connect, `HOST:PORT`."""
    partition_count: int = 4
    """Fixed when the store is made."""
    body_size_bytes_max: int = 10 * 1024 * 1024
    """Largest request body; larger ones are refused with 413."""
    inactivity_timeout_ms: int | None = None
    """Overrides the inactivity timeout of all handlers."""

    def __post_init__(self) -> None:
        """Check what can be checked without touching anything.

        Raises:
            UsageError: HF1202 an address, HF1203 a bind beyond loopback, HF1204 a setting.
        """
        if self.durability not in DURABILITIES:
            raise UsageError(
                f"durability {self.durability!r} is neither full nor relaxed.", code="HF1204"
            )
        if not 1 <= self.partition_count <= 1024:
            raise UsageError(
                f"partition_count {self.partition_count} is not between 1 and 1024.", code="HF1204"
            )
        for option, text in (("--ingress", self.ingress), ("--admin", self.admin)):
            address = parse_address(text, option)
            if not address.is_loopback:
                raise UsageError(
                    f"{option} {text} would listen beyond this machine, without authentication.",
                    code="HF1203",
                    hint="Listen on 127.0.0.1 and put an authenticating proxy in front.",
                )
