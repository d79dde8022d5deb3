"""Reads the prompts that a person picked, with limits that keep others from waiting.

Knows files of prompts and languages, not the page.
"""

from collections.abc import Sequence

from steering.evaluation.prompt_files import PromptFile, parse_prompts
from steering.languages import Language
from steering.ui.chat.turns import MAX_LETTERS
from steering.ui.uploading import Upload
from steering.ui.wording import Refusal

MOST_PROMPTS = 200  # some minutes of work on two processors
LIMIT_BYTES = 1_000_000
ENDINGS = ".csv,.tsv,.jsonl,.txt"


def read_own_prompts(upload: Upload, *, targets: Sequence[Language]) -> PromptFile:
    """Return the prompts of a file.

    Args:
        upload: The file.
        targets: Languages that can be chosen.

    Raises:
        CorpusError: If it is no file of prompts.
        Refusal: If it is no text, or holds too many or too long prompts.
    """
    if b"\0" in upload.content:
        raise Refusal("file_no_text", name=upload.name)
    read = parse_prompts(upload.content, name=upload.name, targets=targets)
    if len(read.prompts) > MOST_PROMPTS:
        raise Refusal(
            "file_many_prompts", name=upload.name, count=len(read.prompts), most=MOST_PROMPTS
        )
    longest = max(len(prompt.text) for prompt in read.prompts)
    if longest > MAX_LETTERS:
        raise Refusal(
            "file_long_prompt", name=upload.name, count=f"{longest:,}", most=f"{MAX_LETTERS:,}"
        )
    return read
