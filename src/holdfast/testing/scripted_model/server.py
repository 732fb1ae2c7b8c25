"""The scripted model server: HTTP on loopback, one thread per connection.

Threads and not a loop, so that `with` works in synchronous tests too and a slow turn function
holds up nobody. Connections are kept alive, as a real provider does, because clients' connection
pools behave differently without.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from http.server import ThreadingHTTPServer
from types import TracebackType
from typing import Self

from . import embedding
from .http import Connection, Reply, StreamReply, error_reply
from .reading import conversation_of, names_in, object_in
from .route import DIALECTS, Route, route_of
from .scenario import Fault, JsonObject, ModelRequest, Scenario, ScenarioError, Turn, play

_POLL_S = 0.02
"""How often a slow answer looks whether its client is still there."""
_CONVERSATIONS = ("messages", "input", "contents")
"""Where requests have theirs."""
_OPENINGS = ("event: response.created\n", "event: message_start\n")
"""Events that carry the id by which a conversation is continued."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request that reached the model, answered or not."""

    request: ModelRequest
    at_ms: int
    """When it arrived, in milliseconds since the epoch."""
    path: str
    """Without the query."""
    headers: Mapping[str, str]
    """Names in lower case."""

    @property
    def body(self) -> JsonObject:
        """The decoded JSON body of the request."""
        return self.request.body


