"""What both HTTP front doors share: ASGI types, refusals, guards; knows nothing of routes."""
