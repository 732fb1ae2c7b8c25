"""Settings of a server, checked when they are made."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from holdfast.domain.duration import parse_duration_ms
from holdfast.domain.errors import UsageError
from holdfast.domain.retry import OnMaxAttempts, RetrySchedule

T = TypeVar("T")

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
    is_state_lazy: bool = False
    """No attempt gets its state with its start; it is asked for, entry by entry."""
    is_protocol_v7: bool = True
    """Whether new invocations of endpoints may speak version 7 of the service protocol."""
    retry: RetrySchedule = field(default_factory=RetrySchedule)
    """For handlers that have no schedule of their own."""
    cleanup_interval_ms: int = 1_000
    """How often what has expired is looked for."""
    identity_key_file: str | None = None
    """File with the private key (Ed25519, PKCS #8 PEM) that signs requests to endpoints; None
    leaves them unsigned."""
    sql_rows_max: int = 1_000_000
    """Rows that one SQL query may read."""
    sql_timeout_ms: int = 30_000
    """How long one SQL query may take, up to the last row of its answer."""
    public_url: str = ""
    """Where people reach the ingress, for links; empty: at the address that it listens on."""
    approval_secret: str | None = None
    """Signs the links of approvals, 16 characters or more; None: a secret that the store keeps."""

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
        if self.cleanup_interval_ms < 10:
            raise UsageError(
                f"cleanup_interval_ms {self.cleanup_interval_ms} is less than 10.", code="HF1204"
            )
        for name, value in (
            ("sql_rows_max", self.sql_rows_max),
            ("sql_timeout_ms", self.sql_timeout_ms),
        ):
            if value < 1:
                raise UsageError(f"{name} {value} is less than 1.", code="HF1204")
        self._check_links()
        for option, text in (("--ingress", self.ingress), ("--admin", self.admin)):
            address = parse_address(text, option)
            if not address.is_loopback:
                raise UsageError(
                    f"{option} {text} would listen beyond this machine, without authentication.",
                    code="HF1203",
                    hint="Listen on 127.0.0.1 and put an authenticating proxy in front.",
                )

    def _check_links(self) -> None:
        is_url = self.public_url.startswith(("http://", "https://"))
        if self.public_url and (not is_url or set(self.public_url) & set('?# "<>')):
            raise UsageError(
                f"HOLDFAST_PUBLIC_URL is {self.public_url!r}; expected a URL.",
                code="HF1204",
                hint="Write for example https://agents.example.com, without a query.",
            )
        secret = self.approval_secret
        if secret is not None and len(secret) < SECRET_LENGTH_MIN:
            raise UsageError(
                f"HOLDFAST_APPROVAL_SECRET has {len(secret)} characters; expected"
                f" {SECRET_LENGTH_MIN} or more.",
                code="HF1204",
                hint="Make one with: openssl rand -hex 32. Or unset it: the store keeps its own.",
            )


SECRET_LENGTH_MIN = 16

ENVIRONMENT = {
    "HOLDFAST_INACTIVITY_TIMEOUT": "RESTATE_WORKER__INVOKER__INACTIVITY_TIMEOUT",
    "HOLDFAST_LAZY_STATE": "RESTATE_WORKER__INVOKER__DISABLE_EAGER_STATE",
    "HOLDFAST_PROTOCOL_V7": "RESTATE_EXPERIMENTAL_ENABLE_PROTOCOL_V7",
    "HOLDFAST_RETRY_INITIAL_INTERVAL": "RESTATE_DEFAULT_RETRY_POLICY__INITIAL_INTERVAL",
    "HOLDFAST_RETRY_FACTOR": "RESTATE_DEFAULT_RETRY_POLICY__EXPONENTIATION_FACTOR",
    "HOLDFAST_RETRY_MAX_INTERVAL": "RESTATE_DEFAULT_RETRY_POLICY__MAX_INTERVAL",
    "HOLDFAST_RETRY_MAX_ATTEMPTS": "RESTATE_DEFAULT_RETRY_POLICY__MAX_ATTEMPTS",
    "HOLDFAST_RETRY_ON_MAX_ATTEMPTS": "RESTATE_DEFAULT_RETRY_POLICY__ON_MAX_ATTEMPTS",
    "HOLDFAST_CLEANUP_INTERVAL": "RESTATE_WORKER__CLEANUP_INTERVAL",
}
"""Variables of a server that no option of a command has: our name, and what Restate's server calls
it, which is looked at when ours is not set."""


class Tuning(NamedTuple):
    """What the environment says about a server; None where it says nothing."""

    inactivity_timeout_ms: int | None
    is_state_lazy: bool
    is_protocol_v7: bool
    retry: RetrySchedule
    cleanup_interval_ms: int


def read_tuning(environment: Mapping[str, str]) -> Tuning:
    """Read the variables of `ENVIRONMENT`.

    Raises:
        UsageError: HF1204, a value makes no sense; names the variable.
    """
    found = _Variables(environment)
    is_protocol_v7 = found.read("HOLDFAST_PROTOCOL_V7", _flag, "true or false")
    default = RetrySchedule()
    attempts = found.read(
        "HOLDFAST_RETRY_MAX_ATTEMPTS", _attempts, "a number of 1 or more, or unlimited"
    )
    ending = found.read("HOLDFAST_RETRY_ON_MAX_ATTEMPTS", _ending, "pause or kill")
    first_ms = found.duration_ms("HOLDFAST_RETRY_INITIAL_INTERVAL")
    longest_ms = found.duration_ms("HOLDFAST_RETRY_MAX_INTERVAL")
    factor = found.read("HOLDFAST_RETRY_FACTOR", _factor, "a number of 1 or more")
    cleanup_ms = found.duration_ms("HOLDFAST_CLEANUP_INTERVAL")
    return Tuning(
        inactivity_timeout_ms=found.duration_ms("HOLDFAST_INACTIVITY_TIMEOUT"),
        is_state_lazy=found.read("HOLDFAST_LAZY_STATE", _flag, "true or false") or False,
        is_protocol_v7=is_protocol_v7 is not False,
        retry=RetrySchedule(
            initial_interval_ms=default.initial_interval_ms if first_ms is None else first_ms,
            factor=default.factor if factor is None else factor,
            max_interval_ms=default.max_interval_ms if longest_ms is None else longest_ms,
            # 0 stands for no limit here: None already says that nothing was said.
            max_attempts=default.max_attempts if attempts is None else attempts or None,
            on_max_attempts=default.on_max_attempts if ending is None else ending,
        ),
        cleanup_interval_ms=1_000 if cleanup_ms is None else cleanup_ms,
    )


class _Variables:
    """Environment variables under their two names."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def read(self, name: str, parse: Callable[[str], T | None], expected: str) -> T | None:
        """Return a value, or None when it is not set. Empty is not set."""
        for each in (name, ENVIRONMENT[name]):
            text = self._environment.get(each, "").strip()
            if text:
                value = parse(text)
                if value is None:
                    raise UsageError(
                        f"{each} is {text!r}; expected {expected}.",
                        code="HF1204",
                        hint="Mend the environment variable, or unset it for the default.",
                    )
                return value
        return None

    def duration_ms(self, name: str) -> int | None:
        """Return a duration in milliseconds, or None when it is not set."""
        return self.read(name, parse_duration_ms, "a duration such as 500ms, 5m or PT1.5S")


def _flag(text: str) -> bool | None:
    return {"true": True, "1": True, "false": False, "0": False}.get(text.lower())


def _attempts(text: str) -> int | None:
    if text.lower() == "unlimited":
        return 0
    return int(text) if text.isascii() and text.isdigit() and int(text[:9]) > 0 else None


def _ending(text: str) -> OnMaxAttempts | None:
    return {"pause": OnMaxAttempts.PAUSE, "kill": OnMaxAttempts.KILL}.get(text.lower())


def _factor(text: str) -> float | None:
    try:
        factor = float(text)
    except ValueError:
        return None
    return factor if 1.0 <= factor <= 1e6 else None
