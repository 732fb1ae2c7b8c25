"""Everything that a run consists of: servers, workers, the database, time, and what goes wrong."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, TypeVar

from holdfast.domain.errors import StorageError, StorageUnavailable
from holdfast.engine.decision import Action, Answer, StartAttempt
from holdfast.engine.record import AttemptLost, HandlerSent, Inbound, Record, TimerFired
from holdfast.engine.row import Status
from holdfast.sdk.app import App
from holdfast.server.clock import Alarm
from holdfast.server.host import Host
from holdfast.server.partition import Partition

from .checker import Oracle, Violation
from .faults import Faults
from .link import Link, OrderedSet
from .loop import Process, SimLoop
from .store import Session, SimStore

T = TypeVar("T")

BEGIN_MS = 1_700_000_000_000
PARTITION_COUNT = 3


class ConnectionLost(Exception):
    """A client does not know what became of its request."""


class SimClock:
    """The clock of one server or worker."""

    def __init__(self, world: World, skew_ms: int) -> None:
        self._world = world
        self._skew_ms = skew_ms
        self.highest_ms = 0

    def now_ms(self) -> int:
        now_ms = self._now_ms()
        self.highest_ms = max(self.highest_ms, now_ms)
        return now_ms

    def _now_ms(self) -> int:
        return BEGIN_MS + int(self._world.true_s() * 1000) + self._skew_ms + self._world.jumped_ms

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Alarm:
        return asyncio.get_running_loop().call_later(delay_s, callback)

    def call_at(self, at_ms: int, callback: Callable[[], None]) -> Alarm:
        return self.call_later(min(max(0.0, (at_ms - self.now_ms()) / 1000), 60.0), callback)

    def entropy(self, size: int) -> bytes:
        return self._world.random.randbytes(size)


class SimHost(Host):
    """A host whose actions are watched, and that may die between two of them."""

    server: Server

    def _act(self, partition: Partition, action: Action) -> None:
        world, server = self.server.world, self.server
        if server.process.is_dead:
            return
        world.dispatch_number += 1
        if world.is_chaos and world.dispatch_number in world.faults.crash_at_dispatch:
            world.crash(server, f"at dispatch {world.dispatch_number}")
            return
        world.checked = server
        world.trace("act", partition.index, type(action).__name__)
        world.oracle.on_action(partition.index, action)
        if isinstance(action, StartAttempt):
            world.count("attempts")
        super()._act(partition, action)


class Server:
    """One incarnation of the server."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.name = f"server {number}"
        self.process = Process(self.name)
        self.clock = SimClock(world, world.skew(world.faults.server_skew_ms))
        self.session = Session(world, self)
        self.is_ready = False
        self.gone: asyncio.Future[None] = world.loop.create_future()
        self.links: list[Link] = []
        self.host: SimHost

    async def start(self, delay_s: float) -> None:
        world = self.world
        await asyncio.sleep(delay_s)
        self.host = SimHost(
            self.session,
            self.clock,
            owner=self.name,
            inactivity_timeout_ms=world.faults.inactivity_timeout_ms,
            on_fatal=self._on_fatal,
        )
        self.host.server = self
        self.host._invoker._open = OrderedSet()  # type: ignore[assignment]
        try:
            await self.host.start()
        except StorageError as error:
            self._on_fatal(error)
            return
        for partition in self.host._partitions:
            Gate(self, partition)
        self.is_ready = True
        world.trace("ready", self.name)
        for worker in world.workers:
            world.connect(self, worker)

    def _on_fatal(self, error: BaseException) -> None:
        self.world.trace("fatal", self.name, str(error))
        self.world.loop.call_soon(self.world.crash, self, "stopped by itself")


