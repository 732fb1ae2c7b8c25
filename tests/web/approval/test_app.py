"""The routes of approvals, on both doors, with a real engine behind them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import pytest

import holdfast as hf
from holdfast.domain.approval_link import ROUTE, sign
from holdfast.testing import Environment, environment
from holdfast.web.approval import create_approval_app

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'&\u202e"

TAGS = {"html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "dl", "dt", "dd"}
TAGS |= {"pre", "form", "label", "small", "input", "textarea", "select", "option", "button"}

desk = hf.Service("Desk")
links: dict[str, str | None] = {}


@dataclass
class Form:
    amount: float
    note: str = ""


@desk.handler
async def pay(ctx: hf.Context, options: dict[str, Any]) -> dict[str, Any]:
    title = options.pop("title", "Pay")
    approval = ctx.approve(
        title,
        payload={"claim": 17},
        form=Form,
        arguments={"to": "ada", "euros": 120},
        editable={"euros": float},
        **options,
    )
    links[approval.id] = approval.link
    decision = await approval
    return {
        "approved": decision.approved,
        "amount": None if decision.value is None else decision.value.amount,
        "euros": decision.arguments["euros"],
        "by": decision.by,
        "comment": decision.comment,
    }


@desk.handler
async def hostile(ctx: hf.Context) -> bool:
    approval = ctx.approve(
        f"T {HOSTILE}",
        payload={HOSTILE: f"</pre>{HOSTILE}"},
        why=f"W {HOSTILE}",
        assignee=[f"A {HOSTILE}", "ann"],
        form={
            "type": "object",
            "properties": {
                HOSTILE: {
                    "type": "string",
                    "title": f"F {HOSTILE}",
                    "description": HOSTILE,
                    "default": f"D {HOSTILE}",
                },
                "long": {"type": "string", "maxLength": 999, "default": f"</textarea>{HOSTILE}"},
                "one": {"enum": [HOSTILE]},
                "kind": {"type": "string", "format": '"><script>'},
            },
        },
        arguments={HOSTILE: HOSTILE},
        editable={HOSTILE: str},
    )
    links[approval.id] = approval.link
    return (await approval).approved


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Door:
    """Asks the application as one of the front doors has mounted it."""

    def __init__(self, env: Environment, *, needs_link: bool) -> None:
        self._app = create_approval_app(env._host.approvals, needs_link=needs_link)

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        headers: dict[str, str] | None = None,
        kind: str = "http",
    ) -> Answer:
        parts = urlsplit(path)
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": kind,
            "method": method,
            "path": parts.path,
            "query_string": parts.query.encode(),
            "headers": [(n.encode(), v.encode()) for n, v in (headers or {}).items()],
            "extensions": {"websocket.http.response": {}},
        }
        await self._app(scope, receive, send)
        found = {n.decode(): v.decode() for n, v in sent[0]["headers"]}
        return Answer(sent[0]["status"], found, sent[1]["body"])

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.ask("GET", path, headers=headers)

    async def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        content = b"" if body is None else json.dumps(body).encode()
        return await self.ask("POST", path, content, headers=headers)

    async def page(self, path: str) -> Answer:
        return await self.get(path, accept="text/html,*/*;q=0.8")

    async def submit(self, path: str, fields: dict[str, str]) -> Answer:
        headers = {
            "accept": "text/html",
            "content-type": "application/x-www-form-urlencoded; charset=utf-8",
        }
        return await self.ask("POST", path, urlencode(fields).encode(), headers=headers)


@pytest.fixture(params=["memory:", "sqlite:"])
async def env(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Environment]:
    links.clear()
    store = request.param if request.param == "memory:" else f"sqlite:{tmp_path / 'data.db'}"
    async with environment(hf.App(desk), store=store) as env:
        yield env


async def ask_for(env: Environment, **options: Any) -> tuple[str, str, str]:
    """Return invocation id, approval id, and link."""
    sent = await env.client.send(pay, options)
    found = [a for a in await env.approvals() if a.invocation_id == sent.invocation_id]
    link = links[found[0].id]
    assert link is not None
    return sent.invocation_id, found[0].id, link


def at(link: str, verb: str = "") -> str:
    path, _, query = link.partition("?")
    return f"{path}/{verb}?{query}" if verb else link


async def test_the_inbox_of_operators(env: Environment) -> None:
    door = Door(env, needs_link=False)
    for number in range(5):
        await ask_for(env, title=f"Pay {number}", assignee=["ann"] if number % 2 else "bob")
        await env.advance(1)
    first = (await door.get(f"{ROUTE}?limit=3&status=open")).json
    second = (await door.get(f"{ROUTE}?limit=3&before={first['next']}")).json
    titles = [each["title"] for each in (*first["approvals"], *second["approvals"])]
    assert titles == [f"Pay {n}" for n in (4, 3, 2, 1, 0)]
    assert second["next"] is None
    anns = (await door.get(f"{ROUTE}?assignee=ann&service=Desk")).json["approvals"]
    assert [each["title"] for each in anns] == ["Pay 3", "Pay 1"]
    assert (await door.get(f"{ROUTE}?status=decided,expired")).json["approvals"] == []
    one = anns[0]
    assert (one["status"], one["service"], one["handler"]) == ("open", "Desk", "pay")
    assert "payload" not in one


@pytest.mark.parametrize(
    "query", ["status=later", "limit=0", "limit=x", "before=5", "before=1-x-y", "stat=open"]
)
async def test_a_wrong_query_is_refused(env: Environment, query: str) -> None:
    answer = await Door(env, needs_link=False).get(f"{ROUTE}?{query}")
    assert (answer.status, answer.json["error_code"]) == (400, "HF1060")


async def test_one_approval_is_shown_whole(env: Environment) -> None:
    _, approval_id, _ = await ask_for(env, why="much", timeout=60)
    shown = (await Door(env, needs_link=False).get(f"{ROUTE}/{approval_id}")).json
    assert (shown["payload"], shown["why"], shown["on_timeout"]) == (
        {"claim": 17},
        "much",
        "reject",
    )
    assert shown["arguments"] == {"to": "ada", "euros": 120}
    assert shown["arguments_schema"]["properties"]["to"] == {"const": "ada"}
    assert shown["expires_at"] > shown["asked_at"]
    assert (shown["decided_at"], shown["is_purged"]) == (None, False)


@pytest.mark.parametrize("needs_link", [False, True])
async def test_a_program_decides(env: Environment, needs_link: bool) -> None:
    door = Door(env, needs_link=needs_link)
    invocation_id, approval_id, link = await ask_for(env)
    place = at(link, "approve") if needs_link else f"{ROUTE}/{approval_id}/approve"
    body = {"value": {"amount": 90}, "arguments": {"euros": 95.5}, "comment": "ok", "by": "me"}
    answer = await door.post(place, body)
    assert (answer.status, answer.json["status"], answer.json["by"]) == (200, "approved", "me")
    assert answer.json["changed_arguments"] == {"to": "ada", "euros": 95.5}
    again = await door.post(place, body)
    assert (again.status, again.json["error_code"]) == (409, "HF1411")
    assert "by me at" in again.json["message"]
    seen = await env.client.attach(invocation_id, type=dict[str, Any])
    assert seen == {
        "approved": True, "amount": 90.0, "euros": 95.5, "by": "me", "comment": "ok"
    }  # fmt: skip


async def test_a_rejection_needs_no_form(env: Environment) -> None:
    door = Door(env, needs_link=False)
    invocation_id, approval_id, _ = await ask_for(env)
    assert (await door.post(f"{ROUTE}/{approval_id}/reject")).json["status"] == "rejected"
    assert not (await env.client.attach(invocation_id, type=dict[str, Any]))["approved"]


@pytest.mark.parametrize(
    ("body", "code", "where"),
    [
        (b'{"value": {"amount": "9"}}', "HF1412", "$.amount"),
        (b'{"value": {}}', "HF1412", "amount"),
        (b"", "HF1412", "must be filled in"),
        (b'{"value": {"amount": 1}, "arguments": {"to": "eve"}}', "HF1412", "$.to"),
        (b'{"value": {"amount": 1}, "arguments": {"new": 1}}', "HF1412", "new"),
        (b'{"value": {"amount": 1}, "arguments": [1]}', "HF1412", "object"),
        (b'{"value": {"amount": 1}, "comment": 3}', "HF1418", "$.comment"),
        (b'{"valeu": {"amount": 1}}', "HF1418", "valeu"),
        (b"[]", "HF1418", "object"),
        (b"nonsense", "HF1418", "not a decision"),
        (b'{"comment": "' + b"x" * 10_001 + b'"}', "HF1412", "filled in"),
        (b'{"value": {"amount": 1}, "by": "' + b"x" * 501 + b'"}', "HF1412", "500"),
    ],
)
async def test_a_wrong_decision_says_where_and_loses_nothing(
    env: Environment, body: bytes, code: str, where: str
) -> None:
    door = Door(env, needs_link=False)
    _, approval_id, _ = await ask_for(env)
    answer = await door.ask("POST", f"{ROUTE}/{approval_id}/approve", body)
    assert (answer.status, answer.json["error_code"]) == (400, code)
    assert where in answer.json["message"]
    [approval] = await env.approvals()
    assert approval.id == approval_id


async def test_of_many_at_once_one_wins(env: Environment) -> None:
    door = Door(env, needs_link=False)
    _, approval_id, _ = await ask_for(env)
    answers = await asyncio.gather(
        *(door.post(f"{ROUTE}/{approval_id}/reject", {"by": f"p{n}"}) for n in range(10))
    )
    winners = [a.json["by"] for a in answers if a.status == 200]
    assert len(winners) == 1
    assert all(f"by {winners[0]} at" in a.json["message"] for a in answers if a.status == 409)


# -- links -----------------------------------------------------------------------------------------


async def test_who_has_no_link_gets_in_nowhere_on_the_ingress(env: Environment) -> None:
    door = Door(env, needs_link=True)
    _, approval_id, link = await ask_for(env)
    for method, path in (
        ("GET", ROUTE),
        ("GET", f"{ROUTE}/{approval_id}"),
        ("POST", f"{ROUTE}/{approval_id}/approve"),
        ("GET", f"{ROUTE}/{approval_id}?token="),
    ):
        answer = await door.ask(method, path)
        assert (answer.status, answer.json["error_code"]) == (401, "HF1417")
    assert (await door.get(link)).json["id"] == approval_id


async def test_a_link_opens_its_own_approval_only(env: Environment) -> None:
    _, first, link = await ask_for(env)
    _, second, other = await ask_for(env)
    token, forged = link.partition("token=")[2], sign(b"k" * 32, first, "", 0)
    for needs_link in (True, False):
        door = Door(env, needs_link=needs_link)
        for path in (
            f"{ROUTE}/{second}?token={token}",
            f"{ROUTE}/{first}?token={forged}",
            f"{ROUTE}/{first}?token={token}x",
            f"{ROUTE}/{first}?token=%00",
        ):
            for method, suffix in (("GET", ""), ("POST", "approve")):
                place = at(path, suffix)
                answer = await door.ask(method, place)
                assert (answer.status, answer.json["error_code"]) == (403, "HF1413")
    assert (await Door(env, needs_link=True).get(other)).status == 200
    assert len(await env.approvals()) == 2


async def test_a_link_closes_at_the_deadline(env: Environment) -> None:
    door = Door(env, needs_link=True)
    invocation_id, _, link = await ask_for(env, timeout=3600)
    assert (await door.get(link)).status == 200
    await env.advance(3600)
    for answer in (await door.get(link), await door.post(at(link, "approve"))):
        assert (answer.status, answer.json["error_code"]) == (410, "HF1414")
    assert not (await env.client.attach(invocation_id, type=dict[str, Any]))["approved"]


async def test_a_personal_link_says_who(env: Environment) -> None:
    door = Door(env, needs_link=True)
    invocation_id, _, link = await ask_for(env, assignee="ann")
    answer = await door.post(at(link, "reject"), {"by": "somebody else"})
    assert answer.json["by"] == "ann"
    assert (await env.client.attach(invocation_id, type=dict[str, Any]))["by"] == "ann"


async def test_foreign_pages_decide_nothing(env: Environment) -> None:
    door = Door(env, needs_link=False)
    _, approval_id, _ = await ask_for(env)
    headers = {"sec-fetch-site": "cross-site"}
    answer = await door.ask("POST", f"{ROUTE}/{approval_id}/reject", headers=headers)
    assert (answer.status, answer.json["error_code"]) == (403, "HF1009")


# -- what is not there -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"{ROUTE}/sign_1x", 400, "HF1003"),
        ("GET", f"{ROUTE}/%3Cscript%3E", 400, "HF1003"),
        ("GET", f"{ROUTE}/sign_1{'A' * 38}", 404, "HF1410"),
        ("POST", f"{ROUTE}/sign_1{'A' * 38}/approve", 404, "HF1410"),
        ("POST", f"{ROUTE}/sign_1{'A' * 38}/postpone", 404, "HF1005"),
        ("GET", f"{ROUTE}/sign_1{'A' * 38}/approve", 405, "HF1007"),
        ("DELETE", f"{ROUTE}/sign_1{'A' * 38}", 405, "HF1007"),
        ("POST", ROUTE, 405, "HF1007"),
    ],
)
async def test_what_is_not_there(
    env: Environment, method: str, path: str, status: int, code: str
) -> None:
    door = Door(env, needs_link=False)
    answer = await door.ask(method, path)
    assert (answer.status, answer.json["error_code"]) == (status, code)
    page = await door.ask(method, path, headers={"accept": "text/html"})
    assert page.status == status
    assert code.encode() in page.body


async def test_a_socket_is_refused(env: Environment) -> None:
    answer = await Door(env, needs_link=False).ask("GET", ROUTE, kind="websocket")
    assert answer.status == 404


async def test_a_purged_journal_leaves_the_head(env: Environment) -> None:
    door = Door(env, needs_link=False)
    invocation_id, approval_id, _ = await ask_for(env)
    await env.decide(approval_id, False, by="ann")
    await env.client.attach(invocation_id, type=dict[str, Any])
    await env._host.operations.purge(invocation_id, is_journal_only=True)
    shown = (await door.get(f"{ROUTE}/{approval_id}")).json
    assert (shown["by"], shown["payload"], shown["is_purged"]) == ("ann", None, True)
    assert (await door.page(f"{ROUTE}/{approval_id}")).status == 200


# -- the page --------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """Keeps tags, attributes and texts of a page."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


