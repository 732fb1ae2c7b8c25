from __future__ import annotations

import pytest

from holdfast.ingress.app import create_ingress_app
from tests.ingress.fake import Client, FakeHandle


@pytest.fixture
def handle() -> FakeHandle:
    return FakeHandle()


@pytest.fixture
def client(handle: FakeHandle) -> Client:
    return Client(create_ingress_app(handle))
