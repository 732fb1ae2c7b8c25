from __future__ import annotations

import subprocess
import sys

from google.protobuf import descriptor_pool

from holdfast.protocol.restate.layout import layouts
from holdfast.protocol.restate.schema import WIRE_CLASSES


def test_messages_are_in_a_pool_of_their_own() -> None:
    """Another package of the process may describe messages of the same name."""
    wire = WIRE_CLASSES["Start"]()
    assert wire.DESCRIPTOR.file.pool is not descriptor_pool.Default()
    assert wire.DESCRIPTOR.full_name == "holdfast.restate.Start"


def test_optional_fields_have_presence_and_others_do_not() -> None:
    call = WIRE_CLASSES["Call"]()
    assert not call.HasField("idempotency_key")
    call.idempotency_key = ""
    assert call.HasField("idempotency_key")
    fields = {field.name: field.has_presence for field in call.DESCRIPTOR.fields}
    assert [name for name, has in fields.items() if has] == [
        "idempotency_key",
        "scope",
        "limit_key",
    ]


def test_what_all_commands_have_is_at_the_same_number() -> None:
    for layout in layouts(6).values():
        if layout.is_command:
            numbers = {field.name: field.number for field in layout.wire_class().DESCRIPTOR.fields}
            assert numbers["name"] == 12
            assert numbers.get("completion_id", 11) == 11
            assert numbers.get("invocation_id_completion_id", 10) == 10


def test_attaching_and_asking_name_invocations_alike() -> None:
    attach, ask = (
        {field.name: field.number for field in WIRE_CLASSES[name]().DESCRIPTOR.fields}
        for name in ("AttachInvocation", "GetInvocationOutput")
    )
    assert attach == ask


def test_protobuf_is_imported_only_when_it_is_needed() -> None:
    program = (
        "import sys, holdfast, holdfast.cli, holdfast.server.app, "
        "holdfast.protocol.restate.manifest\n"
        "assert 'google.protobuf' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
