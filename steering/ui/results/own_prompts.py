"""Reads the prompts that a person picked, with limits that keep others from waiting.

Knows files of prompts and languages, not the page.
"""

from collections.abc import Sequence

from steering.errors import CorpusError
from steering.evaluation.prompt_files import PromptFile, parse_prompts
from steering.languages import Language
from steering.ui.chat.turns import MAX_LETTERS
from steering.ui.uploading import Upload

MOST_PROMPTS = 200  # some minutes of work on two processors
LIMIT_BYTES = 1_000_000
ENDINGS = ".csv,.tsv,.jsonl,.txt"


def read_own_prompts(upload: Upload, *, targets: Sequence[Language]) -> PromptFile:
    """Return the prompts of a file.

    Args:
        upload: The file.
        targets: Languages that can be chosen.

    Raises:
        CorpusError: If it is no file of prompts, or holds too many or too long ones.
    """
    if b"\0" in upload.content:
        raise CorpusError(
            f"'{upload.name}' is no text. Expected a file of prompts (CSV, JSON Lines or text), "
            "saved as UTF-8; choose another one."
        )
    read = parse_prompts(upload.content, name=upload.name, targets=targets)
    if len(read.prompts) > MOST_PROMPTS:
        raise CorpusError(
            f"'{upload.name}' asks '{len(read.prompts)}' prompts, a question counting once for "
            f"every language to answer in. Expected at most {MOST_PROMPTS}; choose a shorter file."
        )
    longest = max(len(prompt.text) for prompt in read.prompts)
    if longest > MAX_LETTERS:
        raise CorpusError(
            f"'{upload.name}' has a prompt of '{longest:,}' characters. Expected at most "
            f"{MAX_LETTERS:,}; shorten it."
        )
    return read
