"""A stand-in that lets a server load the small models: the real text encoders are far larger.

``testkit`` must be on the server's path; see ``testkit.server``.
"""

from testkit.random_models import load_small_text_encoders

NODE_CLASS_MAPPINGS: dict[str, type] = {}

load_small_text_encoders()
