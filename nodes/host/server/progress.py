"""Progress of a long node, shown on it: a bar and a line of text."""

from __future__ import annotations

import comfy.utils
from server import PromptServer


class Progress:
    """The bar of ``total`` steps of one node."""

    def __init__(self, node_id: str | None, total: int) -> None:
        self.node_id = node_id
        self.bar = comfy.utils.ProgressBar(total, node_id=node_id)

    def show(self, done: int, text: str) -> None:
        """Move the bar and say something under it."""
        self.bar.update_absolute(done)
        server = getattr(PromptServer, "instance", None)
        if server is not None and self.node_id is not None:
            server.send_progress_text(text, self.node_id)
