"""Large values, cut into pieces that are kept once.

A conversation that lives in the state of an object is written whole with every turn, and each
journal keeps what it has read and written; what was said is also an input, a result, an output and
part of prompts. So values are cut, in two sizes:

    row ──▶ section ──▶ piece      a section is 32 kB or more of a list of objects
     └────────────────▶ piece      a piece is one long text, or some short objects of a list

What one turn appends are new pieces, while the sections before them stay as they are. A text is the
same piece wherever it is said.

A row with parts has `data` without them, and in `chunks` their places in `data` and their hashes;
so has a section. Each part counts what it is a part of, and goes with the last of these. The
changes of a commit are added up first: a turn that writes nearly the same state again changes few
counts.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from itertools import pairwise
from typing import NamedTuple

import apsw

from holdfast.domain.message import (
    Call,
    CompleteAwakeable,
    CompletePromise,
    Completion,
    Entry,
    GetEagerState,
    Input,
    OneWayCall,
    Output,
    SendSignal,
    SetState,
    Signal,
    Value,
)
from holdfast.storage.sqlite.compress import compressed, plain, restored
from holdfast.storage.sqlite.driver import Bindings, Connection, Cursor
from holdfast.storage.sqlite.query import QUERIES

PIECE_BYTES_MIN = 1024
"""Values below are not cut, and nothing that is cut out is smaller."""
_SECTION_BYTES_MIN = 32 * 1024
_SECTION_TEXT_BYTES_MIN = 16 * 1024
"""Texts from this size on are parts of rows themselves, so that no section splits them."""
_PART_BYTES_MAX = 64 * 1024
"""Of what has neither texts nor commas."""
_COMPRESSED_BYTES_MAX = 512 * 1024
"""New parts of one commit that are made smaller: the event loop waits for it."""
_HASH_BYTES = 16
_PLACE = struct.Struct(f">I{_HASH_BYTES}s")
"""Where in the data a part belongs, and its hash."""
_TEXT = re.compile(rb'"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL)
_COMMA = re.compile(rb"\}(?=,\{)")

_ADD = QUERIES["add_chunk"]
_PUT = QUERIES["put_chunk"]
_DELETE = QUERIES["delete_chunk"]
_DELETE_COUNT = QUERIES["delete_chunk_count"]
_LOAD = QUERIES["load_chunk"]
_PARTS = QUERIES["chunk_parts"]


class Part(NamedTuple):
    """Something that was cut out."""

    hash: bytes
    content: bytes
    is_section: bool


class Cut(NamedTuple):
    """A row's data, and what was cut out of it."""

    data: bytes
    chunks: bytes | None
    parts: tuple[Part, ...]


# -- cutting ---------------------------------------------------------------------------------------


def cut_entry(entry: Entry, encoded: bytes) -> Cut:
    """Cut the value out of an encoded journal entry, if it is large."""
    return cut(encoded, _value_of(entry))


def _value_of(entry: Entry) -> bytes:
    match entry:
        case (
            Input(value=Value(content=content))
            | SetState(value=Value(content=content))
            | Output(result=Value(content=content))
            | GetEagerState(result=Value(content=content))
            | Completion(result=Value(content=content))
            | Signal(result=Value(content=content))
            | SendSignal(result=Value(content=content))
            | CompletePromise(result=Value(content=content))
            | CompleteAwakeable(result=Value(content=content))
            | Call(parameter=content)
            | OneWayCall(parameter=content)
        ):
            return content
        case _:
            return b""


def cut(encoded: bytes, value: bytes) -> Cut:
    """Cut a value out of the row in which it is encoded, if it is large."""
    at = encoded.find(value) if len(value) >= PIECE_BYTES_MIN else -1
    if at < 0:
        return Cut(encoded, None, ())
    spans: list[tuple[int, int, bool]] = []
    end = 0
    for start, stop in _sections(value):
        spans += ((at + end + a, at + end + b, False) for a, b in _pieces(value[end:start]))
        spans.append((at + start, at + stop, True))
        end = stop
    spans += ((at + end + a, at + end + b, False) for a, b in _pieces(value[end:]))
    return _without(encoded, spans)


def _sections(value: bytes) -> Iterator[tuple[int, int]]:
    if len(value) < _SECTION_TEXT_BYTES_MIN:
        return iter(())
    commas = [0, *(found.end() for found in _COMMA.finditer(value)), len(value)]
    if all(b - a < _SECTION_TEXT_BYTES_MIN for a, b in pairwise(commas)):
        # No text can be that long. Looking at each takes ten times as long as this.
        return _runs(value, 0, len(value), _SECTION_BYTES_MIN)
    return _spans(value, _SECTION_TEXT_BYTES_MIN, _SECTION_BYTES_MIN)


def _pieces(value: bytes) -> Iterator[tuple[int, int]]:
    if len(value) < PIECE_BYTES_MIN:
        return iter(())
    return _spans(value, PIECE_BYTES_MIN, PIECE_BYTES_MIN)


