"""The upload to a Space: what is sent, and what it says when it cannot send."""

import subprocess
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import pytest

from scripts import upload_space
from scripts.upload_space import UploadError, check_space_name, files_to_upload, main

NAMES = ["app.py", "README.md", "steering/api.py", "tests/test_api.py", ".gitignore", ".ci/run",
         "benchmarks/speed.py", "Makefile", "neuron_sets/a.safetensors"]  # fmt: skip


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small git checkout with files of every kind, which the command takes for its own."""
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "-A"], cwd=tmp_path, check=True)
    (tmp_path / "secret.env").write_text("not tracked")
    monkeypatch.setattr(upload_space, "ROOT", tmp_path)
    return tmp_path


def test_only_tracked_files_that_a_space_needs_are_sent(checkout: Path) -> None:
    sent = [path.as_posix() for path in files_to_upload(checkout)]

    assert sent == ["README.md", "app.py", "neuron_sets/a.safetensors", "steering/api.py"]


def test_dry_run_lists_sizes_and_sends_nothing(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["someone/langsteer", "--dry-run"]) == 0

    printed = capsys.readouterr().out
    assert "6  app.py" in printed
    assert "bytes in 4 files" in printed
    assert "nothing was sent" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "No Space was named"),
        ([""], "No Space was named"),
        (["langsteer"], "Expected `user/name`"),
        (["a/b/c"], "Expected `user/name`"),
        (["some one/x"], "Expected `user/name`"),
        (["../x"], "Expected `user/name`"),
    ],
)
def test_a_bad_name_is_refused_in_words(
    checkout: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(arguments) == 1
    assert words in capsys.readouterr().err


def test_a_good_name_is_kept() -> None:
    assert check_space_name("Some-One/lang.steer_2") == "Some-One/lang.steer_2"


def test_a_large_file_is_refused(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_space, "SIZE_LIMIT_BYTES", 10)

    with pytest.raises(UploadError, match=r"a\.safetensors"):
        files_to_upload(checkout)


def test_a_checkout_without_app_is_refused(checkout: Path) -> None:
    (checkout / "app.py").unlink()

    with pytest.raises(UploadError, match=r"app\.py"):
        files_to_upload(checkout)


def test_a_folder_without_git_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))

    with pytest.raises(UploadError, match="no git checkout"):
        files_to_upload(tmp_path)


def test_without_a_token_it_says_how_to_log_in(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)

    assert main(["someone/langsteer"]) == 1
    assert "not logged in" in capsys.readouterr().err


class FakeApi:
    """Records what would be sent; fails as told."""

    calls: list[dict[str, Any]]
    failure: Exception | None = None

    def __init__(self) -> None:
        FakeApi.calls = []

    def create_repo(self, space: str, **options: Any) -> str:
        if self.failure:
            raise self.failure
        self.calls.append({"space": space, **options})
        return f"address of {space}"

    def upload_folder(self, **options: Any) -> None:
        self.calls.append(options)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[FakeApi]:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "a token")
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeApi)
    monkeypatch.setattr(FakeApi, "failure", None)
    return FakeApi


def test_a_space_is_made_and_filled(
    checkout: Path, hub: type[FakeApi], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["someone/langsteer"]) == 0

    made, sent = hub.calls
    assert (made["repo_type"], made["space_sdk"], made["exist_ok"]) == ("space", "gradio", True)
    assert "app.py" in sent["allow_patterns"]
    assert "tests/test_api.py" not in sent["allow_patterns"]
    assert "address of someone/langsteer" in capsys.readouterr().out


def refusal() -> Exception:
    response = httpx.Response(403, request=httpx.Request("POST", "http://hub.invalid"))
    return huggingface_hub.errors.HfHubHTTPError(
        "403 Forbidden", response=response, server_message="You may not write here."
    )


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (refusal(), "You may not write here"),
        (httpx.ConnectError("no route"), "cannot be reached"),
        (OSError("no network"), "cannot be reached"),
    ],
)
def test_failures_of_the_hub_are_told_in_words(
    checkout: Path, hub: type[FakeApi], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], failure: Exception, words: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(FakeApi, "failure", failure)

    assert main(["someone/langsteer"]) == 1

    printed = capsys.readouterr().err
    assert words in printed
    assert "Traceback" not in printed
