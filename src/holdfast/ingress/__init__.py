"""The HTTP front door: turns requests of clients into calls of the server, and back.

`create_ingress_app` in `holdfast.ingress.app` makes an ASGI application. It is a raw one: every
call of every client passes here, so there is no framework between the socket and the server.
"""
