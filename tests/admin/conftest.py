from __future__ import annotations

import pytest

from holdfast.admin.app import create_admin_app
from tests.ingress.fake import Client, FakeHandle


@pytest.fixture
def handle() -> FakeHandle:
    return FakeHandle()


@pytest.fixture
def client(handle: FakeHandle) -> Client:
    return Client(create_admin_app(handle, ingress_url="http://127.0.0.1:8080"))
