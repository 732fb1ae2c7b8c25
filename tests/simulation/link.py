"""The connection between one server and one worker: late, and sometimes cut."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from holdfast.domain.message import (
    SIGNAL_CANCEL,
    Emitted,
    Entry,
    FromHandler,
    Signal,
    Start,
    ToHandler,
)
from holdfast.transport.base import AttemptStream, HandlerStream, Refusal

from .loop import Process
from .wait import Combining

if TYPE_CHECKING:
    from .world import Server, Worker, World

Call = tuple[Callable[..., Any], tuple[Any, ...]]


class OrderedSet(dict[Any, None]):
    """A set that iterates alike in every process: for what production code keeps in sets."""

    def add(self, item: Any) -> None:
        self[item] = None

    def discard(self, item: Any) -> None:
        self.pop(item, None)


class Pipe:
    """One direction of one stream: calls arrive late, in order, in a process that lives."""

    def __init__(self, world: World, to: Process, random: Random) -> None:
        self._world = world
        self._to = to
        self._random = random
        self._queue: deque[Call | None] = deque()
        self._last_s = 0.0

    def push(self, call: Callable[..., Any], *args: Any) -> None:
        loop = self._world.loop
        delay_s = self._random.random() * 2 * self._world.faults.link_latency_s
        self._last_s = max(self._last_s, self._world.true_s() + delay_s)
        self._queue.append((call, args))
        loop.call_at(self._last_s, self._pop, context=self._to.context)

    def lose(self) -> None:
        """Lose what is under way."""
        self._queue = deque(None for _ in self._queue)

    def _pop(self) -> None:
        item = self._queue.popleft()
        if item is not None and not self._to.is_dead:
            call, args = item
            call(*args)


class Link:
    """Implements `HandlerPort` for the server."""

    def __init__(self, world: World, server: Server, worker: Worker) -> None:
        self.world = world
        self.server = server
        self.worker = worker
        self.deployment_name = worker.app.deployment_name
        self.manifest = worker.app.manifest
        self.is_draining = False
        self.joints = OrderedSet()
        self.is_closed = False

    def open(self, start: Start, entries: Sequence[Entry], stream: AttemptStream) -> Joint:
        world = self.world
        world.trace("open", start.invocation_id, start.attempt, len(entries), self.worker.name)
        world.checked = self.server
        handler = self.worker.app.services[start.service].handlers[start.handler]
        delivery = world.oracle.on_open(
            start.invocation_id, start.attempt, entries, is_keyed=handler.is_keyed
        )
        joint = Joint(self, start, stream, delivery)
        if self.is_closed:
            joint.to_server.push(joint.end, "worker connection lost")
        elif joint.is_refused():
            world.count("attempts refused")
            joint.to_server.push(joint.refuse)
        else:
            self.joints.add(joint)
            joint.to_handler.push(joint.begin, start, tuple(entries))
        return joint

    def close(self, *, server_hears: bool, worker_hears: bool) -> None:
        """Cut everything."""
        self.is_closed = True
        self.is_draining = True
        for joint in list(self.joints):
            joint.cut("worker connection lost", server_hears, worker_hears)


class Joint:
    """Both ends of one attempt: `HandlerStream` for the server, `ServerStream` for the handler."""

    def __init__(self, link: Link, start: Start, stream: AttemptStream, delivery: Any) -> None:
        world = link.world
        self.delivery = delivery
        self._link = link
        self._world = world
        self._stream = stream
        self._random = Random(
            f"{world.seed}/{start.invocation_id}/{start.attempt}/{link.server.name}"
        )
        self._handler: HandlerStream | None = None
        self._is_cut = False
        self._is_over_for_server = False
        # Drawn apart, as in `is_refused`: whether the end of the input is that of an HTTP request,
        # behind which nothing can be delivered.
        draw = Random(f"deaf/{world.seed}/{start.invocation_id}/{start.attempt}")
        self._is_deaf_when_closed = draw.random() < 0.5
        self._is_input_closed = False
        self.to_server = Pipe(world, link.server.process, self._random)
        self.to_handler = Pipe(world, link.worker.process, self._random)
        # Drawn apart, so that the faults of an attempt stay what they are.
        self._combining = Combining(Random(f"wait/{world.seed}/{start.invocation_id}"))

    # Called by the server.

    def send(self, notifications: Sequence[ToHandler]) -> None:
        self._world.checked = self._link.server
        if self._is_input_closed and self._is_deaf_when_closed:
            if any(isinstance(n, Signal) and n.index == SIGNAL_CANCEL for n in notifications):
                self._world.count("cancels unheard")
                self._push(self.to_server, self._unheard)
            return
        recorded = [n for n in notifications if not isinstance(n, Emitted)]
        self._world.oracle.on_delivery(self.delivery, recorded)
        self._push(self.to_handler, self._send, tuple(notifications))

    def close_input(self) -> None:
        self._is_input_closed = True
        self._push(self.to_handler, self._close_input)

    def abort(self) -> None:
        self._is_over_for_server = True
        self.to_handler.push(self._abort)
        self._forget()

    # Called by the handler.

    def on_messages(self, messages: Sequence[FromHandler]) -> None:
        self._combining.look(messages)
        combined = self._combining.combined(messages)
        if combined != tuple(messages):
            self._world.count("trees")
        self._push(self.to_server, self._to_server, combined)

    def on_closed(self, reason: str | None) -> None:
        self._link.worker.open_joints.discard(self)
        self._push(self.to_server, self.end, reason)

    # At the other end.

    def begin(self, start: Start, entries: tuple[Entry, ...]) -> None:
        if self._is_cut:
            return
        self._combining.look(entries)
        handler = self._link.worker.app.open(start, entries, self)
        if hasattr(handler, "_tasks"):
            handler._tasks = OrderedSet()
        self._handler = handler
        self._link.worker.open_joints.add(self)

    def is_refused(self) -> bool:
        """Whether the worker answers as an overloaded endpoint does, and runs nothing."""
        # Drawn apart, so that the other faults of an attempt stay what they are.
        start = self.delivery
        draw = Random(f"refuse/{self._world.seed}/{start.invocation_id}/{start.attempt}")
        return self._world.is_chaos and draw.random() < self._world.faults.link_cut

    def refuse(self) -> None:
        self._forget()
        if not self._is_over_for_server:
            self._is_over_for_server = True
            wait_ms = self._random.choice([None, 0, 200])
            refusal = Refusal(503, wait_ms, is_counted=self._random.random() < 0.5)
            self._stream.on_refused("the endpoint is overloaded", refusal)

    def end(self, reason: str | None) -> None:
        self._forget()
        if not self._is_over_for_server:
            self._is_over_for_server = True
            self._stream.on_closed(reason)

    def cut(self, reason: str, server_hears: bool = True, worker_hears: bool = True) -> None:
        """End both sides; what is under way may be lost."""
        if self._is_cut:
            return
        self._is_cut = True
        self._forget()
        if self._random.random() < 0.5:
            self.to_server.lose()
        if self._random.random() < 0.5:
            self.to_handler.lose()
        if server_hears:
            self.to_server.push(self.end, reason)
        if worker_hears:
            self.to_handler.push(self._abort)

    def _push(self, pipe: Pipe, call: Callable[..., Any], *args: Any) -> None:
        if self._is_cut:
            return
        if self._world.is_chaos and self._random.random() < self._world.faults.link_cut:
            self._world.trace("cut", self.delivery.invocation_id, self.delivery.attempt)
            self._world.count("streams cut")
            self.cut("connection lost")
            return
        pipe.push(call, *args)

    def _unheard(self) -> None:
        if not self._is_over_for_server:
            self._stream.on_unheard()

    def _forget(self) -> None:
        self._link.joints.discard(self)

    def _send(self, notifications: tuple[ToHandler, ...]) -> None:
        if self._handler is not None:
            self._handler.send(notifications)

    def _close_input(self) -> None:
        if self._handler is not None:
            self._handler.close_input()

    def _abort(self) -> None:
        self.abort_now()

    def abort_now(self) -> None:
        """Stop the handler, in this turn."""
        self._is_cut = True
        if self._handler is not None:
            self._handler.abort()

    def _to_server(self, messages: tuple[FromHandler, ...]) -> None:
        if not self._is_over_for_server:
            self._world.trace("sent", self.delivery.invocation_id, messages)
            self._stream.on_messages(messages)
