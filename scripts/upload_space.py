"""Put this checkout on a Hugging Face Space: `make space SPACE=user/name [DRY_RUN=1]`.

Uploads the files that git tracks, without tests and tooling, by way of huggingface_hub.
Needs a token with write access (`hf auth login`, or the variable HF_TOKEN); a dry run needs none.
Knows nothing of models or steering.
"""

import argparse
import contextlib
import importlib
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIZE_LIMIT_BYTES = 100_000_000  # nothing of this project is larger; a larger file is a mistake
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_LEFT_OUT = ("tests/", "benchmarks/", ".ci/", ".git", "Makefile", "requirements-dev.txt",
             "requirements-study.txt")  # fmt: skip


class UploadError(Exception):
    """Something that the person who uploads can put right."""


def files_to_upload(root: Path) -> list[Path]:
    """Return the tracked files that a Space needs, relative to *root*, sorted.

    Raises:
        UploadError: If *root* is no git checkout, holds no such file, or one is too large.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z"],  # noqa: S607 - git is wherever the person has it
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        raise UploadError(f"'{root}' is no git checkout. Upload from a clone of the repository.")
    names = sorted(name for name in listed.stdout.split("\0") if name)
    paths = [Path(name) for name in names if not name.startswith(_LEFT_OUT)]
    paths = [path for path in paths if (root / path).is_file()]
    if Path("app.py") not in paths or Path("README.md") not in paths:
        raise UploadError("A Space needs app.py and README.md. Commit both, then upload again.")
    large = [path for path in paths if (root / path).stat().st_size > SIZE_LIMIT_BYTES]
    if large:
        named = ", ".join(f"'{path}'" for path in large)
        raise UploadError(
            f"Too large for a Space: {named}; the limit is {SIZE_LIMIT_BYTES // 1_000_000} MB a "
            "file. Put it into a model repository and load it from there."
        )
    return paths


def describe_files(root: Path, paths: Sequence[Path]) -> str:
    """Return a table of sizes and names, with the total."""
    sizes = [(root / path).stat().st_size for path in paths]
    rows = [f"{size:>11,}  {path.as_posix()}" for path, size in zip(paths, sizes, strict=True)]
    return "\n".join([*rows, f"{sum(sizes):>11,}  bytes in {len(paths)} files"])


def check_space_name(name: str | None) -> str:
    """Return the name if it is of the form user/name.

    Raises:
        UploadError: If it is missing or of another form.
    """
    if not name:
        raise UploadError("No Space was named. Say which one: `make space SPACE=user/name`.")
    if not _NAME.fullmatch(name):
        raise UploadError(f"'{name}' is no name of a Space. Expected `user/name`.")
    return name


def upload(space: str, *, root: Path, paths: Sequence[Path]) -> str:
    """Create the Space if it is missing, upload the files in one commit, return its address.

    Raises:
        UploadError: If there is no token, it may not write, or the Hub cannot be reached.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    if not get_token():
        raise UploadError("You are not logged in. Run `hf auth login`, or set HF_TOKEN.")
    api = HfApi()
    try:
        address = api.create_repo(space, repo_type="space", space_sdk="gradio", exist_ok=True)
        api.upload_folder(
            repo_id=space,
            repo_type="space",
            folder_path=root,
            allow_patterns=[path.as_posix() for path in paths],
            commit_message="Upload Langsteer",
        )
    except HfHubHTTPError as error:
        reason = error.server_message or str(error).splitlines()[0]
        raise UploadError(
            f"The Hub refused '{space}': {reason} Check the name and that the token may write."
        ) from error
    except _network_errors() as error:
        raise UploadError(
            f"The Hub cannot be reached ({type(error).__name__}). Check the network and that "
            "HF_HUB_OFFLINE is not set, then try again."
        ) from error
    return str(address)


def _network_errors() -> tuple[type[Exception], ...]:
    """Return what an unreachable Hub raises; versions of huggingface_hub differ in HTTP library."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    found: list[type[Exception]] = [OfflineModeIsEnabled, OSError]
    for name in ("httpx", "httpx2"):
        with contextlib.suppress(ImportError):
            found.append(importlib.import_module(name).HTTPError)
    return tuple(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 1 with one line on stderr."""
    parser = argparse.ArgumentParser(prog="upload_space.py", description="Upload to a Space.")
    parser.add_argument("space", nargs="?", help="user/name")
    parser.add_argument("--dry-run", action="store_true", help="list the files, send nothing")
    options = parser.parse_args(arguments)
    try:
        space = check_space_name(options.space)
        paths = files_to_upload(ROOT)
        print(describe_files(ROOT, paths))
        if options.dry_run:
            print(f"Dry run: nothing was sent to '{space}'.")
        else:
            print(f"Uploaded to {upload(space, root=ROOT, paths=paths)}")
    except UploadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
