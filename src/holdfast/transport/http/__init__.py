"""Handlers that serve HTTP, Restate's service protocol: the server dials out to them.

One HTTP exchange per attempt. The client library is imported with the first deployment that needs
it: programs without one do not pay for it.
"""
