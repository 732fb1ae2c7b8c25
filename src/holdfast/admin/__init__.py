"""The HTTP front door of operators: what runs, what ran, and how to stop it.

`create_admin_app` in `holdfast.admin.app` makes an ASGI application. Routes that Restate's admin
API has keep their meaning; our own are under `/holdfast/v1`.
"""