async def test_a_person_decides_without_script(env: Environment) -> None:
    door = Door(env, needs_link=True)
    invocation_id, _, link = await ask_for(env, why="much")
    page = Reader((await door.page(link)).body)
    names = [tag["name"] for tag in page.named("input") + page.named("textarea")]
    assert names == ["value.amount", "value.note", "arguments.euros", "by", "comment"]
    approve, reject = (button["formaction"] or "" for button in page.named("button"))
    assert (approve, reject) == (at(link, "approve"), at(link, "reject"))
    fields = {"value.amount": "90", "value.note": "", "arguments.euros": "99.5", "by": "Ann"}
    refused = await door.submit(approve, fields | {"value.amount": ""})
    assert refused.status == 400
    assert "amount" in "".join(Reader(refused.body).texts)
    refused = await door.submit(approve, fields | {"value.amount": "much", "by": "<b>"})
    assert (refused.status, b"<b>" in refused.body) == (400, False)
    done = await door.submit(approve, fields | {"comment": "fine\r\nwith me"})
    assert (done.status, done.headers["location"]) == (303, link)
    after = Reader((await door.page(link)).body)
    assert "approved" in after.texts
    assert after.named("form") == []
    late = await door.submit(reject, {})
    assert (late.status, "by Ann at" in late.body.decode()) == (409, True)
    seen = await env.client.attach(invocation_id, type=dict[str, Any])
    assert seen == {
        "approved": True, "amount": 90.0, "euros": 99.5, "by": "Ann", "comment": "fine\nwith me"
    }  # fmt: skip


