"""What of a reply counts as language: everything but code, addresses, numbers and quoted names.

Also where lines and sentences end.
Knows nothing of languages: the rules hold for any script.
All patterns are bounded, so that the time grows with the length of the text and no faster.
"""

import re
import unicodedata

_FENCE = re.compile(r"[ \t>]*(`{3,}|~{3,})")
_THOUGHT = re.compile(r"<(think|thinking|thought|thoughts|reasoning|reflection)>", re.IGNORECASE)
_CLOSED_THOUGHT = re.compile(rf"{_THOUGHT.pattern}.*?</\1>", re.IGNORECASE)
_MATHS_ENDS = {"$$": "$$", "\\[": "\\]"}
_MATHS = re.compile(
    r"\$\$[^$\n]{1,500}\$\$|\\\([^\n]{1,300}?\\\)|\\\[[^\n]{1,300}?\\\]"
    r"|\$(?=[^\s$])[^$\n]{0,200}[^\s$]\$(?!\d)|\\[A-Za-z]{2,30}\b"
)
_INDENT = ("    ", "\t")
# What stands at the beginning of lines of code and never of prose; one alternative a kind.
_CODE_LINE = re.compile(
    r"\s*(?:"
    r"(?:import [\w.]{1,60}(?: as \w{1,40})?|from [\w.]{1,60} import [\w*, ()]{1,200})\s*;?$"
    r"|Traceback \(most recent call last\):|File \".{1,200}\", line \d+"
    r"|[\w.]{0,60}(?:Error|Exception|Warning): |at [\w.$<>]{1,120}\([^()\n]{0,120}\)$"
    r"|(?:def|class|for|while|if|elif|else|try|except|finally|with|async def)\b[^\n]{0,200}:$"
    r"|(?:return|raise|yield|assert|await|const|let|var|function|public|private|static)\s[^\n]{0,200}"
    r"(?:[;{(\[=]|_\w{1,40}|\w\))"
    r"|(?:return|print|console\.log|echo|puts|printf)\b[ (][^\n]{0,200}\)?;?$(?<![.!?:,])"
    r"|(?:SELECT|INSERT INTO|UPDATE|DELETE FROM|CREATE|ALTER|DROP|FROM|WHERE|JOIN)\b"
    r"|(?:GROUP|ORDER) BY\b"
    r"|[$>#] ?(?:sudo|pip|npm|git|cd|ls|docker|apt|python3?|curl|make|cat|mkdir|export)\b"
    r"|(?:sudo|pip3?|npm|git|docker|apt(?:-get)?|curl|kubectl) [a-z-]{1,40}(?: [^\n]{0,200})?$"
    r"(?<![.!?])"
    r"|[\w.\[\]'\"]{1,80} ?[-+*/]?= ?[^=\s][^\n]{0,200}[)\]}'\"\d;]$|[\w.]{1,80}\([^\n]{0,200}\);?$"
    r"|\"[\w -]{1,60}\"\s*:|[{}\[\]();,]{1,6}\s*$|</?[a-zA-Z][^<>]{0,200}>\s*$|//|/\*"
    r")"
)
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
_LIST_MARK = re.compile(r"\s*(?:\d{0,3}[.)]|[-*•–])\s")
_ENDS_LINE = re.compile(r"[.!?;:…。！？؟।：][*_\s]*$")
_NAME_LINE, _LONG_WORD = 80, 4  # characters of a line, letters of a word
_LEAST_BESIDE_NAMES = 20  # letters; a text of names alone is judged by them
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

    "Sure, here it is: Le chat dort." has two clauses in two languages.
    """
    pieces = (piece for line in split_lines(text) for piece in _CLAUSE_END.split(line))
    return [piece.strip() for piece in pieces if piece and piece.strip()]


def without_names(text: str) -> str:
    """Blank the words that begin with a capital."""
    return _NAME_WORD.sub(lambda word: " " if word[0][0].isupper() else word[0], text)


def countable_text(text: str, *, open_fence: str = "") -> str:
    """Return a text of the same lines, without what does not count as language.

    Removed: fenced code, reasoning and displayed maths (closed or not), lines of code without a
    fence, inline code and maths, URLs, e-mail addresses, host names, tags, words with digits,
    identifiers, short quotations that do not end like a sentence, and, beside other text, lines
    that are titles or lists of names.
    Emoji, digits and punctuation may stay: they have no letters.
    The rest is in NFKC form, without control characters, marks of direction and lone surrogates.

    Args:
        text: Any string.
        open_fence: The mark of the block that it begins within, from `find_open_fence`.
    """
    lines = [_clean_line(line) for line in _drop_blocks(split_lines(text), open_fence)]
    are_names = [_is_name_line(line) for line in lines]
    rest = "".join(line for line, is_name in zip(lines, are_names, strict=True) if not is_name)
    if sum(map(str.isalpha, rest)) >= _LEAST_BESIDE_NAMES:
        lines = ["" if is_name else line for line, is_name in zip(lines, are_names, strict=True)]
    return "\n".join(lines)


def find_open_fence(text: str, *, before: str = "") -> str:
    """Return the mark of the block that a text of whole lines ends within; "" if in none.

    Blocks are fenced code, reasoning such as `<think>` and displayed maths.

    Args:
        text: Any string; all after its last line end is a line too.
        before: The mark of the block that it begins within.
    """
    for line in split_lines(text):
        before, _ = _pass_block(line, before)
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


def _drop_blocks(lines: list[str], open_block: str) -> list[str]:
    """Empty the lines of code, reasoning and displayed maths; unclosed ones reach to the end."""
    kept = []
    for line in lines:
        open_block, rest = _pass_block(line, open_block)
        kept.append(rest)
    was_code = False
    for number, line in enumerate(kept):
        is_code = _is_code(line) or (was_code and line.startswith(_INDENT) and bool(line.strip()))
        if is_code:
            kept[number] = ""
        if line.strip():
            was_code = is_code
    return kept


def _pass_block(line: str, open_block: str) -> tuple[str, str]:
    """Return the mark of the block that is open after a line, and what counts of the line."""
    if open_block.startswith("<"):
        _, end, rest = line.partition(f"</{open_block[1:]}")
        return ("", rest) if end else (open_block, "")
    if open_block in _MATHS_ENDS:
        return ("" if line.rstrip().endswith(_MATHS_ENDS[open_block]) else open_block), ""
    mark = _FENCE.match(line)
    if open_block:
        is_closed = mark is not None and mark[1].startswith(open_block)
        return ("" if is_closed else open_block), ""
    if mark is not None:
        return mark[1], ""
    line = _CLOSED_THOUGHT.sub(" ", line)
    if thought := _THOUGHT.search(line):
        return f"<{thought[1].lower()}>", line[: thought.start()]
    start = line.strip()[:2]
    if start in _MATHS_ENDS and not line.rstrip()[2:].endswith(_MATHS_ENDS[start]):
        return start, ""
    return "", line


def _is_code(line: str) -> bool:
    """Say whether a line is code, a message of a program or data, by what no prose has."""
    return _CODE_LINE.match(line) is not None


def _is_name_line(line: str) -> bool:
    """Say whether a line is a title, a name or a list of such ("2. Back to the Future").

    It has two words that begin with a capital, or one in a list, and no longer word that doesn't;
    no sentence ends it.
    """
    if len(line) > _NAME_LINE or _ENDS_LINE.search(line):
        return False
    words = [word for word in _NAME_WORD.findall(line) if len(word) >= _LONG_WORD]
    needed = 1 if _LIST_MARK.match(line) else 2
    return len(words) >= needed and all(word[0].isupper() for word in words)


def _clean_line(line: str) -> str:
    """Normalise one line and blank what does not count."""
    line = unicodedata.normalize("NFC", line.translate(_BLANKED).translate(_DROPPED))
    for pattern in (_INLINE_CODE, _MATHS, _LINK_TARGET, _URL, _EMAIL, _HOST, _TAG):
        line = pattern.sub(" ", line)
    unquoted = _QUOTE.sub(lambda m: m[0] if _ENDS_LIKE_SPEECH.search(m[0]) else " ", line)
    if any(map(str.isalpha, unquoted)):  # a line that is one quotation is speech
        line = unquoted
    return _IDENTIFIER.sub(" ", unicodedata.normalize("NFKC", line))
