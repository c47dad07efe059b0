"""What tests, benchmarks and the demo share.

``host`` runs ComfyUI inside this process; ``server`` starts one in a process of its own, and
``client`` talks to any. ``graph``, ``scene`` and ``workflow`` make prompts for them.
``random_models`` writes small models that ComfyUI takes for real ones. ``chat_server`` and
``custom_nodes`` stand for what is not here. ``provision`` installs all that they need.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # of the checkout
