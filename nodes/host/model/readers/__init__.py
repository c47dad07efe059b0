"""Where each family of models attends from image to text, one small file a family.

:func:`~.families.reader_of` finds the reader of a model. Captures and gradient passes ask it, and
know no family by name. To add a family: write a reader, name its network in ``families.py`` and add
a tiny model of it to ``testkit/tiny_transformers.py``; one suite then checks all of it.
"""
