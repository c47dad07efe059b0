"""A stand-in that lets a server load the small models: the real ones are far larger.

``testkit`` must be on the server's path; see ``testkit.server``.
"""

from testkit.random_models import know_small_models

NODE_CLASS_MAPPINGS: dict[str, type] = {}

know_small_models()
