"""The documents: every link leads somewhere, and the README stays short."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README_WORDS = 1000
LINK = re.compile(r"\]\(([^)\s]+)\)")
ELSEWHERE = re.compile(r"[a-z]+:")  # https:, mailto:
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def is_ours(folder: str) -> bool:
    """Return whether a folder is the project's own, not what is installed or made here."""
    if folder.startswith("."):
        return folder == ".github"
    return folder not in ("output", "node_modules", "__pycache__")


def documents() -> list[Path]:
    """Return every Markdown file of the project."""
    found = []
    for folder, names, files in os.walk(ROOT):
        names[:] = [name for name in names if is_ours(name)]
        found += [Path(folder, name) for name in files if name.endswith(".md")]
    return sorted(found)


def prose(page: Path) -> str:
    """Return a page without its fenced code."""
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Yield the file and the anchor, perhaps empty, of each link to another file of the project."""
    for target in LINK.findall(prose(page)):
        if not ELSEWHERE.match(target):
            path, _, anchor = target.partition("#")
            yield (page.parent / path if path else page).resolve(), anchor


def anchors(page: Path) -> set[str]:
    """Return what GitHub calls the headings of a page: lower case, hyphens for spaces."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: Path) -> list[str]:
    """Return the links of a page that lead nowhere."""
    found = []
    for path, anchor in links(page):
        inside = path == ROOT or ROOT in path.parents
        if not inside or not path.exists():
            found.append(str(path))
        elif anchor and anchor not in anchors(path):
            found.append(f"{path}#{anchor}")
    return found


def test_links_are_found_and_followed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A page: of links\n[a](b.md#c) ![d](e.jpg) [f](https://g.h) [i](#j)\n```\n[k](l)\n```\n"
    )
    found = [(path.name, anchor) for path, anchor in links(page)]
    assert found == [("b.md", "c"), ("e.jpg", ""), ("page.md", "j")]
    assert anchors(page) == {"a-page-of-links"}


def test_the_documents_are_found() -> None:
    names = {str(page.relative_to(ROOT)) for page in documents()}
    expected = {
        "README.md",
        "CONTRIBUTING.md",
        "demo/README.md",
        "docs/results.md",
        "nodes/web/docs/RealCompoLayout.md",
    }
    assert expected <= names


@pytest.mark.parametrize("page", documents(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_every_page_of_the_documentation_is_linked_from_the_readme() -> None:
    linked = {path for path, _ in links(ROOT / "README.md")}
    assert [page for page in (ROOT / "docs").glob("*.md") if page not in linked] == []


def test_the_readme_is_short_and_names_the_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= README_WORDS
    assert all(f"\nmake {command} " in text for command in ("demo", "check", "test"))
