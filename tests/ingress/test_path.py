from __future__ import annotations

import pytest

from holdfast.domain.errors import HoldfastError
from holdfast.domain.target import Target
from holdfast.ingress.path import find, split_path
from holdfast.web.problem import Refusal, status_of
from tests.ingress.fake import FakeHandle


@pytest.mark.parametrize(
    ("raw", "segments"),
    [
        (b"/", [""]),
        (b"/a/b", ["a", "b"]),
        (b"/a/b/", ["a", "b"]),
        (b"/a/b//", ["a", "b", ""]),
        (b"/a//b", ["a", "", "b"]),
        (b"//", [""]),
        (b"*", []),
        (b"/a/x%2Fy/b", ["a", "x/y", "b"]),
        (b"/a/..%2f..%2fetc/b", ["a", "../../etc", "b"]),
        (b"/a/../b", ["a", "..", "b"]),
        (b"/a/%2541/b", ["a", "%41", "b"]),
        (b"/a/x+y/b", ["a", "x+y", "b"]),
        (b"/a/%F0%9F%A6%8A/b", ["a", "🦊", "b"]),
        ("/a/é/b".encode(), ["a", "é", "b"]),
        (b"/a/%E2%80%AE/b", ["a", "\u202e", "b"]),
    ],
)
def test_splits_then_decodes_once(raw: bytes, segments: list[str]) -> None:
    assert split_path(raw) == segments


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"/a/%ff/b", "not UTF-8"),
        (b"/a/%ed%a0%80/b", "not UTF-8"),
        (b"/a/\xff/b", "not UTF-8"),
        (b"/a/50%/b", "'%/b' at byte 5"),
        (b"/a/%zz/b", "'%zz' at byte 3"),
        (b"/a/%", "'%' at byte 3"),
    ],
)
def test_refuses_bad_encoding(raw: bytes, text: str) -> None:
    with pytest.raises(Refusal) as caught:
        split_path(raw)
    assert (caught.value.status, caught.value.code) == (400, "HF1006")
    assert text in caught.value.message


@pytest.mark.parametrize(
    ("path", "target", "is_send"),
    [
        ("/Greeter/greet", Target("Greeter", "greet"), False),
        ("/Greeter/greet/send", Target("Greeter", "greet"), True),
        ("/Cart/k/add", Target("Cart", "add", "k"), False),
        ("/Cart/k/add/send", Target("Cart", "add", "k"), True),
        # The kind of the service decides what `send` at the third place is.
        ("/Cart/k/send", Target("Cart", "send", "k"), False),
        ("/Cart/add/send", Target("Cart", "send", "add"), False),
        ("/Cart/k/send/send", Target("Cart", "send", "k"), True),
        ("/Signup/ann/run", Target("Signup", "run", "ann"), False),
        ("/Cart/send/add", Target("Cart", "add", "send"), False),
    ],
)
def test_finds_targets(path: str, target: Target, is_send: bool) -> None:
    found = find(FakeHandle(), split_path(path.encode()))
    assert (found.target, found.is_send) == (target, is_send)
    assert found.row.manifest.name == target.handler


@pytest.mark.parametrize(
    ("path", "status", "code", "text"),
    [
        ("/Nobody/greet", 404, "HF1001", "There is no service 'Nobody'."),
        ("/Nobody/k/add", 404, "HF1001", "There is no service 'Nobody'."),
        ("/Nobody/greet/send", 404, "HF1001", "There is no service 'Nobody'."),
        ("/Greeter/nothing", 404, "HF1002", "'Greeter' has no handler 'nothing'"),
        ("/Greeter/nothing/send", 404, "HF1002", "'Greeter' has no handler 'nothing'"),
        ("/Cart/k/nothing", 404, "HF1002", "'Cart' has no handler 'nothing'"),
        ("/Counter/k/send", 404, "HF1002", "'Counter' has no handler 'send'"),
        ("/", 400, "HF1005", "Path '/' has no meaning here"),
        ("/Greeter", 400, "HF1005", "Path '/Greeter' has no meaning here"),
        ("/a/b/c/d", 400, "HF1005", "has no meaning here"),
        ("/a/b/c/d/send", 400, "HF1005", "has no meaning here"),
        ("/Cart/add", 400, "HF1010", "Cart is keyed and the path has no key"),
        ("/Counter/bump/send", 400, "HF1010", "Counter is keyed and the path has no key"),
        ("/Greeter/ann/greet", 400, "HF1011", "Greeter is a plain service and has no keys"),
        ("/Greeter/ann/greet/send", 400, "HF1011", "found key 'ann'"),
        ("/Cart//add", 400, "HF1012", "The key of 'Cart' is empty"),
        ("/Cart/" + "x" * 1025 + "/add", 400, "HF1013", "has 1025 bytes; at most 1024"),
        ("/Cart/" + "%F0%9F%A6%8A" * 257 + "/add", 400, "HF1013", "has 1028 bytes"),
        ("/Cart/a%00b/add", 400, "HF1014", r"The key 'a\x00b' has a NUL"),
        ("/Greeter/hidden", 400, "HF1015", "Greeter/hidden is private"),
    ],
)
def test_refuses_targets(path: str, status: int, code: str, text: str) -> None:
    with pytest.raises(HoldfastError) as caught:
        find(FakeHandle(), split_path(path.encode()))
    assert (status_of(caught.value), caught.value.code) == (status, code)
    assert text in caught.value.message


def test_keys_of_the_longest_size_pass() -> None:
    found = find(FakeHandle(), split_path(b"/Cart/" + b"%F0%9F%A6%8A" * 256 + b"/add"))
    assert found.target.key == "🦊" * 256
