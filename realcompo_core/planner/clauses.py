"""A prompt's items made simple.

What gets no box is gone, and every preposition has something behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from . import lexicon
from .lexicon import Kind, Mark, Place, Relation
from .mentions import Item, Mention
from .phrases import is_plural
from .vocabulary import COLOURS, TEXTURES, is_adjective

IN = Relation(Kind.INSIDE, vague=True)


def simplified(items: Sequence[Item], *, surroundings: bool = False) -> list[Item]:
    """Return items of which only things, their prepositions, places and what separates are left.

    ``surroundings`` keeps a park and a sky as things.
    """
    left = _on_the_canvas(_without_what_is_not_there(items))
    left = left if surroundings else _without_surroundings(left)
    return _with_actions(_without_lone_prepositions(_with_parts(left)))


def _without_what_is_not_there(items: Sequence[Item]) -> list[Item]:
    """Without styles, "no dogs", what follows "without", and qualities.

    "the apples were crunchy".
    """
    out: list[Item] = []
    for item in items:
        if not isinstance(item, Mention):
            out.append(item)
        elif out[-1:] == [Mark.SKIP] or item.determiner == "no" or _is_style(item):
            out.append(Mark.BREAK)
        elif not _is_quality(out, item):
            out.append(item)
    return [Mark.BREAK if item is Mark.SKIP else item for item in out]


def _is_quality(before: Sequence[Item], mention: Mention) -> bool:
    """Whether a mention only says what the one before is like."""
    if len(before) < 2 or before[-1] is not Mark.VERB or not isinstance(before[-2], Mention):
        return False
    return not mention.determiner and not is_plural(mention.head)


def _on_the_canvas(items: Sequence[Item]) -> list[Item]:
    """ "left of the picture" is a place; "in the middle of a table" is a relation."""
    out: list[Item] = []
    for item in items:
        last = out[-1] if out else None
        if not isinstance(item, Mention):
            out.append(item)
        elif isinstance(last, Relation) and _is_canvas(item):
            out[-1] = lexicon.OF_THE_PICTURE.get(last, Mark.BREAK)
        elif last is Mark.OF and isinstance(out[-2:][0], Place):
            out[-2:] = _part_of(out[-2], item)
        else:
            out.append(item)
    return [item for item in out if item is not Mark.OF]


def _part_of(place: Item, whole: Mention) -> list[Item]:
    """A place in the picture, "in the corner of the room", or in a thing, "of a box"."""
    if _is_canvas(whole) or _is_surrounding(whole):
        return [place]
    return [Relation(Kind.INSIDE), whole]


def _without_surroundings(items: Sequence[Item]) -> list[Item]:
    out: list[Item] = []
    for item in items:
        last = out[-1] if out else None
        if not isinstance(item, Mention) or not _is_around(last, item):
            out.append(item)
            continue
        if isinstance(last, Relation):
            out.pop()
        out.append(Mark.BREAK)
    return out


def _is_around(joint: Item | None, mention: Mention) -> bool:
    """Whether a mention says where or how the picture plays.

    "at night", "in a row", "in a park".
    """
    if joint == IN and mention.noun[-1] in lexicon.ARRANGEMENTS:
        return True
    vague = isinstance(joint, Relation) and joint.vague
    return (vague and not mention.determiner) or _is_surrounding(mention)


def _with_parts(items: Sequence[Item]) -> list[Item]:
    """ "a man with a beard" is one thing; "a man with a dog" are two, side by side."""
    out: list[Item] = []
    for item, after in _with_next(items):
        last = out[-1] if out else None
        owner = out[-2] if len(out) > 1 else None
        if not isinstance(item, Mention):
            out.append(item)
        elif isinstance(owner, Mention) and _is_part(owner, last, item, after):
            out[-2:] = [replace(owner, end=item.end, verb=item.verb, cut=item.cut)]
        else:
            if last is Mark.WITH:
                out[-1] = _companion(owner, after)
            out.append(item)
    return [Mark.BREAK if item is Mark.WITH else item for item in out]


def _companion(owner: Item | None, after: Item) -> Item:
    """What "with" means between two things: side by side, unless the second stands elsewhere."""
    if isinstance(owner, Mention) and not isinstance(after, Relation | Place):
        return Relation(Kind.NEXT)
    return Mark.BREAK


def _without_lone_prepositions(items: Sequence[Item]) -> list[Item]:
    """ "a lamp above" is a lamp at the top."""
    out: list[Item] = []
    for item, after in _with_next(items):
        held = isinstance(after, Mention) or after in (Mark.IT, Mark.EACH_OTHER)
        if isinstance(item, Relation) and not held:
            out.append(lexicon.ALONE.get(item, Mark.BREAK))
        else:
            out.append(item)
    return out


def _with_actions(items: Sequence[Item]) -> list[Item]:
    """ "a cat chasing a mouse" stand side by side."""
    out: list[Item] = []
    for item in items:
        last = out[-1] if out else None
        if isinstance(item, Mention) and isinstance(last, Mention) and last.verb:
            rides = last.verb in lexicon.RIDING
            out.append(Relation(Kind.ON if rides else Kind.NEXT))
        out.append(item)
    return out


def _with_next(items: Sequence[Item]) -> Iterator[tuple[Item, Item]]:
    """Yield every item with the one behind it."""
    yield from zip(items, [*items[1:], Mark.BREAK], strict=True)


def _is_style(mention: Mention) -> bool:
    """Whether a mention says how the picture is made: "best quality", "8k", "abstract beauty"."""
    if mention.determiner == "" and not lexicon.STYLE.isdisjoint(mention.noun):
        return True
    return mention.head in lexicon.ABSTRACT


def _is_canvas(mention: Mention) -> bool:
    """Whether the picture itself is named: "the image", not "the wooden picture frame"."""
    described = len(mention.noun) > 1 and mention.noun[0] != "whole"
    if mention.head not in lexicon.CANVAS or described:
        return False
    return not mention.determiner or mention.determiner in lexicon.DEFINITE


def _is_surrounding(mention: Mention) -> bool:
    """Whether a place or a material gets no box: one without a colour or texture of its own."""
    described = mention.name[:-1]
    if any(_has_look(word) for word in described):
        return False
    if mention.head in lexicon.SCENES:
        return True
    bare = mention.determiner in ("", "the") and all(is_adjective(word) for word in described)
    return bare and mention.head in lexicon.MATERIALS


def _has_look(word: str) -> bool:
    parts = word.split("-")
    return any(part in COLOURS or part in TEXTURES for part in parts)


def _is_part(owner: Mention, joint: Item | None, mention: Mention, after: Item) -> bool:
    """Whether "with" or "in" a mention belongs to the thing before.

    A beard, a red dress, long hair.
    """
    clothes = mention.head in lexicon.PARTS and mention.count == 1
    if joint is Mark.WITH:
        return clothes or not (mention.determiner or isinstance(after, Place))
    return clothes and not owner.cut and joint == IN
