"""Handlers as the tools of an MCP server.

A call of a tool is an invocation. Its idempotency key follows from the request, so a request that
is sent again gets the answer of the first one. The client's cancellation cancels the invocation;
the end of this process does not.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import mcp_types
from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server

from holdfast.domain.errors import HoldfastError, TerminalError, UsageError
from holdfast.interop.argument import argument_schema, is_object, resolved, split_arguments
from holdfast.interop.call import Caller
from holdfast.interop.offer import Offer

_log = logging.getLogger(__name__)

ListOffers = Callable[[], Awaitable[list[Offer]]]
"""Returns what is offered now. Raises HoldfastError: TransportError while the server is away."""
ReadStatus = Callable[[str], Awaitable[str]]
"""Returns the status of an invocation. Raises HoldfastError."""

KEY_OF_CALL = "holdfast/idempotency-key"
"""In `_meta` of a request: calls of a tool with one key are one invocation."""
ID_OF_CALL = "holdfast/invocation-id"
"""In `_meta` of a result."""

PROGRESS_INTERVAL_S = 5.0

_SESSION = "mcp-session-id"
_FINISH_S = 5.0
_INSTRUCTIONS = (
    "Each call of a tool is a durable invocation: once accepted it runs to its end, over crashes "
    "and restarts. It may take long; ask for progress to get its id and status."
)


class McpServer:
    """Offers handlers as tools.

    Args:
        caller: Makes the calls.
        list_offers: What is offered now.
        read_status: How an invocation is doing.
        version: Of this program.
        progress_interval_s: Seconds between two notifications of progress.
    """

    def __init__(
        self,
        caller: Caller,
        list_offers: ListOffers,
        read_status: ReadStatus,
        *,
        version: str,
        progress_interval_s: float = PROGRESS_INTERVAL_S,
    ) -> None:
        self._caller = caller
        self._list_offers = list_offers
        self._read_status = read_status
        self._progress_interval_s = progress_interval_s
        # Requests count from 1 on each connection, so their numbers alone would meet others.
        self._connection = secrets.token_hex(16)
        self._is_leaving = False
        self._cancelling: set[asyncio.Task[None]] = set()
        self.server: Server[dict[str, Any]] = Server(
            "holdfast",
            version=version,
            instructions=_INSTRUCTIONS,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
        )
        """Of the SDK; run it on a transport."""

    def leave(self) -> None:
        """From now on requests end because this server does, not because clients cancel them."""
        self._is_leaving = True

    async def finish(self) -> None:
        """Wait, not for long, until what clients have cancelled is cancelled."""
        if self._cancelling:
            await asyncio.wait(self._cancelling, timeout=_FINISH_S)

    async def _list_tools(
        self, context: ServerRequestContext[Any], params: mcp_types.PaginatedRequestParams | None
    ) -> mcp_types.ListToolsResult:
        try:
            # At once: clients ask again, and do not wait long for a list.
            tools = _by_name(await self._list_offers())
        except HoldfastError as error:
            raise MCPError(mcp_types.INTERNAL_ERROR, str(error)) from error
        return mcp_types.ListToolsResult(
            tools=[_describe(name, offer) for name, offer in tools.items()]
        )

    async def _call_tool(
        self, context: ServerRequestContext[Any], params: mcp_types.CallToolRequestParams
    ) -> mcp_types.CallToolResult:
        try:
            tools = _by_name(await self._caller.patiently(self._list_offers))
            offer = tools.get(params.name)
            if offer is None:
                raise MCPError(
                    mcp_types.INVALID_PARAMS,
                    f"There is no tool {params.name!r} [HF0660]",
                    {"hint": "List the tools again: handlers come and go with deployments."},
                )
            arguments = split_arguments(offer, params.arguments or {})
            key = self._idempotency_key(context, params)
        except HoldfastError as error:
            return _error_result(str(error))
        # A task of its own: a cancelled request must still get to know which invocation it made.
        accepting = asyncio.ensure_future(self._caller.accept(offer, arguments, key))
        try:
            invocation_id = await asyncio.shield(accepting)
            result = await self._wait(context, invocation_id)
        except asyncio.CancelledError:
            if not self._is_leaving:
                task = asyncio.ensure_future(self._cancel(accepting))
                self._cancelling.add(task)
                task.add_done_callback(self._cancelling.discard)
            raise
        except TerminalError as failure:
            return _failed(failure, accepting.result())
        except HoldfastError as error:
            return _error_result(str(error), accepting)
        return _good(result, offer, invocation_id)

    async def _wait(self, context: ServerRequestContext[Any], invocation_id: str) -> Any:
        """Wait for the result, and say now and then that it is still waited for."""
        clock = asyncio.get_running_loop().time
        begun_s = clock()
        attached = asyncio.ensure_future(self._caller.result(invocation_id))
        try:
            await context.session.report_progress(0, message=f"{invocation_id} is accepted")
            while True:
                done, _ = await asyncio.wait([attached], timeout=self._progress_interval_s)
                if done:
                    return attached.result()
                message = await self._progress(invocation_id)
                await context.session.report_progress(clock() - begun_s, message=message)
        finally:
            attached.cancel()

    async def _progress(self, invocation_id: str) -> str:
        try:
            return f"{invocation_id} is {await self._read_status(invocation_id)}"
        except HoldfastError as error:
            return f"{invocation_id} goes on; its status is not known [{error.code}]"

    async def _cancel(self, accepting: asyncio.Future[str]) -> None:
        try:
            await self._caller.cancel(await accepting)
        except HoldfastError as error:
            # The client has gone, and cannot be told.
            _log.warning("what a client cancelled may go on", extra={"error": str(error)})

    def _idempotency_key(
        self, context: ServerRequestContext[Any], params: mcp_types.CallToolRequestParams
    ) -> str:
        """Return what makes this request the same as another.

        That is what the client says; else its number in its session. Over HTTP without sessions
        nothing tells a request that is sent again from another one.
        """
        given = (context.meta or {}).get(KEY_OF_CALL)
        if given is not None:
            if not isinstance(given, str) or not given:
                raise UsageError(
                    f"_meta has {KEY_OF_CALL}: {given!r:.80}; expected a text", code="HF0663"
                )
            parts = ["client", given]
        elif context.request is None:
            parts = ["connection", self._connection, _number(context.request_id)]
        elif session := context.request.headers.get(_SESSION):
            parts = ["session", session, _number(context.request_id)]
        else:
            parts = ["request", secrets.token_hex(16)]
        # A hash, because clients may say anything, and keys are short and ASCII.
        return "mcp-" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _by_name(offers: list[Offer]) -> dict[str, Offer]:
    """Return what is offered by name of the tool.

    Raises:
        UsageError: HF0661, two have one name.
    """
    tools: dict[str, Offer] = {}
    for offer in offers:
        other = tools.setdefault(tool_name(offer), offer)
        if other is not offer:
            raise UsageError(
                f"{other.target} and {offer.target} are both the tool {tool_name(offer)!r}",
                code="HF0661",
                hint="Rename one of the services, or offer fewer with --service.",
            )
    return tools


def tool_name(offer: Offer) -> str:
    """Return the name of a tool: letters, digits, `_` and `-`, which is what models take."""
    # Handlers have no "-", so the last one tells the two apart.
    return f"{offer.service.replace('.', '_')}-{offer.handler}"


def _describe(name: str, offer: Offer) -> mcp_types.Tool:
    output = resolved(offer.output_schema)
    return mcp_types.Tool(
        name=name,
        title=offer.target,
        description=offer.documentation or f"Calls {offer.target}.",
        input_schema=argument_schema(offer),
        output_schema=output if is_object(output) else None,
    )


def _good(result: Any, offer: Offer, invocation_id: str) -> mcp_types.CallToolResult:
    text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
    is_structured = is_object(resolved(offer.output_schema)) and isinstance(result, dict)
    return mcp_types.CallToolResult(
        content=[mcp_types.TextContent(text=text)],
        structured_content=result if is_structured else None,
        _meta={ID_OF_CALL: invocation_id},
    )


def _failed(failure: TerminalError, invocation_id: str) -> mcp_types.CallToolResult:
    text = (
        f"{failure.message or 'The invocation failed'} (code {failure.code})\n"
        f"  hint: the invocation has ended with this; see holdfast invocations get {invocation_id}"
    )
    return _error_result(text, invocation_id=invocation_id)


def _error_result(
    text: str, accepting: asyncio.Future[str] | None = None, *, invocation_id: str = ""
) -> mcp_types.CallToolResult:
    if accepting is not None and accepting.done() and accepting.exception() is None:
        invocation_id = accepting.result()
        text += f"\n  The invocation {invocation_id} goes on."
    return mcp_types.CallToolResult(
        content=[mcp_types.TextContent(text=text)],
        is_error=True,
        _meta={ID_OF_CALL: invocation_id} if invocation_id else None,
    )


def _number(request_id: mcp_types.RequestId | None) -> str:
    # 1 and "1" are different requests.
    return json.dumps(request_id)
