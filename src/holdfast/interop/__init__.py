"""Handlers for those who speak other protocols: tools of an MCP server."""
