"""The verb that asks a person."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar, overload

import msgspec

from holdfast.domain.approval import ON_TIMEOUT, TEXT_LENGTH_MAX, TITLE_LENGTH_MAX
from holdfast.domain.errors import TerminalError, UsageError
from holdfast.domain.ids import awakeable_id
from holdfast.domain.message import TIME_MS_MAX, AskApproval
from holdfast.sdk.approval import Approval, make_approval
from holdfast.sdk.branch import call_site, shield
from holdfast.sdk.form import arguments_schema, encode_schema, schema_of
from holdfast.sdk.journal import JournalMismatch
from holdfast.sdk.retry import Duration, RetryPolicy, milliseconds
from holdfast.sdk.serde import JSON, Serde, serde_for
from holdfast.sdk.verb import Verbs, encode_value, serde_of
from holdfast.sdk.webhook import is_web_url, post_json

T = TypeVar("T")

_logger = logging.getLogger(__name__)
_HOOK_RETRY = RetryPolicy(
    initial_interval=timedelta(seconds=1), max_interval=timedelta(minutes=1), max_attempts=5
)
_REMINDER_MS_MIN = 1_000


class ApproveVerbs(Verbs):
    """Ask people."""

    __slots__ = ()

    @overload
    def approve(
        self,
        title: str,
        *,
        payload: object = None,
        why: str = "",
        assignee: str | Sequence[str] = (),
        form: type[T],
        arguments: Mapping[str, Any] | None = None,
        editable: Mapping[str, Any] | None = None,
        timeout: Duration | None = None,
        on_timeout: str = "reject",
        notify_url: str | None = None,
        remind_url: str | None = None,
        remind_every: Duration | None = None,
        name: str = "",
    ) -> Approval[T]: ...

    @overload
    def approve(
        self,
        title: str,
        *,
        payload: object = None,
        why: str = "",
        assignee: str | Sequence[str] = (),
        form: Mapping[str, Any] | None = None,
        arguments: Mapping[str, Any] | None = None,
        editable: Mapping[str, Any] | None = None,
        timeout: Duration | None = None,
        on_timeout: str = "reject",
        notify_url: str | None = None,
        remind_url: str | None = None,
        remind_every: Duration | None = None,
        name: str = "",
    ) -> Approval[Any]: ...

    def approve(
        self,
        title: str,
        *,
        payload: object = None,
        why: str = "",
        assignee: str | Sequence[str] = (),
        form: Any = None,
        arguments: Mapping[str, Any] | None = None,
        editable: Mapping[str, Any] | None = None,
        timeout: Duration | None = None,
        on_timeout: str = "reject",
        notify_url: str | None = None,
        remind_url: str | None = None,
        remind_every: Duration | None = None,
        name: str = "",
    ) -> Approval[Any]:
        """Ask a person, and await the decision: minutes or months, without a process that waits.

        The question is in the inbox of the server until it is decided, its deadline has passed, the
        approval is cancelled, or the invocation ends. One decision counts; it is checked against
        the form before it is taken.

        Args:
            title: What is to be approved, in one line.
            payload: What to look at; anything that has JSON.
            why: Why somebody is asked.
            assignee: Who may decide: names that mean something to you, such as `finance`.
            form: What is to be filled in: a type, or a JSON schema.
            arguments: What will be done with, by name. They are in `Decision.arguments`.
            editable: Which of these the person may change: types or JSON schemas, by name.
            timeout: How long to wait. None: for ever.
            on_timeout: What happens then: `reject`, `approve`, or `fail`: a `TerminalError` with
                code 408 at the await.
            notify_url: Told at once, by a POST with id, title and link.
            remind_url: Told again and again until there is a decision.
            remind_every: How often; a second at least.
            name: Part of what its id derives from. The id is the same on every attempt.

        Raises:
            TerminalError: At the await: code 408, `on_timeout` is `fail`; code 400, what was filled
                in fits the schema and not the type.
            UsageError: HF0590, an argument makes no sense; HF0591, a form has no JSON schema;
                HF0505, something has no JSON.
        """
        branch = self._branch("approve")
        machine, host = self._attempt.machine, self._attempt.host
        hooks = _checked_hooks(notify_url, remind_url, remind_every)
        _check_text("title", title, TITLE_LENGTH_MAX, is_needed=True)
        _check_text("why", why, TEXT_LENGTH_MAX)
        if on_timeout not in ON_TIMEOUT:
            raise _wrong("on_timeout", f"one of {', '.join(ON_TIMEOUT)}, not {on_timeout!r}")
        content, schema = _encode_arguments(arguments, editable)
        key = branch.key("approve", name)
        wait_ms = 0 if timeout is None else milliseconds(timeout, "timeout")
        until_ms = 0 if timeout is None else min(host.now_ms() + max(wait_ms, 1), TIME_MS_MAX)
        asked = AskApproval(
            index=machine.sys_awakeable(key),
            title=title,
            why=why,
            assignees=_checked_assignees(assignee),
            payload=_json("payload", payload),
            form=b"" if form is None else encode_schema(schema_of(form, "form"), "form"),
            arguments=content,
            arguments_schema=schema,
            expires_at_ms=until_ms,
            on_timeout=on_timeout,
            name=name,
            key=key,
            site=call_site(),
        )
        serde: Serde[Any] | None = None
        if form is not None and not isinstance(form, Mapping):
            serde = serde_for(form)
        approval_id = awakeable_id(machine.start.invocation_id, asked.index)
        if machine.start.has_extensions:
            try:
                asked = machine.sys_ask(branch.path, asked)
            except JournalMismatch as error:
                self._attempt.mismatch(error)
        approval = make_approval(self._attempt, asked, approval_id, serde)
        machine.expect_signal(asked.index, approval)
        if not machine.start.has_extensions:
            self._ask_without_inbox(approval, None if timeout is None else wait_ms / 1000)
        if hooks.is_wanted and not approval.done():
            loop = asyncio.get_running_loop()
            approval.helped_by(loop.create_task(_tell(self, approval, hooks)))
        return approval

    def _ask_without_inbox(self, approval: Approval[Any], timeout_s: float | None) -> None:
        """Ask where the server has no inbox: the id is all there is, and the deadline is ours."""
        machine = self._attempt.machine
        if not machine.is_replaying:
            _logger.warning(
                "approval %s waits; this server has no inbox: complete it as an awakeable, with"
                ' {"approved": true}',
                approval.id,
                extra={"invocation_id": machine.start.invocation_id},
            )
        if timeout_s is not None and not approval.done():
            loop = asyncio.get_running_loop()
            approval.helped_by(loop.call_later(timeout_s, approval.time_out))


class _Hooks(msgspec.Struct, frozen=True):
    notify_url: str | None
    remind_url: str | None
    every_ms: int

    @property
    def is_wanted(self) -> bool:
        return self.notify_url is not None or self.remind_url is not None


async def _tell(verbs: ApproveVerbs, approval: Approval[Any], hooks: _Hooks) -> None:
    """Tell about an approval until it is decided; then this task is cancelled."""
    # A cancellation of the invocation is for the handler; it must not be used up here.
    shield()
    ctx = verbs._attempt.context  # pyright: ignore[reportPrivateUsage]
    number = 0
    url = hooks.notify_url
    while True:
        if url is not None:
            body = _hook_body(verbs, approval, number)
            try:
                await ctx.run("tell about approval", post_json, url, body, retry=_HOOK_RETRY)
            except TerminalError as error:
                if not ctx.is_replaying:
                    _logger.warning(
                        "an approval goes on without a webhook that failed: %s",
                        error.message,
                        extra={"invocation_id": ctx.id},
                    )
        url = hooks.remind_url
        if url is None:
            return
        number += 1
        await ctx.sleep(timedelta(milliseconds=hooks.every_ms), "until reminder")


def _hook_body(verbs: ApproveVerbs, approval: Approval[Any], number: int) -> bytes:
    start = verbs._attempt.machine.start  # pyright: ignore[reportPrivateUsage]
    asked = approval.asked
    return msgspec.json.encode(
        {
            "id": approval.id,
            "invocation_id": start.invocation_id,
            "service": start.service,
            "handler": start.handler,
            "title": asked.title,
            "why": asked.why,
            "assignees": asked.assignees,
            "link": approval.link,
            "expires_at_ms": asked.expires_at_ms or None,
            "reminder": number,
        }
    )


def _checked_hooks(
    notify_url: str | None, remind_url: str | None, remind_every: Duration | None
) -> _Hooks:
    for what, url in (("notify_url", notify_url), ("remind_url", remind_url)):
        if url is not None and not is_web_url(url):
            raise _wrong(what, f"an http or https URL, not {url!r}")
    if (remind_url is None) != (remind_every is None):
        raise _wrong("remind_url", "given together with remind_every")
    every_ms = 0 if remind_every is None else milliseconds(remind_every, "remind_every")
    if remind_every is not None and every_ms < _REMINDER_MS_MIN:
        raise _wrong("remind_every", f"a second or more, not {remind_every!r}")
    return _Hooks(notify_url, remind_url, every_ms)


def _checked_assignees(assignee: str | Sequence[str]) -> tuple[str, ...]:
    names = (assignee,) if isinstance(assignee, str) else tuple(assignee)
    for name in names:
        _check_text("assignee", name, TITLE_LENGTH_MAX, is_needed=True)
    return names


def _check_text(what: str, text: object, length_max: int, *, is_needed: bool = False) -> None:
    if not isinstance(text, str) or len(text) > length_max or (is_needed and not text.strip()):
        raise _wrong(what, f"text of at most {length_max} characters, not {text!r:.100}")
    if is_needed and any(mark in text for mark in "\r\n\0"):
        raise _wrong(what, "one line")


def _encode_arguments(
    arguments: Mapping[str, Any] | None, editable: Mapping[str, Any] | None
) -> tuple[bytes, bytes]:
    if arguments is None:
        if editable is not None:
            raise _wrong("editable", "given together with arguments")
        return b"", b""
    content = _json("arguments", dict(arguments))
    if editable is None:
        return content, b""
    schema = arguments_schema(msgspec.json.decode(content), editable)
    return content, encode_schema(schema, "editable")


def _json(what: str, value: object) -> bytes:
    serde = serde_of(value, None)
    if serde.content_type != JSON:
        raise _wrong(what, f"something that has JSON, not {type(value).__name__}")
    return encode_value(serde, value, f"The {what} of an approval")


def _wrong(what: str, expected: str) -> UsageError:
    return UsageError(f"ctx.approve: {what} must be {expected}", code="HF0590")