class Gate:
    """Stands before one partition: messages come late, twice, or only at the second try."""

    def __init__(self, server: Server, partition: Partition) -> None:
        self._server = server
        self._world = server.world
        self._partition = partition
        self._submit = partition.submit
        self._propose = partition.propose
        self._late: dict[int, deque[tuple[Inbound, asyncio.Future[Answer]]]] = {}
        partition.submit = self.submit  # type: ignore[method-assign]
        partition.propose = self.propose  # type: ignore[method-assign]

    def submit(self, record: Record, then: Callable[[], None] | None = None) -> None:
        world, faults = self._world, self._world.faults
        if self._server.process.is_dead:
            return
        world.checked = self._server
        match record:
            case TimerFired():
                world.oracle.on_timer(record.timer_at_ms, record.invocation_id, record.slot)
                if world.roll(faults.timer_repeated):
                    self._later(self._submit, record)
            case AttemptLost():
                if world.roll(faults.loss_repeated):
                    self._later(self._submit, record)
            case HandlerSent():
                world.oracle.on_sent(record)
                if world.roll(faults.stale_message):
                    self._later(self._send_stale, record)
        self._submit(record, then)

    def _send_stale(self, record: HandlerSent) -> None:
        """Say once more what an attempt has said, after another one has begun."""
        world = self._world
        life = world.oracle.lives.get(record.invocation_id)
        server = world.current()
        if server is None or life is None or life.row is None:
            return
        partition = server.host._partitions[self._partition.index]
        if (
            life.row.attempt > record.attempt
            or life.row.status is Status.COMPLETED
            or partition.epoch > record.epoch
        ):
            world.count("stale messages")
            world.oracle.on_sent(record)
            Partition.submit(partition, record)

    def propose(self, record: Record) -> asyncio.Future[Answer]:
        world, faults = self._world, self._world.faults
        if self._server.process.is_dead:
            return world.loop.create_future()
        if not isinstance(record, Inbound):
            return self._propose(record)
        world.checked = self._server
        world.oracle.on_inbound(record.from_partition, record.sequence)
        if world.roll(faults.message_lost):
            world.count("messages lost")
            raise StorageUnavailable("The message was lost (simulated).")
        late = self._late.setdefault(record.from_partition, deque())
        if late or world.roll(faults.message_delayed):
            answer: asyncio.Future[Answer] = world.loop.create_future()
            late.append((record, answer))
            self._later(self._deliver_late, record.from_partition)
            return answer
        return self._deliver(record)

    def _deliver(self, record: Inbound) -> asyncio.Future[Answer]:
        """Propose it, once or twice, and perhaps lose the answer."""
        world = self._world
        answer = self._answer(self._propose(record))
        if world.roll(world.faults.message_repeated):
            world.count("messages repeated")
            self._later(self._submit, record)
        return answer

    def _deliver_late(self, sender: int) -> None:
        record, answer = self._late[sender].popleft()
        try:
            inner = self._deliver(record)
        except StorageUnavailable as error:
            if not answer.done():
                answer.set_exception(error)
                answer.exception()
            return
        inner.add_done_callback(lambda done: _copy(done, answer))

    def _answer(self, answer: asyncio.Future[Answer]) -> asyncio.Future[Answer]:
        if not self._world.roll(self._world.faults.answer_lost):
            return answer
        lost: asyncio.Future[Answer] = self._world.loop.create_future()
        error = StorageUnavailable("The answer was lost (simulated).")

        def lose(_: object) -> None:
            if not lost.done():
                lost.set_exception(error)
                lost.exception()

        answer.add_done_callback(lose)
        return lost

    def _later(self, call: Callable[..., Any], *args: Any) -> None:
        delay_s = self._world.random.random() ** 2 * 0.5

        def run() -> None:
            if not self._server.process.is_dead or call == self._send_stale:
                call(*args)

        self._world.loop.call_later(delay_s, run, context=self._server.process.context)


def _copy(done: asyncio.Future[Answer], to: asyncio.Future[Answer]) -> None:
    if to.done() or done.cancelled():
        return
    error = done.exception()
    if error is not None:
        to.set_exception(error)
        to.exception()
    else:
        to.set_result(done.result())


