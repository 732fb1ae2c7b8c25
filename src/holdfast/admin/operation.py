"""What people can do to one invocation: the verbs, how their outcome is told, and their routes."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from holdfast.admin.http import Request, json_response
from holdfast.admin.invocation_view import STATUS_NAMES
from holdfast.admin.query import parse_deployment, parse_mode, parse_restart
from holdfast.domain.errors import ConflictError, HoldfastError, NotFoundError
from holdfast.domain.message import SIGNAL_CANCEL, Signal, Void
from holdfast.engine.decision import Answer, Reply
from holdfast.engine.row import Status
from holdfast.server.handle import DEPLOYMENT_KEEP, DEPLOYMENT_LATEST, ServerHandle
from holdfast.web.asgi import Response
from holdfast.web.printed_id import checked_invocation_id
from holdfast.web.problem import Refusal

_NOT_BEGUN = (Status.SCHEDULED, Status.PENDING)
_OPEN = tuple(status for status in Status if status is not Status.COMPLETED)


class Wish(NamedTuple):
    """What else was said with a verb."""

    deployment: str | None = None
    """An id, `latest` or `keep`; None leaves it to the verb."""
    from_index: int = 0
    idempotency_key: str | None = None


class Done(NamedTuple):
    """What a verb has done to an invocation."""

    result: str
    """One or two words, such as `paused` or `already paused`."""
    status: Status | None
    """Before; of a restart, that of the new one."""
    new_invocation_id: str | None = None


_Ask = Callable[[ServerHandle, str, Wish], Awaitable[tuple[Answer, str | None]]]


class Verb(NamedTuple):
    """Something to do to invocations."""

    name: str
    """As in paths."""
    result: str
    statuses: tuple[Status, ...]
    """Where it can do something."""
    selected: tuple[Status, ...]
    """Which of these a filter means that names no status."""
    ask: _Ask
    again: str = ""
    """The result when it had been done before."""

    async def do(self, handle: ServerHandle, invocation_id: str, wish: Wish) -> Done:
        """Do it.

        Raises:
            HoldfastError: It was refused; says why.
        """
        answer, new_id = await self.ask(handle, invocation_id, wish)
        _check(self, answer, invocation_id)
        result = self.result
        if answer.reply in (Reply.IGNORED, Reply.PREVIOUSLY_ACCEPTED) and self.again:
            result = self.again
        elif self is CANCEL and answer.status in _NOT_BEGUN:
            result = "cancelled"
        return Done(result, answer.status, new_id)


async def _cancel(handle: ServerHandle, invocation_id: str, _: Wish) -> tuple[Answer, None]:
    return await handle.signal(invocation_id, Signal(Void(), index=SIGNAL_CANCEL)), None


async def _kill(handle: ServerHandle, invocation_id: str, _: Wish) -> tuple[Answer, None]:
    return await handle.kill(invocation_id), None


async def _pause(handle: ServerHandle, invocation_id: str, _: Wish) -> tuple[Answer, None]:
    return await handle.operations.pause(invocation_id), None


async def _resume(handle: ServerHandle, invocation_id: str, wish: Wish) -> tuple[Answer, None]:
    deployment = wish.deployment or DEPLOYMENT_KEEP
    return await handle.operations.resume(invocation_id, deployment), None


async def _restart(handle: ServerHandle, invocation_id: str, wish: Wish) -> tuple[Answer, str]:
    new_id, answer = await handle.operations.restart(
        invocation_id, wish.from_index, wish.deployment or DEPLOYMENT_LATEST, wish.idempotency_key
    )
    return answer, new_id


async def _purge(handle: ServerHandle, invocation_id: str, _: Wish) -> tuple[Answer, None]:
    return await handle.operations.purge(invocation_id), None


async def _purge_journal(handle: ServerHandle, invocation_id: str, _: Wish) -> tuple[Answer, None]:
    return await handle.operations.purge(invocation_id, is_journal_only=True), None


_STARTED = (Status.RUNNING, Status.SUSPENDED, Status.BACKING_OFF)
_RESUMABLE = (Status.PAUSED, Status.SUSPENDED, Status.BACKING_OFF)
# Most suspended ones would only suspend again, so they are resumed when they are named.
_STUCK = (Status.PAUSED, Status.BACKING_OFF)
_ENDED = (Status.COMPLETED,)

CANCEL = Verb("cancel", "cancelling", _OPEN, _OPEN, _cancel)
KILL = Verb("kill", "killed", _OPEN, _OPEN, _kill)
PAUSE = Verb("pause", "paused", _STARTED, _STARTED, _pause, "already paused")
RESUME = Verb("resume", "resumed", _RESUMABLE, _STUCK, _resume)
RESTART = Verb("restart-as-new", "restarted", _ENDED, _ENDED, _restart, "already restarted")
PURGE = Verb("purge", "purged", _ENDED, _ENDED, _purge)
PURGE_JOURNAL = Verb(
    "purge-journal", "journal purged", _ENDED, _ENDED, _purge_journal, "journal already purged"
)
VERBS = {verb.name: verb for verb in (CANCEL, KILL, PAUSE, RESUME, RESTART, PURGE, PURGE_JOURNAL)}


class OperationEndpoints:
    """The routes of single invocations. The status codes are those of Restate's admin API."""

    def __init__(self, handle: ServerHandle) -> None:
        self._handle = handle

    async def _do(self, verb: Verb, request: Request, wish: Wish | None = None) -> Done:
        invocation_id = checked_invocation_id(request.params[0])
        return await verb.do(self._handle, invocation_id, wish or Wish())

    async def end(self, request: Request) -> Response:
        """Cancel, or with `mode` kill or purge, an invocation, if it is there. Old tools use it."""
        verb = parse_mode(request.query)
        # The form promises no more than that it was asked: the verbs below tell what came of it.
        with contextlib.suppress(NotFoundError, ConflictError):
            await self._do(VERBS[verb], request)
        return Response(202, [], b"")

    async def cancel(self, request: Request) -> Response:
        """Cancel an invocation: at once when it has not begun, else its handler is told."""
        done = await self._do(CANCEL, request)
        return Response(202 if done.result == CANCEL.result else 200, [], b"")

    async def kill(self, request: Request) -> Response:
        """Kill an invocation and all that it called."""
        await self._do(KILL, request)
        return Response(200, [], b"")

    async def pause(self, request: Request) -> Response:
        """End the running attempt and start no more."""
        done = await self._do(PAUSE, request)
        return _told(done, 202 if done.result == PAUSE.result else 200)

    async def resume(self, request: Request) -> Response:
        """Start an attempt now; with `deployment`, on that one."""
        return _told(await self._do(RESUME, request, Wish(parse_deployment(request.query))))

    async def restart(self, request: Request) -> Response:
        """Make a new invocation of a completed one; with `from`, one that has done that much."""
        from_index, deployment = parse_restart(request.query)
        key = request.headers.get("idempotency-key")
        return _told(await self._do(RESTART, request, Wish(deployment, from_index, key)))

    async def purge(self, request: Request) -> Response:
        """Forget a completed invocation."""
        return _told(await self._do(PURGE, request))

    async def purge_journal(self, request: Request) -> Response:
        """Forget what a completed invocation did, but not its outcome."""
        return _told(await self._do(PURGE_JOURNAL, request))


