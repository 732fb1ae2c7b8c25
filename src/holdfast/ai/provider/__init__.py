"""Reads requests and answers of model providers. Nothing here raises on an odd body."""

from __future__ import annotations
