"""Text files of ComfyUI's input folder."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ....realcompo_core.errors import InputError

MAXIMUM_BYTES = 1_000_000


def read_text(field: str, name: str) -> str:
    """The text of a file in ComfyUI's input folder.

    Raises :class:`InputError`, naming ``field``, for a file that is missing, outside of that
    folder, too large or not UTF-8.
    """
    folder = Path(folder_paths.get_input_directory()).resolve()
    path = (folder / name).resolve()
    if folder not in path.parents or not path.is_file() or path.stat().st_size > MAXIMUM_BYTES:
        expected = f"a text file of at most {MAXIMUM_BYTES} bytes in ComfyUI's input folder"
        raise InputError(field, expected, repr(name), "Put the file there, and give its name.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            field, "UTF-8 text", f"{name!r}: {error.reason}", "Save it as UTF-8 text."
        ) from error