async def test_a_personal_page_does_not_ask_for_the_name(env: Environment) -> None:
    door = Door(env, needs_link=True)
    _, _, link = await ask_for(env, assignee="ann")
    page = Reader((await door.page(link)).body)
    assert "by" not in [tag["name"] for tag in page.named("input")]
    await door.submit(at(link, "reject"), {"by": "eve"})
    assert (await door.get(link)).json["by"] == "ann"


async def test_hostile_text_is_text(env: Environment) -> None:
    door = Door(env, needs_link=True)
    await env.client.send(hostile)
    [approval] = await env.approvals()
    link = links[approval.id] or ""
    answer = await door.page(link)
    refused = await door.submit(
        at(link, "approve"), {"comment": HOSTILE, "by": HOSTILE, "value.one": HOSTILE}
    )
    assert refused.status == 400
    for body in (answer.body, refused.body):
        page = Reader(body)
        assert {tag for tag, _ in page.tags} <= TAGS
        names = {name for _, attributes in page.tags for name in attributes}
        assert not [name for name in names if name.startswith("on")]
        assert b"<script" not in body
        assert f"T {HOSTILE}" in page.texts
    csp = answer.headers["content-security-policy"]
    assert csp.startswith("default-src 'none'; style-src 'sha256-")
    assert "frame-ancestors 'none'" in csp
    assert "unsafe" not in csp
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    await env.decide(approval.id, False, by=HOSTILE, comment=HOSTILE)
    decided = await door.page(link)
    assert b"<script" not in decided.body
