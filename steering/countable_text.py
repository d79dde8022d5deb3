"""What of a reply counts as language: everything but code, addresses, numbers and quoted names.

Also where lines and sentences end.
Knows nothing of languages: the rules hold for any script.
All patterns are bounded, so that the time grows with the length of the text and no faster.
"""

import re
import unicodedata

_FENCE = re.compile(r"[ \t>]*(`{3,}|~{3,})")
_INLINE_CODE = re.compile(r"(`{1,2})[^`\n]{1,500}\1")
_URL = re.compile(r"(?:https?://|www\.)[^\s<>\"'）」』】。，、！？]+", re.IGNORECASE)
_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,4}"
)
_HOST = re.compile(
    r"(?<![A-Za-z0-9.-])(?:[A-Za-z0-9-]{1,63}\.){1,4}"
    r"(?:com|org|net|io|ai|co|dev|edu|gov|info|fr|de|es|it|pt|ru|tr|vn|id|jp|cn|kr|in|uk)"
    r"(?![A-Za-z0-9])(?:/[^\s<>]*)?"
)
_TAG = re.compile(r"</?[A-Za-z][^<>\n]{0,200}>|&#?[A-Za-z0-9]{1,10};")
_LINK_TARGET = re.compile(r"\]\([^()\s]{1,500}\)")
# A quotation of at most this many characters is taken for a name; a longer one is speech.
_QUOTE = re.compile(
    r"«[^«»\n]{1,30}»|“[^“”\n]{1,30}”|„[^„“”\n]{1,30}[“”]|\"[^\"\n]{1,30}\""
    r"|「[^「」\n]{1,15}」|『[^『』\n]{1,15}』|《[^《》\n]{1,15}》|〈[^〈〉\n]{1,15}〉"
)
_ENDS_LIKE_SPEECH = re.compile(r"[.!?。！？؟।…][»”“\"」』》〉\s]*$")
# "load_model", "os.path()", "v2", "3D"; ASCII, because a Japanese "3匹" goes on without a space.
_IDENTIFIER = re.compile(
    r"(?<![A-Za-z])[A-Za-z]\w{0,60}(?:_\w{1,60}|\.[a-z_]\w{0,60}\(\)|\(\))|[A-Za-z_]{0,40}\d\w{0,40}",
    re.ASCII,
)
_SENTENCE_END = re.compile(r"(?<=[.!?؟।…])[\"”»)]?\s+|(?<=[。！？])(?![」』）])\s*")

_DROPPED = dict.fromkeys(
    [0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF]
)
_BLANKED = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), *range(0xD800, 0xE000)], " ")


def split_lines(text: str) -> list[str]:
    """Split a text at every kind of line end."""
    return text.splitlines()


def split_sentences(text: str) -> list[str]:
    """Split a text into sentences, at line ends and after closing punctuation of any script.

    Abbreviations ("M. Dupont") split too: a piece that is too short is judged as such.
    """
    pieces = (piece for line in split_lines(text) for piece in _SENTENCE_END.split(line))
    return [piece.strip() for piece in pieces if piece.strip()]


def countable_text(text: str) -> str:
    """Return a text of the same lines, without what does not count as language.

    Removed: fenced (closed or not) and inline code, URLs, e-mail addresses, host names, tags,
    words with digits, identifiers, short quotations that do not end like a sentence.
    Emoji, digits and punctuation may stay: they have no letters.
    The rest is in NFKC form, without control characters, marks of direction and lone surrogates.
    """
    lines = _drop_fences(split_lines(text))
    return "\n".join(_clean_line(line) for line in lines)


def _drop_fences(lines: list[str]) -> list[str]:
    """Empty the lines of fenced code, an unclosed fence reaching to the end."""
    kept, open_fence = [], ""
    for line in lines:
        mark = _FENCE.match(line)
        is_fence = mark is not None and (not open_fence or mark[1].startswith(open_fence))
        if is_fence and mark is not None:
            open_fence = "" if open_fence else mark[1]
        kept.append("" if is_fence or open_fence else line)
    return kept


def _clean_line(line: str) -> str:
    """Normalise one line and blank what does not count."""
    line = unicodedata.normalize("NFC", line.translate(_BLANKED).translate(_DROPPED))
    for pattern in (_INLINE_CODE, _LINK_TARGET, _URL, _EMAIL, _HOST, _TAG):
        line = pattern.sub(" ", line)
    unquoted = _QUOTE.sub(lambda m: m[0] if _ENDS_LIKE_SPEECH.search(m[0]) else " ", line)
    if any(map(str.isalpha, unquoted)):  # a line that is one quotation is speech
        line = unquoted
    return _IDENTIFIER.sub(" ", unicodedata.normalize("NFKC", line))
