"""Propose SNOMED CT terms for names of structures, from pydicom's dictionary; a person must confirm them."""

import re

from ..labels import Code

SIDES = {"left", "right", "l", "r"}


def proposed_code(name: str) -> Code | None:
    """Find the term for a structure's name; None if unknown.

    Args:
        name: such as "Left atrium" or "liver"; the side is dropped if there is no term with it.

    Example:
        >>> proposed_code("liver").value
        '10200004'
    """
    from pydicom.sr.codedict import codes

    words = [word for word in re.split(r"[\W_\d]+", name.lower()) if word]
    for chosen in (words, [word for word in words if word not in SIDES]):
        keyword = "".join(word.capitalize() for word in chosen)
        if keyword and keyword in codes.SCT.dir(keyword):
            term = getattr(codes.SCT, keyword)
            return Code(term.value, "SCT", term.meaning)
    return None
