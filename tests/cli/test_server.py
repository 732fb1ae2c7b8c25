"""`holdfast server`: starting, refusing to start, stopping."""

from __future__ import annotations

import http.client
import os
import signal
import socket
from pathlib import Path

import pytest
from cli_harness import Running, free_ports, holdfast
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from holdfast.cli.port import listener_on
from holdfast.protocol.identity import print_public_key


def addresses() -> list[str]:
    """Return the options for two free ports."""
    ingress, admin = free_ports(2)
    return ["--ingress", f"127.0.0.1:{ingress}", "--admin", f"127.0.0.1:{admin}"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal_and_exits_0(number: signal.Signals, tmp_path: Path) -> None:
    with Running("server", *addresses(), cwd=tmp_path) as server:
        server.until("Ready")
        admin = server.until(r"Admin +http://(\S+)").group(1)
        connection = http.client.HTTPConnection(admin, timeout=10)
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
        connection.close()
        server.send_signal(number)
        assert server.wait() == 0
    assert (tmp_path / "holdfast-data" / "holdfast.db").is_file()


@pytest.mark.parametrize("option", ["--ingress", "--admin"])
def test_a_taken_port_exits_2_and_names_its_owner(option: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        options = addresses()
        options[options.index(option) + 1] = f"127.0.0.1:{port}"
        done = holdfast("server", "--store", "memory:", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert "error[HF1201]" in done.stderr
    assert option in done.stderr
    assert str(port) in done.stderr
    assert f"process {os.getpid()} (" in done.stderr


def test_the_owner_of_a_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours:
        owner = listener_on(ours.getsockname()[1])
        assert owner is not None
        assert owner.startswith(f"process {os.getpid()} (")
    (free,) = free_ports(1)
    assert listener_on(free) is None


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--ingress", "0.0.0.0:0"], "HF1203"),
        (["--admin", "192.0.2.1:9070"], "HF1203"),
        (["--ingress", "8080"], "HF1202"),
        (["--ingress", "127.0.0.1:http"], "HF1202"),
        (["--store", "mysql://x"], "HF1205"),
    ],
)
def test_wrong_settings_exit_2(options: list[str], code: str, tmp_path: Path) -> None:
    done = holdfast("server", *addresses(), *options, cwd=tmp_path)
    assert done.returncode == 2
    assert f"error[{code}]" in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_come_from_the_environment_too(tmp_path: Path) -> None:
    env = {"HOLDFAST_STORE": "memory:", "HOLDFAST_INGRESS": "nonsense"}
    done = holdfast("server", cwd=tmp_path, env=env)
    assert done.returncode == 2
    assert "nonsense" in done.stderr


def test_variables_of_restate_count_where_nothing_else_is_said(tmp_path: Path) -> None:
    ingress, admin = free_ports(2)
    key = Ed25519PrivateKey.generate()
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    env = {
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
        "RESTATE_ADMIN__BIND_ADDRESS": "127.0.0.1:1",
        "HOLDFAST_ADMIN": f"127.0.0.1:{admin}",
        "RESTATE_BASE_DIR": str(tmp_path / "data"),
        "RESTATE_REQUEST_IDENTITY_PRIVATE_KEY_PEM_FILE": "key.pem",
        "RESTATE_WORKER__INVOKER__INACTIVITY_TIMEOUT": "0s",
        "RESTATE_DEFAULT_RETRY_POLICY__MAX_ATTEMPTS": "unlimited",
    }
    with Running("server", cwd=tmp_path, env=env) as server:
        server.until(f"Ingress +http://127.0.0.1:{ingress}")
        server.until(f"Admin +http://127.0.0.1:{admin}")
        printed = server.until(r"Identity (\S+)").group(1)
        assert printed == print_public_key(key.public_key().public_bytes_raw())
        server.until("Ready")
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
    assert (tmp_path / "data" / "holdfast.db").is_file()


@pytest.mark.parametrize(
    ("options", "env", "code"),
    [
        (["--identity-key", "none.pem"], {}, "HF1371"),
        (["--identity-key", "."], {}, "HF1371"),
        ([], {"HOLDFAST_RETRY_MAX_ATTEMPTS": "many"}, "HF1204"),
        ([], {"RESTATE_INGRESS__BIND_ADDRESS": "0.0.0.0:0"}, "HF1203"),
        ([], {"HOLDFAST_RETRY_MAX_ATTEMPT": "1"}, "HF1220"),
    ],
)
def test_what_cannot_be_used_exits_2(
    options: list[str], env: dict[str, str], code: str, tmp_path: Path
) -> None:
    # No ingress in the options: it would win over the environment.
    (admin,) = free_ports(1)
    where = ["--admin", f"127.0.0.1:{admin}", "--store", "memory:"]
    ports = (
        {"HOLDFAST_INGRESS": "127.0.0.1:0"} if "RESTATE_INGRESS__BIND_ADDRESS" not in env else {}
    )
    done = holdfast("server", *where, *options, cwd=tmp_path, env={**ports, **env})
    assert done.returncode == 2, done.stderr
    assert f"error[{code}]" in done.stderr


def test_a_second_server_on_the_same_data_exits_2(tmp_path: Path) -> None:
    with Running("server", *addresses(), cwd=tmp_path) as first:
        first.until("Ready")
        done = holdfast("server", *addresses(), cwd=tmp_path)
        assert done.returncode == 2
        assert "error[HF4102]" in done.stderr
        assert str(first.pid) in done.stderr


def test_a_file_that_is_no_store_exits_2(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("these are my notes, not a database\n" * 100)
    done = holdfast("server", *addresses(), "--store", "sqlite:notes.db", cwd=tmp_path)
    assert done.returncode == 2
    assert "error[HF41" in done.stderr
    assert "hint:" in done.stderr
    assert (tmp_path / "notes.db").read_text().startswith("these are my notes")


def test_a_corrupt_store_exits_3(tmp_path: Path) -> None:
    with Running("server", *addresses(), "--store", "sqlite:a.db", cwd=tmp_path) as server:
        server.until("Ready")
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
    file = tmp_path / "a.db"
    content = bytearray(file.read_bytes())
    # The first page stays, so that it is still one of ours.
    content[4096:] = b"\xa5" * (len(content) - 4096)
    file.write_bytes(content)
    done = holdfast("server", *addresses(), "--store", "sqlite:a.db", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "error[HF41" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_store_that_cannot_be_made_exits_2(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = holdfast("server", *addresses(), "--store", "sqlite:file/in/a.db", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "error[HF41" in done.stderr
