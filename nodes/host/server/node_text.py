"""A line that a node shows while it runs."""

from __future__ import annotations

from comfy_execution.utils import get_executing_context
from server import PromptServer

EVENT = "realcompo.status"  # heard by web/status.js


def tell(text: str) -> None:
    """Show a text on the node that is running, in the browser that queued it.

    An empty one takes it away.
    """
    running, server = get_executing_context(), getattr(PromptServer, "instance", None)
    if running and server:
        server.send_sync(EVENT, {"node": running.node_id, "text": text}, server.client_id)