def _without(data: bytes, spans: list[tuple[int, int, bool]]) -> Cut:
    parts: list[Part] = []
    kept: list[bytes] = []
    places: list[bytes] = []
    end = kept_size = 0
    for start, stop, is_section in spans:
        content = data[start:stop]
        part = Part(blake2b(content, digest_size=_HASH_BYTES).digest(), content, is_section)
        parts.append(part)
        kept.append(data[end:start])
        kept_size += start - end
        places.append(_PLACE.pack(kept_size, part.hash))
        end = stop
    kept.append(data[end:])
    return Cut(b"".join(kept), b"".join(places) or None, tuple(parts))


def _spans(value: bytes, text_min: int, run_min: int) -> Iterator[tuple[int, int]]:
    """Iterate over what is cut out: texts, and between them runs that end where an object does."""
    start = 0
    for found in _TEXT.finditer(value):
        text_start, text_end = found.span(1)
        if text_end - text_start >= text_min:
            yield from _runs(value, start, text_start, run_min)
            yield text_start, text_end
            start = text_end
    yield from _runs(value, start, len(value), run_min)


def _runs(value: bytes, start: int, end: int, run_min: int) -> Iterator[tuple[int, int]]:
    if end - start < run_min:
        return
    for found in _COMMA.finditer(value, start, end):
        comma = found.end()
        while comma - start > _PART_BYTES_MAX:
            yield start, start + _PART_BYTES_MAX
            start += _PART_BYTES_MAX
        if comma - start >= run_min:
            yield start, comma
            start = comma
    while end - start >= _PART_BYTES_MAX:
        yield start, start + _PART_BYTES_MAX
        start += _PART_BYTES_MAX
    if run_min == PIECE_BYTES_MIN and end - start >= run_min:
        # Behind this there is nothing that could go on, or what does is a text of its own.
        yield start, end


# -- writing ---------------------------------------------------------------------------------------


class Tally:
    """What the rows of one commit put and take."""

    def __init__(self) -> None:
        self._changes: Counter[bytes] = Counter()
        self._parts: dict[bytes, Part] = {}
        self._budget = _COMPRESSED_BYTES_MAX

    def put(self, cut: Cut) -> None:
        """A row with these parts is written."""
        for part in cut.parts:
            self._changes[part.hash] += 1
            self._parts[part.hash] = part

    def take(self, cursor: Cursor, question: str, bindings: Bindings) -> None:
        """The rows that a question finds are about to be deleted or replaced."""
        for (chunks,) in cursor.execute(question, bindings).fetchall():
            if chunks is not None:
                self._changes.subtract(hash_ for _, hash_ in _PLACE.iter_unpack(chunks))

    def write(self, cursor: Cursor) -> None:
        """Write the counts, and what is new; delete what nobody has any more."""
        # What comes first: it may need what would go.
        while more := [hash_ for hash_, change in self._changes.items() if change > 0]:
            for hash_ in more:
                self._add(cursor, hash_)
        while less := [hash_ for hash_, change in self._changes.items() if change < 0]:
            for hash_ in less:
                self._remove(cursor, hash_)

    def _count(self, cursor: Cursor, hash_: bytes) -> tuple[int, int]:
        """Write a count. Returns the change, and what it is now."""
        # Not what it was when the round began: a section may have had more of it.
        change = self._changes.pop(hash_)
        return change, cursor.execute(_ADD, (hash_, change)).fetchall()[0][0]

    def _add(self, cursor: Cursor, hash_: bytes) -> None:
        change, count = self._count(cursor, hash_)
        if count != change:
            return
        content = self._parts[hash_].content
        data, chunks = content, None
        if self._parts[hash_].is_section:
            spans = [(start, end, False) for start, end in _pieces(content)]
            if spans != [(0, len(content), False)]:
                section = _without(content, spans)
                self.put(section)
                data, chunks = section.data, section.chunks
        self._budget -= len(data)
        stored = compressed(data) if self._budget >= 0 else plain(data)
        cursor.execute(_PUT, (hash_, stored, chunks))

    def _remove(self, cursor: Cursor, hash_: bytes) -> None:
        _, count = self._count(cursor, hash_)
        assert count >= 0, f"chunk {hash_.hex()} has {count} uses"
        if not count:
            self.take(cursor, _PARTS, (hash_,))
            cursor.execute(_DELETE, (hash_,))
            cursor.execute(_DELETE_COUNT, (hash_,))


# -- reading ---------------------------------------------------------------------------------------


def provide_whole(connection: Connection) -> None:
    """Teach a connection the function `whole(data, chunks)`, which puts the parts back."""

    def whole(data: bytes, chunks: bytes) -> bytes:
        parts: list[bytes] = []
        end = 0
        cursor = connection.cursor()
        for place, hash_ in _PLACE.iter_unpack(chunks):
            parts.append(data[end:place])
            end = place
            found = cursor.execute(_LOAD, (hash_,)).fetchall()
            if not found:
                raise apsw.CorruptError(f"chunk {hash_.hex()} is used and does not exist")
            stored, below = found[0]
            content = restored(stored)
            parts.append(content if below is None else whole(content, below))
        parts.append(data[end:])
        return b"".join(parts)

    connection.create_scalar_function("whole", whole, 2, deterministic=True)
