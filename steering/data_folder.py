"""The default folder for files that the program makes."""

import os
import tempfile
from pathlib import Path


def user_data_folder() -> Path:
    """Return the folder for what the program keeps, as the XDG base directories have it."""
    if home := os.environ.get("XDG_DATA_HOME"):
        return Path(home) / "langsteer"
    try:
        return Path.home() / ".local" / "share" / "langsteer"
    except RuntimeError:  # a person without a home, as in some containers
        return Path(tempfile.gettempdir()) / "langsteer"