class ScriptedModel:
    """A model provider for tests and demos: the real clients talk to it over real HTTP.

    It speaks the APIs of OpenAI (Chat Completions, Responses, embeddings), Anthropic (Messages) and
    Gemini (generateContent, embeddings), as JSON and as streams. What it says comes from a
    scenario, chosen by the model name of the request; embeddings need none:

        with ScriptedModel({"trip": [Turn(tool_calls=(ToolCall("flights"),)), "Booked."]}) as model:
            client = AsyncOpenAI(base_url=model.url, api_key="any")
            other = AsyncAnthropic(base_url=model.root_url, api_key="any")

    The turn to play is the number of model turns in the conversation that was sent. So any number
    of conversations share a scenario, and a request that is sent again gets the same turn again.
    Ids of answers and of tool calls are new for every answer, as with a real model.

    Args:
        scenarios: Scenarios by model name.
        port: Port on loopback; 0 takes a free one.
    """

    def __init__(self, scenarios: Mapping[str, Scenario] | None = None, *, port: int = 0) -> None:
        self._scenarios: dict[str, Scenario] = dict(scenarios or {})
        self._wanted_port = port
        self._lock = threading.Condition()
        self._calls: list[Call] = []
        self._counts: Counter[str] = Counter()
        self._attempts: Counter[str] = Counter()
        self._hang_ups: Counter[str] = Counter()
        self._turns_by_response_id: dict[str, int] = {}
        self._closing = threading.Event()
        self._server: _Server | None = None

    def scenario(self, model: str, turns: Scenario) -> None:
        """Add or replace the scenario of a model name. Works while the server runs."""
        self._scenarios[model] = turns

    def calls(self, model: str | None = None) -> list[Call]:
        """Return the requests that arrived, in order: of one model name, or all."""
        with self._lock:
            return [call for call in self._calls if model in (None, call.request.model)]

    def wait_for_calls(self, model: str, count: int, *, timeout_s: float = 10.0) -> list[Call]:
        """Block until that many requests of a model name have arrived, and return them all.

        Raises:
            TimeoutError: Fewer arrived in time.
        """
        with self._lock:
            if not self._lock.wait_for(lambda: self._counts[model] >= count, timeout_s):
                raise TimeoutError(f"{self._counts[model]} of {count} calls of {model!r} arrived")
        return self.calls(model)

    def wait_for_hang_ups(self, model: str, count: int, *, timeout_s: float = 10.0) -> None:
        """Block until clients of a model name have hung up that often on answers they waited for.

        Raises:
            TimeoutError: Fewer did in time.
        """
        with self._lock:
            if not self._lock.wait_for(lambda: self._hang_ups[model] >= count, timeout_s):
                raise TimeoutError(f"{self._hang_ups[model]} of {count} hung up on {model!r}")

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._server is None:
            raise RuntimeError("the scripted model is not started: use it with `with`")
        return self._server.server_port

    @property
    def url(self) -> str:
        """The base URL for clients of OpenAI; it ends in `/v1`."""
        return f"{self.root_url}/v1"

    @property
    def root_url(self) -> str:
        """The base URL for clients of Anthropic and Gemini, which know the rest of their paths."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Begin to listen. Does nothing if it listens already."""
        if self._server is not None:
            return
        self._closing.clear()
        self._server = _Server(self, self._wanted_port)
        threading.Thread(
            target=self._server.serve_forever,
            # How long `close` may have to wait for the accepting thread to notice.
            kwargs={"poll_interval": 0.02},
            name="scripted-model",
            daemon=True,
        ).start()

    def close(self) -> None:
        """Stop listening and cut every connection. Can be started again afterwards."""
        if self._server is None:
            return
        self._closing.set()
        self._server.shutdown()
        self._server.cut_connections()
        self._server.server_close()
        self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def respond(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        is_gone: Callable[[], bool],
    ) -> Reply | StreamReply | None:
        """Answer one HTTP request; called by the connection's thread.

        Args:
            headers: Names in lower case.
            is_gone: Says whether the client has hung up.

        Returns:
            What to send, or `None` to drop the connection.
        """
        path = path.split("?", 1)[0]
        if method == "GET" and path == "/v1/models":
            models = [_model(name) for name in self._scenarios]
            return Reply(200, {"object": "list", "data": models})
        route = route_of(path)
        if method != "POST" or route is None:
            return error_reply(404, f"no such route: {method} {path}", code="unknown_url")
        try:
            decoded = object_in(json.loads(body))
        except ValueError:
            return error_reply(400, "the request body is not JSON", code="invalid_json")
        if decoded is None:
            return error_reply(400, "the request body is not a JSON object", code="invalid_json")
        model = route.model or str(decoded.get("model"))
        if route.api == "embeddings":
            self._record(route, model, decoded, path, headers)
            return Reply(200, embedding.answer(model, decoded))
        scenario = self._scenarios.get(model)
        if scenario is None:
            known = ", ".join(sorted(self._scenarios)) or "none"
            message = f"the model {model!r} has no scenario; scenarios: {known}"
            return error_reply(404, message, code="model_not_found")
        return self._answer(scenario, self._record(route, model, decoded, path, headers), is_gone)

    def _record(
        self, route: Route, model: str, body: JsonObject, path: str, headers: Mapping[str, str]
    ) -> ModelRequest:
        dialect = DIALECTS.get(route.api)
        conversation = conversation_of([]) if dialect is None else dialect.read(body)
        thread = object_in(body.get("thread")) or {}
        continued = body.get("previous_response_id") or thread.get("previous_message_id")
        with self._lock:
            self._counts[model] += 1
            # Only a conversation that the client continues by id has turns we cannot see.
            earlier = self._turns_by_response_id.get(str(continued), 0) if continued else 0
            request = ModelRequest(
                api=route.api,
                model=model,
                stream=route.is_stream or bool(body.get("stream")),
                body=body,
                turn_index=earlier + conversation.turn_count,
                prompt=conversation.prompt,
                tool_outputs=conversation.tool_outputs,
                tools=names_in(body.get("tools")),
                call_number=self._counts[model],
            )
            at_ms = time.time_ns() // 1_000_000
            self._calls.append(Call(request=request, at_ms=at_ms, path=path, headers=headers))
            self._lock.notify_all()
        return request

    def _answer(
        self, scenario: Scenario, request: ModelRequest, is_gone: Callable[[], bool]
    ) -> Reply | StreamReply | None:
        try:
            turn = play(scenario, request)
        except ScenarioError as error:
            return error_reply(400, str(error), code="scenario_error")
        except Exception as error:
            # A bug in a test's turn function must be read in the test, and never be retried.
            message = f"the scenario {request.model!r} failed: {error!r}"
            return error_reply(400, message, code="scenario_error")
        fault = self._next_fault(turn, request)
        is_there = self._pause(turn.delay_s + fault.delay_s, request, is_gone)
        if fault.drop or not is_there:
            return None
        if fault.status is not None:
            headers: dict[str, str] = {}
            if fault.retry_after_s is not None:
                headers["retry-after"] = f"{fault.retry_after_s:g}"
            message = f"scripted fault of turn {request.turn_index + 1} of {request.model!r}"
            return replace(
                error_reply(fault.status, message, code="scripted_fault"), headers=headers
            )
        created_at_s = time.time_ns() // 1_000_000_000
        if request.stream:
            events = self._paced(turn, request, created_at_s, is_gone)
            return StreamReply(events, fault.drop_after_events)
        body = DIALECTS[request.api].answer(turn, request, created_at_s)
        self._remember(request, str(body.get("id")))
        return Reply(200, body)

    def _pause(self, seconds: float, request: ModelRequest, is_gone: Callable[[], bool]) -> bool:
        """Wait. Returns whether there is still somebody to answer."""
        end_s = time.monotonic() + seconds
        while not self._closing.is_set():
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                return True
            if is_gone():
                with self._lock:
                    self._hang_ups[request.model] += 1
                    self._lock.notify_all()
                return False
            self._closing.wait(min(left_s, _POLL_S))
        return False

    def _next_fault(self, turn: Turn, request: ModelRequest) -> Fault:
        if not turn.faults:
            return Fault()
        # The attempts of one conversation count, not those of all that share the scenario.
        said = next((request.body[name] for name in _CONVERSATIONS if name in request.body), None)
        key = json.dumps([request.api, request.model, request.turn_index, said], sort_keys=True)
        with self._lock:
            attempt = self._attempts[key]
            self._attempts[key] += 1
        return turn.faults[attempt] if attempt < len(turn.faults) else Fault()

    def _paced(
        self, turn: Turn, request: ModelRequest, created_at_s: int, is_gone: Callable[[], bool]
    ) -> Iterator[str]:
        for event in DIALECTS[request.api].events(turn, request, created_at_s):
            if not self._pause(turn.event_delay_s, request, is_gone):
                raise ConnectionAbortedError("nobody is there")
            yield event
            if event.startswith(_OPENINGS):
                data = json.loads(event.split("data: ", 1)[1])
                self._remember(request, (data.get("response") or data["message"])["id"])

    def _remember(self, request: ModelRequest, response_id: str) -> None:
        with self._lock:
            self._turns_by_response_id[response_id] = request.turn_index + 1


def _model(name: str) -> JsonObject:
    return {"id": name, "object": "model", "created": 0, "owned_by": "holdfast"}


class _Server(ThreadingHTTPServer):
    """The listening socket. It knows its connections, so that closing leaves no client waiting."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, model: ScriptedModel, port: int) -> None:
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()

        class Handler(Connection):
            def respond(self, body: bytes) -> Reply | StreamReply | None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                return model.respond(self.command, self.path, body, headers, self.is_gone)

        super().__init__(("127.0.0.1", port), Handler)

    def cut_connections(self) -> None:
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            _shut(connection)

    def process_request(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        assert isinstance(request, socket.socket), "a TCP server is handed connected sockets"
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        assert isinstance(request, socket.socket)
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that hang up are part of every crash test."""


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        # The peer was faster.
        return
