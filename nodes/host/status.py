"""What a node is doing, as text on it."""

from __future__ import annotations

from server import PromptServer


def show(text: str, node: str | None) -> None:
    """Write a text on a node, in the browser that queued the prompt."""
    server = getattr(PromptServer, "instance", None)
    if server is not None and node is not None:
        server.send_progress_text(text, node, server.client_id)
