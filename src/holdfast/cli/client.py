"""Asks servers over HTTP, with nothing but the standard library.

Both front doors answer errors as JSON with `message`, `error_code` and `hint`; the ingress also
says with `x-restate-error-source` whether the request failed or the invocation did.
"""

from __future__ import annotations

import http.client
import json
import socket
from typing import NamedTuple, cast
from urllib.parse import urlsplit

from holdfast.cli.header import check_header
from holdfast.cli.output import clean
from holdfast.cli.problem import CommandError, ExitCode, usage_error

_CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 30.0
"""For everything that does not wait for an invocation."""

JsonObject = dict[str, object]


class Answer(NamedTuple):
    """A good answer."""

    status: int
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes

    def json(self) -> JsonObject:
        """Return the body as a JSON object.

        Raises:
            CommandError: HF3002, it is none.
        """
        try:
            value: object = json.loads(self.body)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            found = clean(self.body[:80].decode(errors="replace"))
            raise CommandError(
                "The server's answer makes no sense",
                code="HF3002",
                exit_code=ExitCode.UNREACHABLE,
                cause=f"expected a JSON object, got {found}",
                hint="Is there a Holdfast server at this address, of the same version?",
            )
        return cast("JsonObject", value)


class Server:
    """One front door of a server.

    Args:
        address: A URL, or HOST:PORT.
        option: The option that named it, for messages.
        token: Sent as `Authorization: Bearer`.
    """

    def __init__(self, address: str, option: str, token: str | None = None) -> None:
        self._option = option
        self._url = address if "://" in address else f"http://{address}"
        self._headers = {"user-agent": "holdfast-cli"}
        if token:
            self._headers["authorization"] = f"Bearer {token}"
        try:
            parts = urlsplit(self._url)
            self._host, self._port = parts.hostname or "", parts.port
        except ValueError:
            parts, self._host = urlsplit(""), ""
        if parts.scheme not in ("http", "https") or not self._host:
            raise usage_error(
                f"{option} {address!r} is not the address of a server",
                code="HF1206",
                hint="Give HOST:PORT or a URL, for example 127.0.0.1:8080",
            )
        if "@" in parts.netloc:
            # Not shown: what is in front of it may be a password.
            raise usage_error(
                f"{option} names a user in the address of a server",
                code="HF1206",
                hint="Leave out what is before the @; a token is given with --token.",
            )
        self._is_tls = parts.scheme == "https"
        self._prefix = parts.path.rstrip("/")

    @property
    def url(self) -> str:
        """Where it is, with a scheme."""
        return self._url

    def get(self, path: str, *, timeout_s: float | None = ANSWER_TIMEOUT_S) -> Answer:
        """Send a GET request; see `ask`."""
        return self.ask("GET", path, timeout_s=timeout_s)

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float | None = ANSWER_TIMEOUT_S,
    ) -> Answer:
        """Send a request and return its answer.

        Args:
            method: HTTP method.
            path: Encoded path with query.
            body: Request body.
            headers: Further request headers.
            timeout_s: How long to wait for the answer; None for ever.

        Raises:
            CommandError: HF1207 a header cannot be sent; HF3001 no server; HF3003 no answer in
                time; otherwise what the server says.
        """
        for name, value in (headers or {}).items():
            check_header(name, value, "Choose another value.")
        connection = self._connect()
        try:
            # Connecting is over at once or never; the answer of an invocation may take a week.
            connection.connect()
            cast("socket.socket", connection.sock).settimeout(timeout_s)
            connection.request(
                method, self._prefix + path, body=body, headers={**self._headers, **(headers or {})}
            )
            response = connection.getresponse()
            answer = Answer(
                response.status,
                {name.lower(): value for name, value in response.getheaders()},
                response.read(),
            )
        except TimeoutError as error:
            if connection.sock is None:
                raise self._unreachable(error) from error
            raise CommandError(
                f"No answer within {timeout_s:g} s",
                code="HF3003",
                exit_code=ExitCode.TIMEOUT,
                hint="What the server has accepted goes on: holdfast invocations ls",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()
        if answer.status >= 300:
            raise _refusal(answer)
        return answer

    def _connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._is_tls else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=_CONNECT_TIMEOUT_S)

    def _unreachable(self, error: Exception) -> CommandError:
        return CommandError(
            f"No server answers at {self._url}",
            code="HF3001",
            exit_code=ExitCode.UNREACHABLE,
            cause=str(error) or type(error).__name__,
            hint=f"Start one with: holdfast dev MODULE:APP. Or name another with {self._option}.",
        )


def _refusal(answer: Answer) -> CommandError:
    """Turn an error of a server into one of this command."""
    try:
        body: object = json.loads(answer.body)
    except ValueError:
        body = None
    fields = cast("JsonObject", body) if isinstance(body, dict) else {}
    # A request that failed has a code of ours; the failure of an invocation has only its own.
    source = answer.headers.get("x-restate-error-source")
    if source == "invocation" and not fields.get("error_code"):
        return _failed_run(answer, fields)
    message = fields.get("message")
    code = fields.get("error_code") or fields.get("code")
    hint = fields.get("hint")
    return CommandError(
        clean(message) if message else f"The server answered {answer.status}",
        code=clean(code) if isinstance(code, str) and code else "HF3004",
        exit_code=_exit_code_of(answer.status),
        hint=clean(hint) if hint else "",
    )


def _failed_run(answer: Answer, fields: JsonObject) -> CommandError:
    invocation_id = clean(answer.headers.get("x-restate-id", ""))
    return CommandError(
        f"The invocation failed with code {clean(fields.get('code', answer.status))}",
        code="HF1240",
        exit_code=ExitCode.RUN_FAILED,
        cause=clean(fields.get("message") or ""),
        hint=f"holdfast invocations journal {invocation_id}" if invocation_id else "",
    )


def _exit_code_of(status: int) -> ExitCode:
    match status:
        case 401 | 403:
            return ExitCode.NOT_ALLOWED
        case 404 | 410:
            return ExitCode.NOT_FOUND
        case 409 | 425 | 429 | 470:
            return ExitCode.CONFLICT
        case 408 | 504:
            return ExitCode.TIMEOUT
        case _ if 400 <= status < 500:
            return ExitCode.USAGE
        case _:
            return ExitCode.UNREACHABLE
