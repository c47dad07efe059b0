"""The method: two branches, the balance between them, and the step that moves it.

RealCompo, arXiv 2402.12908. Begin with ``step.py``.
"""
