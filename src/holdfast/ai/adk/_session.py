"""Sessions of the kit, in the state of the object that the handler belongs to."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote
from weakref import WeakKeyDictionary

from google.adk.events import Event
from google.adk.sessions import BaseSessionService, InMemorySessionService, Session
from google.adk.sessions.base_session_service import GetSessionConfig, ListSessionsResponse

from holdfast.ai.guard import current, whereabouts
from holdfast.sdk.attempt import Attempt
from holdfast.sdk.branch import place

from ._platform import use_our_platform

_APP, _USER = "app:", "user:"


class Sessions(BaseSessionService):
    """A session service for runners in durable handlers. One serves all of them.

    In a handler of a virtual object or workflow, sessions are in its state: each event is an entry
    of its own, so a turn writes what is new and not the conversation. It is committed together with
    the invocation: a crash neither loses nor doubles an event. State that the kit shares between
    users or sessions (`user:`, `app:`) is shared in the object.

    In a handler of a service, which has no state, a session lives as long as the invocation.
    Outside of handlers, sessions are in memory.
    """

    def __init__(self) -> None:
        self._attempts: WeakKeyDictionary[Attempt, _Memory] = WeakKeyDictionary()
        self._outside = _Memory(is_kept=False)

    def _memory(self) -> _Memory:
        use_our_platform()
        found = place.get()
        attempt = getattr(found, "attempt", None) if whereabouts() == "handler" else None
        if not isinstance(attempt, Attempt):
            return self._outside
        return self._attempts.setdefault(attempt, _Memory(is_kept=attempt.handler.is_keyed))

    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> Session:
        """Create a session; without an id, under one that is the same at each replay.

        Raises:
            UsageError: HF0506, the handler may not write state.
        """
        memory = self._memory()
        if session_id is not None:
            await memory.load(app_name, user_id, session_id.strip())
        else:
            await memory.load_shared(app_name, user_id)
        made = await memory.service.create_session(
            app_name=app_name, user_id=user_id, state=state, session_id=session_id
        )
        memory.save_created(made, state or {})
        return made

    async def get_session(
        self,
        *,
        app_name: str,
        user_id: str,
        session_id: str,
        config: GetSessionConfig | None = None,
    ) -> Session | None:
        """Return a session; `None` if there is none."""
        memory = self._memory()
        await memory.load(app_name, user_id, session_id.strip())
        return await memory.service.get_session(
            app_name=app_name, user_id=user_id, session_id=session_id, config=config
        )

    async def list_sessions(
        self, *, app_name: str, user_id: str | None = None
    ) -> ListSessionsResponse:
        """Return the sessions of an app, or of one of its users, without their events."""
        memory = self._memory()
        for user, session_id in await memory.names(app_name):
            if user_id in (None, user):
                await memory.load(app_name, user, session_id)
        return await memory.service.list_sessions(app_name=app_name, user_id=user_id)

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """Delete a session with its events."""
        memory = self._memory()
        await memory.load(app_name, user_id, session_id.strip())
        memory.forget(app_name, user_id, session_id.strip())
        await memory.service.delete_session(
            app_name=app_name, user_id=user_id, session_id=session_id
        )

    async def append_event(self, session: Session, event: Event) -> Event:
        """Add an event to a session, and do what it says to the state."""
        memory = self._memory()
        await memory.load(session.app_name, session.user_id, session.id)
        before = memory.count(session)
        added = await memory.service.append_event(session, event)
        if memory.count(session) > before:
            memory.save_event(session, event, before)
        return added


class _Memory:
    """The sessions of one attempt: those of the kit in memory, and what is kept of them."""

    def __init__(self, *, is_kept: bool) -> None:
        self.service = InMemorySessionService()
        self._is_kept = is_kept
        self._loaded: set[str] = set()

    def count(self, session: Session) -> int:
        """Return how many events a session has."""
        return len(self._stored(session.app_name, session.user_id, session.id).events)

    def _stored(self, app: str, user: str, session_id: str) -> Session:
        return self.service.sessions[app][user][session_id]

    async def load(self, app: str, user: str, session_id: str) -> None:
        """Read a session that is kept, the first time it is asked for."""
        name = _name(app, user, session_id)
        if not self._is_kept or name in self._loaded:
            return
        await self.load_shared(app, user)
        self._loaded.add(name)
        head: dict[str, Any] | None = await current().get(name)
        if head is None:
            return
        # All are asked for before one is awaited: they are read in one go.
        state = current().get(f"{name}/state")
        reading = [current().get(_entry(name, number)) for number in range(head["count"])]
        events = [Event.model_validate(await record) for record in reading]
        session = Session(
            id=session_id,
            app_name=app,
            user_id=user,
            state=await state or {},
            events=events,
            last_update_time=events[-1].timestamp if events else head["created_s"],
        )
        self.service.sessions.setdefault(app, {}).setdefault(user, {})[session_id] = session

    async def load_shared(self, app: str, user: str) -> None:
        """Read what sessions share."""
        name = _name(app, user)
        if not self._is_kept or name in self._loaded:
            return
        self._loaded.add(name)
        of_app, of_user = current().get(_name(app)), current().get(name)
        self.service.app_state.setdefault(app, {}).update(await of_app or {})
        users = self.service.user_state.setdefault(app, {})
        users.setdefault(user, {}).update(await of_user or {})

    def save_created(self, session: Session, state: dict[str, Any]) -> None:
        """Keep a session that was just made."""
        if not self._is_kept:
            return
        name = _name(session.app_name, session.user_id, session.id)
        self._loaded.add(name)
        current().set(name, {"count": 0, "created_s": session.last_update_time})
        self._save_state(session, state)

    def save_event(self, session: Session, event: Event, number: int) -> None:
        """Keep an event that was just added."""
        if not self._is_kept:
            return
        name = _name(session.app_name, session.user_id, session.id)
        current().set(_entry(name, number), event.model_dump(mode="json", exclude_none=True))
        stored = self._stored(session.app_name, session.user_id, session.id)
        first_s = stored.events[0].timestamp
        current().set(name, {"count": number + 1, "created_s": first_s})
        self._save_state(session, event.actions.state_delta)

    def _save_state(self, session: Session, changed: dict[str, Any]) -> None:
        app, user = session.app_name, session.user_id
        if any(key.startswith(_APP) for key in changed):
            current().set(_name(app), self.service.app_state[app], type=Any)
        if any(key.startswith(_USER) for key in changed):
            current().set(_name(app, user), self.service.user_state[app][user], type=Any)
        if any(not key.startswith((_APP, _USER)) for key in changed):
            state = self._stored(app, user, session.id).state
            current().set(f"{_name(app, user, session.id)}/state", state, type=Any)

    def forget(self, app: str, user: str, session_id: str) -> None:
        """Delete what is kept of a session."""
        users = self.service.sessions.get(app, {}).get(user, {})
        if not self._is_kept or session_id not in users:
            return
        name = _name(app, user, session_id)
        for number in range(len(users[session_id].events)):
            current().clear(_entry(name, number))
        current().clear(f"{name}/state")
        current().clear(name)

    async def names(self, app: str) -> list[tuple[str, str]]:
        """Return users and ids of the sessions that are kept."""
        if not self._is_kept:
            return []
        found = (key.split("/") for key in await current().keys())
        app = quote(app, safe="")
        return [
            (unquote(parts[2]), unquote(parts[3]))
            for parts in found
            if len(parts) == 4 and parts[:2] == ["adk", app]
        ]


def _name(*parts: str) -> str:
    return "/".join(("adk", *(quote(part, safe="") for part in parts)))


def _entry(name: str, number: int) -> str:
    # With zeros, so that lists of state entries are in order.
    return f"{name}/{number:08}"
