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
# The same without its end, and inline code without its end.
_OPEN = re.compile(
    r"(?:«[^«»\n]{0,30}|[“„][^“”\n]{0,30}|\"[^\"\n]{0,30}|「[^「」\n]{0,15}|『[^『』\n]{0,15}"
    r"|《[^《》\n]{0,15}|〈[^〈〉\n]{0,15}|`{1,2}[^`\n]{0,500})$"
)
# An address or identifier that may go on ("the.person."), up to 200 more signs.
_BEGUN_ADDRESS = re.compile(r"[A-Za-z0-9][./@_\\][A-Za-z0-9][!-~]{0,200}$")
_ENDS_LIKE_SPEECH = re.compile(r"[.!?。！？؟।…][»”“\"」』》〉\s]*$")
# "load_model", "os.path()", "v2", "3D", "jQuery", "React.createElement"; ASCII, because a Japanese
# "3匹" goes on without a space.
_IDENTIFIER = re.compile(
    r"(?<![A-Za-z])[A-Za-z]\w{0,60}(?:_\w{1,60}|\.[a-z_]\w{0,60}\(\)|\(\))|[A-Za-z_]{0,40}\d\w{0,40}"
    r"|(?<![A-Za-z])(?:[A-Za-z]{1,40}\.)?[A-Za-z]{0,40}[a-z][A-Z][A-Za-z]{0,60}",
    re.ASCII,
)
_SENTENCE_END = re.compile(r"(?<=[.!?؟।…])[\"”»)]?\s+|(?<=[。！？])(?![」』）])\s*")

# As above, and after a colon, a semicolon or a dash between spaces.
_CLAUSE_END = re.compile(_SENTENCE_END.pattern + r"|(?<=[:;])\s+|\s[—–]\s|(?<=[：；])")
_NAME_WORD = re.compile(r"[^\W\d_][\w'’-]+")  # of two letters and more: "I" is no name

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


def split_clauses(text: str) -> list[str]:
    """Split a text into clauses: sentences, cut at colons, semicolons and dashes as well.

    "Sure, here it is: Le chat dort." has two, of which each is in a language.
    """
    pieces = (piece for line in split_lines(text) for piece in _CLAUSE_END.split(line))
    return [piece.strip() for piece in pieces if piece and piece.strip()]


def without_names(text: str) -> str:
    """Blank the words that begin with a capital."""
    return _NAME_WORD.sub(lambda word: " " if word[0][0].isupper() else word[0], text)


def countable_text(text: str, *, open_fence: str = "") -> str:
    """Return a text of the same lines, without what does not count as language.

    Removed: fenced (closed or not) and inline code, URLs, e-mail addresses, host names, tags,
    words with digits, identifiers, short quotations that do not end like a sentence.
    Emoji, digits and punctuation may stay: they have no letters.
    The rest is in NFKC form, without control characters, marks of direction and lone surrogates.

    Args:
        text: Any string.
        open_fence: The mark of fenced code that it begins within, from `find_open_fence`.
    """
    lines = _drop_fences(split_lines(text), open_fence)
    return "\n".join(_clean_line(line) for line in lines)


def find_open_fence(text: str, *, before: str = "") -> str:
    """Return the mark of the fenced code that a text of whole lines ends within; "" if in none.

    Args:
        text: Any string; all after its last line end is a line too.
        before: The mark of fenced code that it begins within.
    """
    for line in split_lines(text):
        before, _ = _pass_fence(line, before)
    return before


def is_broken_off(text: str) -> bool:
    """Whether a text ends where what counts of it is open.

    That is within inline code or a quotation that may yet turn out to be a name, and after what may
    be the beginning of an address ("the.person.").
    """
    last = text[text.rfind("\n") + 1 :]
    if _FENCE.match(last):
        return False
    unquoted = _QUOTE.sub(" ", _INLINE_CODE.sub(" ", last))
    return _OPEN.search(unquoted) is not None or _BEGUN_ADDRESS.search(unquoted) is not None


def _drop_fences(lines: list[str], open_fence: str) -> list[str]:
    """Empty the lines of fenced code, an unclosed fence reaching to the end."""
    kept = []
    for line in lines:
        open_fence, is_code = _pass_fence(line, open_fence)
        kept.append("" if is_code else line)
    return kept


def _pass_fence(line: str, open_fence: str) -> tuple[str, bool]:
    """Return the mark that is open after a line, and whether the line is of the code."""
    mark = _FENCE.match(line)
    if mark is None or (open_fence and not mark[1].startswith(open_fence)):
        return open_fence, bool(open_fence)
    return "" if open_fence else mark[1], True


def _clean_line(line: str) -> str:
    """Normalise one line and blank what does not count."""
    line = unicodedata.normalize("NFC", line.translate(_BLANKED).translate(_DROPPED))
    for pattern in (_INLINE_CODE, _LINK_TARGET, _URL, _EMAIL, _HOST, _TAG):
        line = pattern.sub(" ", line)
    unquoted = _QUOTE.sub(lambda m: m[0] if _ENDS_LIKE_SPEECH.search(m[0]) else " ", line)
    if any(map(str.isalpha, unquoted)):  # a line that is one quotation is speech
        line = unquoted
    return _IDENTIFIER.sub(" ", unicodedata.normalize("NFKC", line))
