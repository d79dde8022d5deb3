"""Takes a file that a person picks: the browser reads it, so none is stored on the server.

The counterpart of `downloading.py`. Knows no formats of files.
"""

import base64
import binascii
import json
from dataclasses import dataclass

from steering.ui.wording import Refusal


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
        Refusal: If it is too large, or could not be read.
    """
    if told is None or told == "":
        return None
    try:
        about = json.loads(str(told))
        name, size, content = str(about["name"])[:100], int(about["size"]), about["content"]
        read = None if content is None else base64.b64decode(str(content), validate=True)
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as err:
        raise Refusal("file_unread") from err
    if size > limit_bytes or (read is not None and len(read) > limit_bytes):
        raise Refusal("file_large", name=name, size=f"{size:,}", most=f"{limit_bytes:,}")
    if read is None:
        raise Refusal("file_unread_by_browser", name=name)
    return Upload(name, read)
