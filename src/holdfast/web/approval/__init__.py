"""Approvals over HTTP, the same on both front doors: JSON for programs, a page for people."""

from holdfast.web.approval.app import create_approval_app

__all__ = ["create_approval_app"]