class Worker:
    """One incarnation of a worker."""

    def __init__(self, world: World, number: int, make_app: Callable[[Worker], App]) -> None:
        self.name = f"worker {number}"
        self.process = Process(self.name)
        self.clock = SimClock(world, world.skew(world.faults.worker_skew_ms))
        self.links: list[Link] = []
        self.open_joints = OrderedSet()
        """Attempts that run here, whatever the server thinks."""
        self.app = make_app(self)


class World:
    """One run."""

    def __init__(
        self, seed: int, loop: SimLoop, faults: Faults, make_app: Callable[[Worker], App]
    ) -> None:
        self.seed = seed
        self.loop = loop
        self.true_s = loop.time
        """Before the SDK hooks it: in handlers the loop's own time is the program's."""
        self.faults = faults
        self.random = Random(f"{seed}/world")
        self.store = SimStore(self, PARTITION_COUNT)
        self.oracle = Oracle(self.store, self)
        self.checked: Server | None = None
        """The server whose doing is being checked."""
        self.jumped_ms = 0
        self.is_chaos = True
        self.commit_number = 0
        self.dispatch_number = 0
        self.servers: list[Server] = []
        """Alive, oldest first."""
        self.workers: list[Worker] = []
        self.counts: Counter[str] = Counter()
        self.lines: list[str] | None = None
        self._digest = hashlib.blake2b(digest_size=16)
        self._make_app = make_app
        self._server_count = 0
        self._worker_count = 0

    # -- facts -------------------------------------------------------------------------------------

    def server_ms(self) -> int:
        """Return the latest time that the server that is being checked has seen."""
        assert self.checked is not None
        clock = self.checked.clock
        clock.now_ms()
        return clock.highest_ms

    def skew(self, most_ms: int) -> int:
        return self.random.randint(-most_ms, most_ms)

    def roll(self, probability: float) -> bool:
        return self.is_chaos and self.random.random() < probability

    def count(self, what: str) -> None:
        self.counts[what] += 1

    def trace(self, *what: object) -> None:
        line = f"{self.true_s():.6f} " + " ".join(map(str, what))
        self._digest.update(line.encode())
        if self.lines is not None:
            self.lines.append(line)

    def trace_hash(self) -> str:
        return self._digest.hexdigest()

    def is_replaced(self, name: str, partition: int) -> bool:
        """Return whether another server leads a partition that the one of this name led."""
        server = next((it for it in self.servers if it.name == name), None)
        if server is None or not hasattr(server, "host"):
            return True
        return server.host._partitions[partition].epoch < self.oracle.epochs[partition]

    def current(self) -> Server | None:
        """Return the newest server that answers."""
        return next((server for server in reversed(self.servers) if server.is_ready), None)

    # -- servers -----------------------------------------------------------------------------------

    def start_server(self, delay_s: float = 0.0) -> None:
        self._server_count += 1
        server = Server(self, self._server_count)
        self.servers.append(server)
        self.loop.create_task(server.start(delay_s), context=server.process.context.copy())

    def crash(self, server: Server, why: str) -> None:
        """Nothing of this server happens any more; another one starts, unless one runs."""
        if server.process.is_dead:
            return
        self.trace("crash", server.name, why)
        self.count("server crashes")
        server.process.kill()
        self.servers.remove(server)
        server.gone.set_result(None)
        if hasattr(server, "host"):
            host = server.host
            for timers in host._timers:
                timers.stop()
            if host._invoker._alarm is not None:
                host._invoker._alarm.cancel()
        for link in server.links:
            link.close(server_hears=False, worker_hears=True)
        if not self.servers and self.oracle.first is None:
            self.start_server(self.random.random() * self.faults.server_delay_s)

    def crash_any_server(self) -> None:
        if self.servers:
            self.crash(self.servers[-1], "at a random time")

    def take_over(self) -> None:
        """Start a second server; the first goes on for a while and does not know."""
        old = self.current()
        if old is None:
            return
        self.count("takeovers")
        self.start_server(0.0)
        self.loop.call_later(self.random.random() * 2.0, self.crash, old, "replaced")

    # -- workers -----------------------------------------------------------------------------------

    def start_worker(self) -> None:
        self._worker_count += 1
        worker = Worker(self, self._worker_count, self._make_app)
        self.workers.append(worker)
        for server in self.servers:
            if server.is_ready:
                self.connect(server, worker)

    def connect(self, server: Server, worker: Worker) -> None:
        link = Link(self, server, worker)
        server.links.append(link)
        worker.links.append(link)
        delay_s = self.random.random() * 0.1

        async def attach() -> None:
            await asyncio.sleep(delay_s)
            if not worker.process.is_dead:
                await server.host.attach_worker(link)
                if worker.process.is_dead:
                    server.host.detach_worker(link)

        self.loop.create_task(attach(), context=server.process.context.copy())

    def crash_worker(self) -> None:
        """A worker dies: its attempts end here and now; the server hears of it a little later."""
        if not self.workers:
            return
        worker = self.workers.pop(self.random.randrange(len(self.workers)))
        self.trace("crash", worker.name)
        self.count("worker crashes")
        worker.process.is_dead = True
        for joint in list(worker.open_joints):
            joint.abort_now()
        for link in worker.links:
            link.close(server_hears=True, worker_hears=False)
            if not link.server.process.is_dead:
                self.loop.call_later(
                    self.random.random() * 0.2, self._detach, link,
                    context=link.server.process.context,
                )  # fmt: skip
        self.loop.call_later(self.random.random(), self.start_worker)

    def _detach(self, link: Link) -> None:
        if link.server.is_ready and not link.server.process.is_dead:
            link.server.host.detach_worker(link)

    # -- clients -----------------------------------------------------------------------------------

    async def ask(
        self, request: Callable[[SimHost], Awaitable[T]], patience_s: float | None = None
    ) -> T:
        """Ask the server that is there, as a client would.

        Raises:
            ConnectionLost: It was not there, died meanwhile, or took too long.
        """
        await asyncio.sleep(self.random.random() * 2 * self.faults.link_latency_s)
        server = self.current()
        if server is None:
            raise ConnectionLost("nobody is there")

        async def serve() -> T:
            return await request(server.host)

        task = self.loop.create_task(serve(), context=server.process.context.copy())
        await asyncio.wait(
            (task, server.gone), timeout=patience_s, return_when=asyncio.FIRST_COMPLETED
        )
        if server.process.is_dead or not task.done():
            task.cancel()
            raise ConnectionLost("the server died, or the client gave up")
        try:
            return task.result()
        except StorageError as error:
            raise ConnectionLost(str(error)) from error

    # -- faults ------------------------------------------------------------------------------------

    def schedule_faults(self) -> None:
        """Arrange what goes wrong at its time."""
        faults, later = self.faults, self.loop.call_later
        for at_s in faults.server_crashes_s:
            later(at_s, self._if_chaos, self.crash_any_server)
        for at_s in faults.worker_crashes_s:
            later(at_s, self._if_chaos, self.crash_worker)
        for at_s in faults.takeovers_s:
            later(at_s, self._if_chaos, self.take_over)
        for at_s in faults.clock_jumps_s:
            later(at_s, self._if_chaos, self._jump)

    def _if_chaos(self, fault: Callable[[], None]) -> None:
        if self.is_chaos:
            fault()

    def _jump(self) -> None:
        self.count("clock jumps")
        self.jumped_ms += self.random.choice((50, 1_000, 5_000, -20, -1_000, -3_000))

    def heal(self) -> None:
        """No more faults; everything that is down comes back."""
        self.is_chaos = False
        self.trace("healed")


__all__ = ["ConnectionLost", "Server", "SimHost", "Violation", "Worker", "World"]
