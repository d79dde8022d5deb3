"""Takes a file that a person picks: the browser reads it, so none is stored on the server.

The counterpart of `downloading.py`. Knows no formats of files.
"""

import base64
import binascii
import json
from dataclasses import dataclass

from steering.errors import CorpusError


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that was picked."""

    name: str
    content: bytes


def pick_js(*, accept: str, limit_bytes: int) -> str:
    """Return the function of the browser that lets a person pick a file and reads it.

    It gives `read_upload` its text; null when nothing is picked. A file above the limit is not
    read, only its size is told.

    Args:
        accept: Endings that are offered first, such as `.csv,.txt`.
        limit_bytes: The largest that is read.
    """
    return (
        "() => new Promise((resolve) => { const input = document.createElement('input'); "
        f"input.type = 'file'; input.accept = {json.dumps(accept)}; "
        "input.oncancel = () => resolve(null); "
        "input.onchange = () => { const file = input.files[0]; "
        "if (!file) return resolve(null); "
        "const tell = (content) => resolve(JSON.stringify("
        "{name: file.name, size: file.size, content})); "
        f"if (file.size > {limit_bytes}) return tell(null); "
        "const reader = new FileReader(); "
        "reader.onload = () => tell(String(reader.result).split(',')[1] || ''); "
        "reader.onerror = () => tell(null); "
        "reader.readAsDataURL(file); }; input.click(); })"
    )


def read_upload(told: object, *, limit_bytes: int) -> Upload | None:
    """Return the file that the browser tells of; None if none was picked.

    Raises:
        CorpusError: If it is too large, or could not be read.
    """
    if told is None or told == "":
        return None
    try:
        about = json.loads(str(told))
        name, size, content = str(about["name"])[:100], int(about["size"]), about["content"]
        read = None if content is None else base64.b64decode(str(content), validate=True)
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as err:
        raise CorpusError(
            "The file could not be read. Expected one from this page's button; choose it again."
        ) from err
    if size > limit_bytes or (read is not None and len(read) > limit_bytes):
        raise CorpusError(
            f"'{name}' has '{size:,}' bytes. Expected at most {limit_bytes:,}; choose a smaller "
            "file."
        )
    if read is None:
        raise CorpusError(f"The browser could not read '{name}'. Choose it again.")
    return Upload(name, read)
