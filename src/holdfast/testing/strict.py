"""Refuses what makes a handler differ from one attempt to the next.

Two hooks of the interpreter watch the thread of the event loop. The profile hook sees calls that
read clocks or draw randomness, however the name was imported; it minds only those that stand in the
user's own code, because libraries look at clocks for reasons of theirs. The audit hook sees files,
connections and processes being opened, by the user's code or by a library on its behalf.

Both look at the context first: only the code of handlers is watched, not bodies of steps, tests,
threads, or what Holdfast does itself. Imports, logging and tracebacks may read files.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import random
import secrets
import sys
import sysconfig
import threading
import time
import uuid
from collections.abc import Callable
from enum import Enum
from types import CodeType, FrameType, TracebackType
from typing import Any, NamedTuple

from holdfast.domain.errors import HoldfastError, UsageError
from holdfast.sdk.branch import Branch, place


class _Rule(NamedTuple):
    what: str
    instead: str


_CLOCK = "Use ctx.now(): the time of the journal."
_RANDOM = "Use ctx.random or ctx.uuid(): the same on every attempt."
_STEP = "Do it in a step: await ctx.run(name, function, …)."

_C_RULES: dict[object, _Rule] = {
    **{
        function: _Rule(f"time.{function.__name__}() reads the clock", _CLOCK)
        for function in (
            time.time,  # noqa: TID251  # named here to be refused
            time.time_ns, time.monotonic, time.monotonic_ns,
            time.perf_counter, time.perf_counter_ns,
        )
    },
    time.sleep: _Rule("time.sleep() stops the event loop", "Use await ctx.sleep(…)."),
    os.urandom: _Rule("os.urandom() draws randomness", _RANDOM),
    random.random: _Rule("random.random() draws randomness", _RANDOM),
    random.getrandbits: _Rule("random.getrandbits() draws randomness", _RANDOM),
}  # fmt: skip
_PYTHON_RULES: dict[CodeType, _Rule] = {
    function.__code__: _Rule(f"{function.__module__}.{function.__name__}()", _RANDOM)
    for function in (
        uuid.uuid4,  # noqa: TID251  # named here to be refused
        uuid.uuid1, secrets.token_bytes, secrets.token_hex, secrets.token_urlsafe,
        secrets.randbelow,
    )
}  # fmt: skip
_DATE_CALLS = frozenset({"now", "utcnow", "today"})
_RANDOM_FILE = random.randint.__code__.co_filename
_SHARED_RANDOM = getattr(random.randint, "__self__", None)

_AUDITED = {
    "open": "opens a file",
    **dict.fromkeys(
        ("os.listdir", "os.scandir", "os.remove", "os.rename", "os.mkdir", "os.rmdir"),
        "uses the file system",
    ),
    **dict.fromkeys(
        (
            "socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg",
            "socket.getaddrinfo", "socket.gethostbyname",
        ),
        "uses the network",
    ),
    **dict.fromkeys(
        ("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn"),
        "starts a process",
    ),
    "sqlite3.connect": "opens a database",
}  # fmt: skip


class _Owner(Enum):
    USER = 1
    LIBRARY = 2
    EXEMPT = 3
    """May do anything, and so may what it calls."""


_LIBRARIES = tuple(
    {
        os.path.join(sysconfig.get_path(name), "")
        for name in ("stdlib", "platstdlib", "purelib", "platlib")
    }
)
_OURS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
_EXEMPT_FILES = frozenset({"linecache.py", "traceback.py", "tokenize.py", "warnings.py"})
_owners: dict[CodeType, _Owner] = {}
"""Grows with the code, not with the calls."""


def _owner_of(code: CodeType) -> _Owner:
    owner = _owners.get(code)
    if owner is None:
        owner = _owners[code] = _find_owner(code.co_filename)
    return owner


def _find_owner(file: str) -> _Owner:
    if file.startswith(("<frozen importlib", _OURS)):
        return _Owner.EXEMPT
    if not file.startswith(("<", *_LIBRARIES)) and "-packages" + os.sep not in file:
        return _Owner.USER
    folder, name = os.path.split(file)
    is_exempt = os.path.basename(folder) in ("logging", "importlib") or name in _EXEMPT_FILES
    return _Owner.EXEMPT if is_exempt else _Owner.LIBRARY


class Watch:
    """Watches the handlers of this thread while it is entered.

    Args:
        report: Told of each thing that was refused. It is raised in the handler, too, but a handler
            may catch it.
    """

    def __init__(self, report: Callable[[HoldfastError], None]) -> None:
        self._report = report
        self._thread = threading.get_ident()
        self._loop = asyncio.get_running_loop()
        self._before: Any = None
        self._is_on = False

    def __enter__(self) -> None:
        """Begin."""
        global _is_auditing
        if not _is_auditing:
            # Once and for ever: audit hooks cannot be removed.
            _is_auditing = True
            sys.addaudithook(_on_audit)
        _watches[self._thread] = self
        self._before = sys.getprofile()
        self._is_on = True
        sys.setprofile(self._on_call)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self._is_on = False
        sys.setprofile(self._before)
        _watches.pop(self._thread, None)

    def _on_call(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "c_call":
            rule, caller = _c_rule(arg), frame
        elif event == "call" and frame.f_back is not None:
            rule, caller = _python_rule(frame), frame.f_back
        else:
            return
        if rule is not None and _owner_of(caller.f_code) is _Owner.USER:
            handler = _watched_handler()
            if handler is not None:
                # An exception takes the hook away.
                self._loop.call_soon(self._again)
                self.refuse(rule, caller, handler)

    def _again(self) -> None:
        if self._is_on:
            sys.setprofile(self._on_call)

    def on_audit(self, event: str, args: tuple[Any, ...]) -> None:
        """Look at an event of the interpreter."""
        what = _AUDITED.get(event)
        handler = None if what is None else _watched_handler()
        if handler is None:
            return
        frame: FrameType | None = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
        while frame is not None:
            owner = _owner_of(frame.f_code)
            if owner is _Owner.EXEMPT:
                return
            if owner is _Owner.USER:
                detail = f" {args[0]!r}" if event == "open" and args else ""
                self.refuse(_Rule(f"This {what}{detail}", _STEP), frame, handler)
            frame = frame.f_back

    def refuse(self, rule: _Rule, frame: FrameType, handler: str) -> None:
        """Raise."""
        code = frame.f_code
        error = UsageError(
            f"{rule.what} in {handler}, outside of a step, so a replay would differ\n"
            f"  at {code.co_filename}:{frame.f_lineno} {code.co_qualname}",
            code="HF0552",
            hint=rule.instead,
        )
        self._report(error)
        raise error


_is_auditing = False
_watches: dict[int, Watch] = {}
"""By thread."""


def _on_audit(event: str, args: tuple[Any, ...]) -> None:
    # On every event of the process, so it does little before it knows better.
    if event in _AUDITED:
        watch = _watches.get(threading.get_ident())
        if watch is not None:
            watch.on_audit(event, args)


def _watched_handler() -> str | None:
    """Return the handler whose code is running, unless a step's body is."""
    branch = place.get()
    if type(branch) is not Branch or branch.attempt is None or not branch.attempt.is_open:
        return None
    return str(branch.attempt.handler)


def _c_rule(function: Any) -> _Rule | None:
    rule = _C_RULES.get(function)
    if rule is None and function.__name__ in _DATE_CALLS:
        owner = getattr(function, "__self__", None)
        if isinstance(owner, type) and issubclass(owner, datetime.date):
            return _Rule(f"{owner.__name__}.{function.__name__}() reads the clock", _CLOCK)
    return rule


def _python_rule(frame: FrameType) -> _Rule | None:
    code = frame.f_code
    rule = _PYTHON_RULES.get(code)
    if rule is None and code.co_filename == _RANDOM_FILE:
        owner = frame.f_locals.get("self")
        if owner is _SHARED_RANDOM or isinstance(owner, random.SystemRandom):
            return _Rule(f"random.{code.co_name}() draws randomness", _RANDOM)
    return rule
