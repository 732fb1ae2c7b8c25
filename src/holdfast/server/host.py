"""All partitions of one server and what they share: the implementation of `ServerHandle`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import lru_cache

from holdfast.domain.errors import NotFoundError, StorageUnavailable, UsageError
from holdfast.domain.identity import derived_id
from holdfast.domain.ids import (
    deployment_id_of,
    invocation_partition_key,
    key_partition_key,
    parse_invocation_id,
    partition_of,
    print_invocation_id,
    service_partition_key,
    ulid,
)
from holdfast.domain.message import Outcome, Output, Signal
from holdfast.domain.retry import RetrySchedule
from holdfast.domain.setting import ServiceSettings
from holdfast.domain.target import HandlerKind, ServiceKind, ServiceManifest
from holdfast.engine.decision import (
    Action,
    Answer,
    EndAttempt,
    Forward,
    Publish,
    RegisterTimer,
    Reply,
    Respond,
    SendOutbox,
    StartAttempt,
)
from holdfast.engine.record import (
    INVOKED,
    AttemptResumed,
    Expired,
    Invoke,
    KillRequested,
    OutboxSent,
    SignalSent,
)
from holdfast.engine.row import (
    HandlerRow,
    InvocationRow,
    JournalRow,
    StateEdit,
    StateRow,
    Status,
    StreamRow,
    Table,
)
from holdfast.server.approval import HostApprovals, LinkKeys
from holdfast.server.catalog import Catalog
from holdfast.server.changes import Changes
from holdfast.server.clock import Clock
from holdfast.server.detail import HostDetails
from holdfast.server.handle import Accepted, Finished, KnownAttempt, Overloaded, Request
from holdfast.server.invoker import Invoker
from holdfast.server.operation import HostOperations
from holdfast.server.outbox import Outbox
from holdfast.server.partition import Partition
from holdfast.server.registrar import Registrar
from holdfast.server.registration import Change, Registered, Registration
from holdfast.server.state import States
from holdfast.server.stream import Feeds
from holdfast.server.timer import Timers
from holdfast.storage.base import InvocationFilter, Store, StoredDeployment
from holdfast.storage.scan import Scan, Scanned
from holdfast.transport.base import Dialer, HandlerPort

_log = logging.getLogger(__name__)

_PAGE_ROWS = 1_000
_EXPIRED_ROWS_MAX = 500


class Host:
    """Leads all partitions of a store and runs their attempts."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        owner: str = "server",
        body_size_bytes_max: int = 10 * 1024 * 1024,
        inactivity_timeout_ms: int | None = None,
        cleanup_interval_s: float = 1.0,
        is_state_lazy: bool = False,
        retry: RetrySchedule | None = None,
        dialer: Dialer | None = None,
        links: LinkKeys | None = None,
        on_fatal: Callable[[BaseException], None] | None = None,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            cleanup_interval_s: How often invocations whose retention has passed are looked for.
            is_state_lazy: No attempt gets its state with its start, whatever its handler says.
            retry: For handlers that have no schedule of their own; None for the default.
            dialer: Reaches endpoints that are registered by address.
            links: Signs links to approvals; None: with a secret of the store, to nowhere.
            on_fatal: Told when a partition stopped by itself: the process should end.
        """
        self.body_size_bytes_max = body_size_bytes_max
        self._store = store
        self._clock = clock
        self._owner = owner
        self._cleanup_interval_s = cleanup_interval_s
        self._on_fatal = on_fatal
        self._catalog = Catalog(store, is_state_lazy=is_state_lazy, retry=retry)
        self._links = links or LinkKeys()
        self._invoker = Invoker(
            store,
            self._catalog,
            clock,
            self._links,
            inactivity_timeout_ms=inactivity_timeout_ms,
        )
        self._details = HostDetails(store, lambda id_: self._partition_of(id_).index)
        self._approvals = HostApprovals(store, clock, self._links, self._partition_of)
        self._operations = HostOperations(self._partition_of, self.invocation, self._catalog, clock)
        self._registrar = Registrar(
            self._catalog, self._invoker, store, clock, dialer, self._settle
        )
        self._partitions: list[Partition] = []
        self.changes = Changes()
        """Which invocations have changed, for those who look on."""
        self._states = States(store, clock, self._partitions)
        self._timers: list[Timers] = []
        self._outboxes: list[Outbox] = []
        self._feeds = Feeds(self._read_stream, self.output)
        self._waiters: dict[str, list[asyncio.Future[Outcome]]] = {}
        self._cleaner: asyncio.Task[None] | None = None

    @property
    def partition_count(self) -> int:
        """Number of partitions of the store."""
        return self._store.partition_count

    async def start(self) -> None:
        """Lead every partition and go on with what an earlier leader left.

        There is no other recovery: a first start, a restart and a crash take the same walk.
        """
        await self._catalog.load()
        await self._links.load(self._store, self._clock)
        for index in range(self._store.partition_count):
            partition = Partition(
                index,
                self._store,
                self._catalog,
                self._clock,
                act=self._act,
                on_stopped=self._on_partition_stopped,
                changes=self.changes,
            )
            self._partitions.append(partition)
            self._timers.append(Timers(partition, self._store, self._clock))
            self._outboxes.append(Outbox(partition, self._store, self._partitions.__getitem__))
        for partition in self._partitions:
            await partition.lead(self._owner)
        for partition, timers, outbox in zip(
            self._partitions, self._timers, self._outboxes, strict=True
        ):
            await self._resume(partition)
            await outbox.load()
            await timers.load()
        for partition in self._partitions:
            partition.start()
        self._registrar.start()
        self._cleaner = asyncio.get_running_loop().create_task(self._clean(), name="cleaner")

    async def stop(self) -> None:
        """Finish what was accepted by the loops, abort attempts, release nothing durable."""
        self._feeds.close()
        if self._cleaner is not None:
            self._cleaner.cancel()
        for timers in self._timers:
            timers.stop()
        await self._invoker.stop()
        await self._registrar.close()
        for outbox in self._outboxes:
            await outbox.stop()
        for partition in self._partitions:
            await partition.stop()
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.cancel()

    async def _resume(self, partition: Partition) -> None:
        after = ""
        while True:
            rows = await self._store.with_status(partition.index, Status.RUNNING, after, _PAGE_ROWS)
            for row in rows:
                partition.submit(AttemptResumed(row.id))
                after = row.id
            if len(rows) < _PAGE_ROWS:
                return

    def _on_partition_stopped(self, partition: Partition, error: BaseException) -> None:
        _log.error(
            "partition %s has stopped: %s",
            partition.index,
            error,
            exc_info=error,
            extra={"partition_id": partition.index, "epoch": partition.epoch},
        )
        self._feeds.close()
        for waiters in self._waiters.values():
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(
                        StorageUnavailable(
                            f"The server has stopped: {error}",
                            code="HF4010",
                            hint="Try again; with an idempotency key nothing happens twice.",
                        )
                    )
        if self._on_fatal is not None:
            self._on_fatal(error)

    async def _clean(self) -> None:
        while True:
            await asyncio.sleep(self._cleanup_interval_s)
            for partition in self._partitions:
                try:
                    await self._expire(partition)
                    await self._states.expire(partition)
                except Exception as error:
                    # A partition that cannot must not keep the others from it.
                    _log.warning(
                        "the look for what has expired failed, it is repeated: %s",
                        error,
                        extra={"partition_id": partition.index},
                    )

    async def _expire(self, partition: Partition) -> None:
        is_page_full = True
        while is_page_full:
            ids = await self._store.expired(
                partition.index, self._clock.now_ms(), _EXPIRED_ROWS_MAX
            )
            await asyncio.gather(*(partition.propose(Expired(i)) for i in ids))
            is_page_full = len(ids) == _EXPIRED_ROWS_MAX

    async def _settle(self) -> None:
        """Wait until all that was proposed before is stored and acted on."""
        await asyncio.gather(*(p.propose(OutboxSent(p.index, ())) for p in self._partitions))

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way here: it waits for time, handlers or clients."""
        return (
            self._invoker.is_idle
            and all(partition.is_idle for partition in self._partitions)
            and all(outbox.is_idle for outbox in self._outboxes)
        )

    # -- actions ---------------------------------------------------------------------------------

    def _act(self, partition: Partition, action: Action) -> None:
        match action:
            case Forward(invocation_id, number, notification):
                self._invoker.forward(invocation_id, number, notification)
            case StartAttempt():
                self._invoker.start(partition, action)
            case EndAttempt(invocation_id, number, is_abort):
                self._invoker.end(invocation_id, number, is_abort=is_abort)
            case Publish():
                self._feeds.publish(action)
            case Respond(invocation_id, outcome):
                self._feeds.finish(Finished(invocation_id, outcome, 0))
                for waiter in self._waiters.pop(invocation_id, ()):
                    if not waiter.done():
                        waiter.set_result(outcome)
            case RegisterTimer(at_ms, invocation_id, slot):
                self._timers[partition.index].register(at_ms, invocation_id, slot)
            case SendOutbox(sequence, to_partition, message):
                self._outboxes[partition.index].enqueue(sequence, to_partition, message)

    # -- ServerHandle ----------------------------------------------------------------------------

    def now_ms(self) -> int:
        """Return the server's time."""
        return self._clock.now_ms()

    def resolve(self, service: str, handler: str) -> HandlerRow:
        """Find a handler in the latest deployment of its service."""
        return self._catalog.resolve(service, handler)

    def services(self) -> Sequence[ServiceManifest]:
        """Return all services, by name."""
        return self._catalog.services()

    def deployments(self) -> Sequence[StoredDeployment]:
        """Return all deployments, oldest first."""
        return self._catalog.deployments()

    async def send(self, request: Request) -> Accepted:
        """Make an invocation and return once it is durable."""
        _, partition, record = self._invoke_record(request)
        answer = await partition.propose(record)
        return _accepted(record, answer)

    async def call(self, request: Request) -> Finished:
        """Make an invocation and wait for its outcome."""
        invocation_id, partition, record = self._invoke_record(request)
        waiter = self._wait_for(invocation_id)
        try:
            answer = await partition.propose(record)
            is_new = _accepted(record, answer).is_new
            if not is_new and record.handler_kind is HandlerKind.WORKFLOW:
                return Finished(invocation_id, INVOKED, 0)
            if answer.status is Status.COMPLETED:
                finished = await self._stored_outcome(invocation_id)
                # Its retention may have passed just now: then this is a new invocation after all.
                return finished if finished is not None else await self.call(request)
            return Finished(invocation_id, await waiter, 0)
        finally:
            self._forget(invocation_id, waiter)

    def _invoke_record(self, request: Request) -> tuple[str, Partition, Invoke]:
        target, manifest = request.target, request.handler.manifest
        derived = derived_id(target, manifest.kind, request.idempotency_key)
        invocation_id: str
        if derived is not None:
            invocation_id = derived
            partition = self._partition_of(invocation_id)
        else:
            entropy = self._clock.entropy(12)
            partition_key = (
                _key_partition_key(target.key)
                if target.key is not None
                else _service_partition_key(
                    target.service, int.from_bytes(entropy[10:], "big") % 512
                )
            )
            unique = ulid(self._clock.now_ms(), entropy)
            invocation_id = print_invocation_id(partition_key.to_bytes(8, "big") + unique)
            partition = self._partitions[partition_of(partition_key, self.partition_count)]
            partition.expect_new(invocation_id)
        record = Invoke(
            invocation_id=invocation_id,
            target=target,
            service_kind=request.handler.service_kind,
            handler_kind=manifest.kind,
            parameter=request.body,
            headers=request.headers,
            idempotency_key=request.idempotency_key,
            execute_at_ms=request.execute_at_ms,
            retention_ms=manifest.retention_ms(request.idempotency_key),
            timeout_ms=manifest.invocation_timeout_ms or 0,
            retry=request.retry,
        )
        return invocation_id, partition, record

    async def attach(self, invocation_id: str) -> Finished:
        """Wait for the outcome of an invocation."""
        waiter = self._wait_for(invocation_id)
        try:
            finished = await self.output(invocation_id)
            if finished is not None:
                return finished
            return Finished(invocation_id, await waiter, 0)
        finally:
            self._forget(invocation_id, waiter)

    async def output(self, invocation_id: str) -> Finished | None:
        """Return the outcome of an invocation, or None while it has none."""
        row = await self.invocation(invocation_id)
        finished = await self._stored_outcome(invocation_id)
        if row is None or (finished is None and row.status is Status.COMPLETED):
            raise NotFoundError(
                f"There is no invocation {invocation_id}.",
                code="HF1004",
                hint="It was never made, or its retention has passed.",
            )
        return finished

    async def signal(self, invocation_id: str, signal: Signal) -> Answer:
        """Deliver a signal."""
        partition = self._partition_of(invocation_id)
        return await partition.propose(SignalSent(invocation_id, signal))

    async def kill(self, invocation_id: str) -> Answer:
        """End an invocation, and all that it called, with failure 409."""
        return await self._partition_of(invocation_id).propose(KillRequested(invocation_id))

    @property
    def streams(self) -> Feeds:
        """The streams that invocations write."""
        return self._feeds

    async def _read_stream(
        self, invocation_id: str, stream: str, after: int, size_bytes: int
    ) -> list[tuple[int, StreamRow]]:
        index = self._partition_of(invocation_id).index
        return await self._store.stream(index, invocation_id, stream, after, size_bytes)

    @property
    def details(self) -> HostDetails:
        """The model calls and tool calls of steps."""
        return self._details

    @property
    def approvals(self) -> HostApprovals:
        """The inbox of approvals."""
        return self._approvals

    @property
    def operations(self) -> HostOperations:
        """What people may do to invocations besides."""
        return self._operations

    async def invocation(self, invocation_id: str) -> InvocationRow | None:
        """Return an invocation."""
        partition = self._partition_of(invocation_id)
        key = (Table.INVOCATION, invocation_id)
        row = (await self._store.load(partition.index, [key]))[key]
        assert row is None or isinstance(row, InvocationRow)
        return row

    async def invocations(
        self, query: InvocationFilter, before: tuple[int, str] | None, limit: int
    ) -> list[InvocationRow]:
        """Return invocations, newest first."""
        return await self._store.invocations(query, before, limit)

    def scan(self, scan: Scan) -> AsyncGenerator[list[Scanned]]:
        """Iterate over stored rows of all partitions."""
        return self._store.scan(scan)

    def known_attempts(self) -> Mapping[str, KnownAttempt]:
        """Return the attempts that run now and some that failed last, by invocation id."""
        return self._invoker.known_attempts()

    async def journal(self, invocation_id: str) -> list[JournalRow]:
        """Return the journal of an invocation, in order."""
        return await self._store.journal(self._partition_of(invocation_id).index, invocation_id)

    async def state(self, service: str, key: str) -> dict[str, StateRow]:
        """Return the state of an object key, sorted by name."""
        return await self._states.read(service, key)

    async def state_keys(self, service: str, after: str, limit: int) -> list[str]:
        """Return the keys of a service that have state, sorted, greater than `after`."""
        return await self._states.keys(service, after, limit)

    async def edit_state(self, service: str, key: str, edit: StateEdit) -> Answer:
        """Change the state of an object key, when its turn has come."""
        is_workflow = any(
            known.name == service and known.kind is ServiceKind.WORKFLOW
            for known in self._catalog.services()
        )
        return await self._states.edit(service, key, edit, is_workflow=is_workflow)

    async def attach_worker(self, port: HandlerPort) -> str:
        """Take a worker."""
        self._refuse_stranger(port)
        deployment_id = await self._catalog.register(
            port.deployment_name, port.manifest, self._clock.now_ms()
        )
        self._invoker.add_port(deployment_id, port)
        return deployment_id

    def _refuse_stranger(self, port: HandlerPort) -> None:
        """Refuse a worker whose deployment name is in use by a program of other services.

        The two would take turns at being that deployment, and get each other's attempts.
        """
        names = {service.name for service in port.manifest.services}
        for other in self._invoker.ports(deployment_id_of(port.deployment_name)):
            others = {service.name for service in other.manifest.services}
            if not other.is_draining and names and others and not names & others:
                raise UsageError(
                    f"Deployment {port.deployment_name!r} is in use by a worker that serves "
                    f"{', '.join(sorted(others))}; this one serves {', '.join(sorted(names))}.",
                    code="HF1306",
                    hint='Give each program a name of its own: hf.App(…, deployment_name="…").',
                )

    def detach_worker(self, port: HandlerPort) -> None:
        """Forget a worker."""
        self._invoker.remove_port(port)

    async def register_endpoint(self, registration: Registration) -> Registered:
        """Register an endpoint by its address."""
        return await self._registrar.register(registration)

    async def update_endpoint(self, deployment_id: str, change: Change) -> StoredDeployment:
        """Change a registered endpoint."""
        return await self._registrar.update(deployment_id, change)

    async def remove_deployment(self, deployment_id: str, *, is_forced: bool) -> None:
        """Remove a deployment."""
        await self._registrar.remove(deployment_id, is_forced=is_forced)

    async def change_settings(self, service: str, change: ServiceSettings) -> None:
        """Set options of the latest revision of a service."""
        await self._catalog.change_settings(service, change)

    async def open_invocation_count(self, deployment_id: str) -> int:
        """Return how many open invocations are pinned to a deployment."""
        return await self._registrar.open_invocation_count(deployment_id)

    def health(self) -> dict[str, object]:
        """Return facts for `GET /health`."""
        return {
            "status": "ok",
            "durability": "full" if self._store.is_durable() else "relaxed",
            "partitions": self.partition_count,
            "attempts_open": self._invoker.open_count(),
            "attempts_waiting": self._invoker.waiting_count(),
            "messages_waiting": sum(outbox.waiting_count() for outbox in self._outboxes),
            "messages_refused": sum(outbox.blocked_count() for outbox in self._outboxes),
        }

    # -- outcomes --------------------------------------------------------------------------------

    def _partition_of(self, invocation_id: str) -> Partition:
        parse_invocation_id(invocation_id)
        partition_key = invocation_partition_key(invocation_id)
        return self._partitions[partition_of(partition_key, self.partition_count)]

    def _wait_for(self, invocation_id: str) -> asyncio.Future[Outcome]:
        waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(invocation_id, []).append(waiter)
        return waiter

    def _forget(self, invocation_id: str, waiter: asyncio.Future[Outcome]) -> None:
        waiters = self._waiters.get(invocation_id)
        if waiters is not None and waiter in waiters:
            waiters.remove(waiter)
            if not waiters:
                del self._waiters[invocation_id]

    async def _stored_outcome(self, invocation_id: str) -> Finished | None:
        row = await self.invocation(invocation_id)
        if row is None or row.status is not Status.COMPLETED:
            return None
        for stored in reversed(await self.journal(invocation_id)):
            if stored.index == row.output_index and isinstance(stored.entry, Output):
                return Finished(invocation_id, stored.entry.result, row.expires_at_ms)
        again = await self.invocation(invocation_id)
        if again is None or again.output_index == row.output_index:
            return None
        # Between the two reads its journal was purged, which has moved the output.
        return await self._stored_outcome(invocation_id)


def _accepted(record: Invoke, answer: Answer) -> Accepted:
    if answer.reply is Reply.OVERLOADED:
        raise Overloaded(record.target)
    is_new = answer.reply is Reply.ACCEPTED
    return Accepted(record.invocation_id, is_new, record.execute_at_ms)


_key_partition_key = lru_cache(maxsize=4096)(key_partition_key)
_service_partition_key = lru_cache(maxsize=4096)(service_partition_key)