def _told(done: Done, status: int = 200) -> Response:
    body: dict[str, object] = {"result": done.result}
    if done.new_invocation_id is not None:
        body["new_invocation_id"] = done.new_invocation_id
    return json_response(body, status)


def unknown_invocation(invocation_id: str) -> NotFoundError:
    """Return the error for an invocation that does not exist."""
    return NotFoundError(
        f"There is no invocation {invocation_id}.",
        code="HF1004",
        hint="It was never made, its retention has passed, or it was purged.",
    )


def _check(verb: Verb, answer: Answer, invocation_id: str) -> None:
    deed = verb.name
    match answer.reply:
        case Reply.NOT_FOUND:
            raise unknown_invocation(invocation_id)
        case Reply.ALREADY_COMPLETED:
            raise ConflictError(
                f"Invocation {invocation_id} has completed; there is nothing to {deed}.",
                hint="Its outcome can be read through the ingress, with output.",
            )
        case Reply.CONFLICT:
            assert answer.status is not None
            raise refused_in(verb, invocation_id, answer.status)
        case Reply.OVERLOADED:
            raise Refusal(
                429,
                "HF1429",
                f"The server cannot {deed} {invocation_id} now: a queue is full.",
                hint="Try again in a moment.",
            )
        case Reply.GONE | Reply.OUT_OF_RANGE | Reply.UNSUPPORTED:
            raise _not_restarted(answer.reply, invocation_id)
        case _:
            # Accepted, or asked for twice: either way it is on record.
            return


def _not_restarted(reply: Reply, invocation_id: str) -> Refusal:
    if reply is Reply.GONE:
        return Refusal(
            410,
            "HF1253",
            f"The journal of {invocation_id} was purged, and its input with it.",
            hint="Call the handler again with the same input.",
        )
    if reply is Reply.UNSUPPORTED:
        return Refusal(
            422,
            "HF1254",
            f"{invocation_id} belongs to a workflow, which runs once per key.",
            hint="Start the workflow under another key, or purge this run first.",
        )
    return Refusal(
        400,
        "HF1255",
        f"{invocation_id} cannot be restarted from this entry: it is not in its journal, it is"
        " its output or behind it, or the journal has more than 10,000 entries.",
        hint="Take an index from the journal, before that of the output; 0 keeps only the input.",
    )


def refused_in(verb: Verb, invocation_id: str, status: Status) -> HoldfastError:
    """Return the refusal of a verb that can do nothing in the status of an invocation."""
    found = f"Invocation {invocation_id} is {STATUS_NAMES[status]}"
    if status in _NOT_BEGUN and verb in (PAUSE, RESUME, RESTART):
        return Refusal(
            409 if verb is PAUSE else 425,
            "HF1251",
            f"{found}: it has not begun, so there is nothing to {verb.name}.",
            hint="It begins by itself; to prevent that, cancel it.",
        )
    if verb is RESUME:
        hint = "To move it to another deployment, pause it, then resume it there."
    else:
        hint = "Wait until it has completed, or cancel or kill it first."
    names = ", ".join(STATUS_NAMES[each] for each in verb.statuses)
    return ConflictError(f"{found}; {verb.name} is for what is {names}.", code="HF1250", hint=hint)
