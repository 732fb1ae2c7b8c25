"""Definitions of services and handlers, and the manifest made of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

import holdfast as hf
from holdfast.domain.message import Input, Value
from holdfast.domain.retry import OnMaxAttempts
from holdfast.domain.target import HandlerKind, ServiceKind
from holdfast.sdk.handler import resolve_target


def test_manifest() -> None:
    service = hf.Service(
        "Greeter", retry=hf.RetryPolicy(max_attempts=5), inactivity_timeout=1, documentation="Hi"
    )
    cart = hf.VirtualObject("Cart", private=True)

    @service.handler
    async def greet(ctx: hf.Context, name: str) -> str:
        """Say hello."""
        return name

    @service.handler(
        name="other",
        retry=hf.RetryPolicy(on_max_attempts="kill", max_attempts=None),
        journal_retention=timedelta(hours=1),
    )
    async def something(ctx: hf.Context) -> None: ...

    @cart.handler(private=False)
    async def add(ctx: hf.Context, item: bytes) -> Later: ...

    @cart.shared
    async def total(ctx: hf.Context, currency: str | None) -> int:
        return 0

    app = hf.App(service, cart, deployment_name="shop")
    assert app.deployment_name == "shop"
    first, second = app.manifest.services
    assert (first.name, first.kind, first.documentation) == ("Greeter", ServiceKind.SERVICE, "Hi")
    hello, other = first.handlers
    assert hello.name == "greet"
    assert hello.documentation == "Say hello."
    assert hello.is_input_required
    assert hello.input_schema == {"type": "string"}
    assert hello.retry is not None
    assert (hello.retry.max_attempts, hello.inactivity_timeout_ms) == (5, 1000)
    assert other.name == "other"
    assert not other.is_input_required
    assert other.retry is not None
    assert (other.retry.on_max_attempts, other.retry.max_attempts) == (OnMaxAttempts.KILL, None)
    assert other.journal_retention_ms == 3_600_000
    assert second.kind is ServiceKind.VIRTUAL_OBJECT
    in_cart, sum_up = second.handlers
    assert (in_cart.kind, in_cart.is_private) == (HandlerKind.EXCLUSIVE, False)
    assert in_cart.input_content_type == "application/octet-stream"
    assert (sum_up.kind, sum_up.is_private) == (HandlerKind.SHARED, True)
    assert not sum_up.is_input_required


@dataclass
class Later:
    """Defined after it is used."""

    total: int


async def no_parameters() -> None: ...


async def three(ctx: hf.Context, a: int, b: int) -> None: ...


async def keyword(ctx: hf.Context, *, a: int) -> None: ...


def synchronous(ctx: hf.Context) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (no_parameters, "it must take the context as first parameter"),
        (three, "parameter 'b' is one too many"),
        (keyword, "parameter 'a' must be positional"),
        (synchronous, "it must be an `async def` function"),
    ],
)
def test_wrong_handlers_are_refused_at_definition(
    function: Callable[..., Any], message: str
) -> None:
    with pytest.raises(hf.UsageError) as caught:
        hf.Service("S").handler(function)
    text = str(caught.value)
    assert text.startswith(f"S/{function.__name__} ({__file__}:")
    assert message in text
    assert "HF0504" in text


def test_wrong_types_are_refused_at_start_up() -> None:
    service = hf.Service("S")

    @service.handler
    async def h(ctx: hf.Context, wrong: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(hf.UsageError, match="parameter 'wrong' has an annotation that cannot be"):
        hf.App(service)

    other = hf.Service("S")

    @other.handler
    async def g(ctx: hf.Context, arg: int) -> Callable[[], int]: ...

    with pytest.raises(hf.UsageError, match="the return type: There is no JSON for the type"):
        hf.App(other)


def test_options_in_the_manifest() -> None:
    service = hf.Service(
        "S", concurrency=3, metadata={"team": "a"}, documentation="About.", lazy_state=True,
        invocation_timeout=timedelta(minutes=1),
    )  # fmt: skip

    @service.handler
    async def plain(ctx: hf.Context) -> None:
        """Docstring."""

    @service.handler(
        concurrency=1, metadata={"n": "1"}, documentation="Text.", lazy_state=False, retry=None
    )
    async def own(ctx: hf.Context) -> None: ...

    manifest = service.manifest()
    assert (manifest.metadata, manifest.documentation) == ({"team": "a"}, "About.")
    first, second = manifest.handlers
    assert (first.concurrency, first.is_concurrency_shared) == (3, True)
    assert (first.metadata, first.documentation, first.is_state_lazy) == ({}, "Docstring.", True)
    assert (second.concurrency, second.is_concurrency_shared) == (1, False)
    assert (second.metadata, second.documentation) == ({"n": "1"}, "Text.")
    assert not second.is_state_lazy
    assert first.invocation_timeout_ms == second.invocation_timeout_ms == 60_000
    assert first.retry is second.retry is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "S: concurrency must be a whole number, 1 or more, not 0"),
        ({"concurrency": True}, "S: concurrency must be"),
        ({"invocation_timeout": 0}, "invocation_timeout must be longer than nothing"),
        ({"abort_timeout": -1}, "abort_timeout must be a timedelta or a number of seconds"),
        ({"journal_retention": "1d"}, "journal_retention must be"),
        ({"retry": 3}, "retry must be a RetryPolicy, not 3"),
        ({"private": "yes"}, "private must be True or False"),
        ({"metadata": {"a": 1}}, "metadata must map texts to texts"),
        ({"documentation": b"x"}, "documentation must be a text"),
        ({"concurency": 1}, "Did you mean concurrency?"),
        ({"workflow_retention": 1}, "S has no option 'workflow_retention'"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(hf.UsageError, match="HF0530") as caught:
        hf.Service("S", **options)
    assert message in str(caught.value)
    with pytest.raises(hf.UsageError, match="HF0530"):
        hf.Service("S").handler(**options)(test_bad_options_are_refused)


@pytest.mark.parametrize("name", ["", "1a", "_", "a b", "a/b", "openapi", "RestateThing", "ä"])
def test_bad_service_names(name: str) -> None:
    with pytest.raises(hf.UsageError, match="cannot be the name of a service"):
        hf.Service(name)


def test_bad_handler_names_and_duplicates() -> None:
    service = hf.Service("My.Service-1")

    async def h(ctx: hf.Context) -> None: ...

    service.handler(h)
    with pytest.raises(hf.UsageError, match=r"My\.Service-1/h is defined twice"):
        service.handler(h)
    with pytest.raises(hf.UsageError, match="its name must be a letter"):
        service.handler(name="a.b")(h)
    with pytest.raises(hf.UsageError, match="Two services are named"):
        hf.App(service, hf.Service("My.Service-1"))


async def test_a_bound_method_is_a_handler() -> None:
    class Forecaster:
        async def run(self, ctx: hf.Context, city: str) -> int:
            return len(city)

    handler = hf.Service("Weather").handler(Forecaster().run)
    assert str(handler) == "Weather/run"
    assert handler.manifest({}).input_schema == {"type": "string"}
    assert await handler(Any, "Bern") == 4


async def test_a_handler_is_still_its_function() -> None:
    service = hf.Service("S")

    def decorated(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        async def wrapper(ctx: hf.Context, arg: int) -> Any:
            return await fn(ctx, arg)

        return wrapper

    @service.handler
    @decorated
    async def double(ctx: hf.Context, arg: int) -> int:
        return 2 * arg

    context: Any = None
    assert await double(context, 3) == 6
    assert (double.service, double.name, str(double)) == ("S", "double", "S/double")
    assert double.__name__ == "double"


def test_targets() -> None:
    service, obj = hf.Service("S"), hf.VirtualObject("O")

    @service.handler
    async def plain(ctx: hf.Context, arg: int) -> int:
        return arg

    @obj.handler
    async def keyed(ctx: hf.Context) -> int:
        return 1

    assert resolve_target(plain, None, 3, None)[:3] == ("S", "plain", b"3")
    assert resolve_target(keyed, "k", None, None)[:3] == ("O", "keyed", b"")
    assert resolve_target("X/y", None, [1], None)[:3] == ("X", "y", b"[1]")
    for handler, key, message in (
        (plain, "k", "S/plain takes no key="),
        (keyed, None, "O/keyed needs key="),
        ("X", None, "'X' names no handler"),
        ("X/y/z", None, "names no handler"),
    ):
        with pytest.raises(hf.UsageError, match=message):
            resolve_target(handler, key, None if handler is keyed else 3, None)
    with pytest.raises(hf.SerdeError, match="The argument for X/y cannot be sent"):
        resolve_target("X/y", None, {"a": object()}, None)


@pytest.mark.parametrize(
    "options",
    [
        {"initial_interval": -1},
        {"max_interval": "1s"},
        {"factor": 0.5},
        {"max_attempts": 0},
        {"on_max_attempts": "explode"},
        {"initial_interval": float("nan")},
    ],
)
def test_bad_retry_policies(options: dict[str, Any]) -> None:
    with pytest.raises(hf.UsageError, match="HF0507"):
        hf.RetryPolicy(**options)


def test_retry_policy_in_the_units_of_the_engine() -> None:
    policy = hf.RetryPolicy(initial_interval=0.25, factor=3, max_interval=timedelta(seconds=2))
    schedule = policy.to_schedule()
    assert [schedule.delay_ms(n) for n in (1, 2, 3, 4)] == [250, 750, 2000, 2000]
    assert schedule.on_max_attempts is OnMaxAttempts.PAUSE


@pytest.mark.parametrize("content", [b"", b"null", b" null "])
async def test_a_handler_without_a_parameter_takes_nothing(content: bytes) -> None:
    assert await nothing_taken.invoke(None, Input(Value(content))) == b"1"  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [b'{"amount": 5}', b"0", b"[]", b'""', b"no JSON"])
async def test_a_handler_without_a_parameter_refuses_a_body(content: bytes) -> None:
    with pytest.raises(hf.TerminalError, match="HF0508") as caught:
        await nothing_taken.invoke(None, Input(Value(content)))  # type: ignore[arg-type]
    assert caught.value.code == 400


taker = hf.Service("Taker")


@taker.handler
async def nothing_taken(ctx: hf.Context) -> int:
    return 1
