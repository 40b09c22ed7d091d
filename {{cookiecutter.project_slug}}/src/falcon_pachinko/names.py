"""Names of rooms and users: the check of a name, and its form within a sentence."""

from __future__ import annotations

import unicodedata

from .errors import InvalidRoomName

MAX_ROOM_NAME_BYTES = 200
# An identity provider's subject has at most 255 ASCII characters (OpenID Connect Core 1.0 section 2).
MAX_USER_NAME_BYTES = 255
MAX_DISPLAY_CHARACTERS = 40

ZERO_WIDTH_NON_JOINER, ZERO_WIDTH_JOINER = "\u200c", "\u200d"
JOINERS = (ZERO_WIDTH_NON_JOINER, ZERO_WIDTH_JOINER)
# Letters and symbols without a visible form: Braille blank and Hangul fillers.
FILLERS = "\u2800\u115f\u1160\u3164\uffa0"
VIRAMA = 9  # canonical combining class (Unicode Standard section 4.3)
SKIN_TONES = range(0x1F3FB, 0x1F400)
# Classes of characters that can reorder a sentence (Unicode Standard Annex 9, table 4).
REORDERING = frozenset(
    {"R", "AL", "AN", "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
)
FIRST_STRONG_ISOLATE, POP_DIRECTIONAL_ISOLATE = "\u2068", "\u2069"

# Unassigned characters are accepted: Python's Unicode is older than that of some clients.
BARRED_CATEGORIES = {
    "Cc": "control",
    "Zl": "control",
    "Zp": "control",
    "Cf": "invisible",
    "Co": "private-use",
}


def check_room_name(name: str) -> str:
    """Return a valid room name; names are case-sensitive.

    A name is 1 to 200 bytes of UTF-8 in normalization form C (NFC). It is not ``.`` or ``..``, does not begin
    or end with a blank or begin with a combining mark, and has no control, format, private-use or surrogate
    characters. The joiners U+200C and U+200D are valid where they have a visible effect (:func:`joins`).
    Where a prefix precedes the client's part of a name, check that part as well.

    Raises:
        InvalidRoomName: The name is not valid.
    """
    if fault := fault_of_name(name, MAX_ROOM_NAME_BYTES):
        raise InvalidRoomName(f"the room name {fault}", name)
    return name


def check_user_name(name: str) -> str:
    """Return a valid name or identifier of a user: 1 to 255 bytes, otherwise like a room name.

    Raises:
        ValueError: The name is not valid.
    """
    if fault := fault_of_name(name, MAX_USER_NAME_BYTES):
        raise ValueError(f"the user {fault}: {name!r:.60}")
    return name


def fault_of_name(name: object, max_bytes: int) -> str:
    """Return why a name is not valid, such as ``is empty``; an empty text for a valid name."""
    if not isinstance(name, str):
        return "is not a text"
    try:
        size_bytes = len(name.encode())
    except UnicodeEncodeError:
        return "is not valid Unicode text"
    if not size_bytes:
        return "is empty"
    if size_bytes > max_bytes:
        return (
            f"is too long: it has {size_bytes} bytes of UTF-8, and at most {max_bytes} are allowed"
        )
    if name in (".", ".."):
        return "consists of dots"
    if is_blank(name[0]) or is_blank(name[-1]):
        return "begins or ends with a blank"
    if unicodedata.category(name[0])[0] == "M":
        return "begins with a combining mark"
    if name.isascii() and name.isprintable():
        return ""
    for index, character in enumerate(name):
        kind = BARRED_CATEGORIES.get(unicodedata.category(character))
        if kind is not None and not (character in JOINERS and joins(name, index)):
            return f"has the {kind} character U+{ord(character):04X}"
    if not unicodedata.is_normalized("NFC", name):
        return "is not in Unicode normalization form C (NFC)"
    return ""


def is_blank(character: str) -> bool:
    """Return whether a character is a space, or looks like one."""
    return unicodedata.category(character) == "Zs" or character in FILLERS


def joins(name: str, index: int) -> bool:
    """Return whether the joiner at an index has a visible effect.

    A joiner is valid after a virama and before a letter, as in Indic scripts; U+200C also between Arabic
    letters (both as in RFC 5892 appendix A); U+200D also between two emoji (Unicode Technical Standard 51).
    """
    if not 0 < index < len(name) - 1:
        return False
    following = name[index + 1]
    if unicodedata.combining(name[index - 1]) == VIRAMA:
        return unicodedata.category(following) == "Lo"
    before = index - 1
    while before and is_modifier(name[before]):
        before -= 1
    if name[index] == ZERO_WIDTH_NON_JOINER:
        return all(unicodedata.bidirectional(each) == "AL" for each in (name[before], following))
    # NOTE: U+2194 is an arrow of category Sm, in the emoji of a shaking head.
    return unicodedata.category(name[before]) == "So" and (
        unicodedata.category(following) == "So" or following == "\u2194"
    )


def is_modifier(character: str) -> bool:
    """Return whether a character changes the one before it: a mark, a variation selector or a skin tone."""
    return unicodedata.category(character)[0] == "M" or ord(character) in SKIN_TONES


def is_barred(character: str) -> bool:
    """Return whether no name may have a character."""
    category = unicodedata.category(character)
    return category in BARRED_CATEGORIES or category == "Cs"


def display_name(name: str, max_characters: int = MAX_DISPLAY_CHARACTERS) -> str:
    """Return a name for a sentence of the service, such as ``Welcome to room 'general'!``.

    It is made displayable (:func:`display_text`), and a straight quote becomes a curly one, so that the name
    cannot end the quotation. Ordinary names are returned unchanged.
    """
    return display_text(name, max_characters).replace("'", "\u2019")


def display_text(text: str, max_characters: int) -> str:
    """Return a client's text for a sentence: on one line, shortened, isolated.

    A long text ends with an ellipsis. A character that is not valid in a name becomes U+FFFD. A text with
    right-to-left characters is isolated (U+2068, U+2069), so that it does not reorder the sentence.
    """
    if len(text) <= max_characters and text.isascii() and text.isprintable():
        return text
    shown = "".join(
        character if character in JOINERS or not is_barred(character) else "\ufffd"
        for character in text[: max_characters + 1]
    )
    if len(text) > max_characters:
        end = max_characters - 1
        # NOTE: a character is not cut off its marks, unless it has very many.
        while end > max_characters // 2 and (is_modifier(shown[end]) or shown[end] in JOINERS):
            end -= 1
        shown = shown[:end].rstrip("".join(JOINERS)) + "\u2026"
    if any(unicodedata.bidirectional(character) in REORDERING for character in shown):
        return f"{FIRST_STRONG_ISOLATE}{shown}{POP_DIRECTIONAL_ISOLATE}"
    return shown
