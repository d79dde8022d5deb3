"""Replies survive a kill, and those of another command are refused in words."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from steering.errors import SettingsError
from steering.evaluation.forcing import Condition, ForcingPrompt, WrittenReply, write_replies
from steering.evaluation.kept_replies import KeptReplies
from steering.guard import Rewrite
from steering.languages import LANGUAGES
from steering.loading import LoadedModel
from steering.steering_plan import NO_STEERING
from steering.token_choice import Sampling

EN, FR = LANGUAGES["en"], LANGUAGES["fr"]
PROMPTS = [
    ForcingPrompt(text, f"{text} In French.", EN, FR) for text in ("Where?", "Why not?", "Who is?")
]
ABOUT = {"model": "a", "neuron set": "b"}
REPLIES = [
    WrittenReply(0, "Là-bas,\nje crois.", 5),
    WrittenReply(2, "half \ud800 a pair", 2, (Rewrite(0, "The", EN, 1, 1, is_kept=True),)),
]


def open_kept(path: Path | None, about: dict[str, str] = ABOUT, asked: int = 3) -> KeptReplies:
    return KeptReplies(path, about, prompts=PROMPTS[:asked], languages=(EN, FR))


def begun(path: Path) -> Path:
    kept = open_kept(path)
    kept.load()
    kept.keep("none", REPLIES)
    kept.keep_nll("none", {0: 1.5})
    return path


def test_what_was_kept_is_read_back_by_condition_and_number(tmp_path: Path) -> None:
    kept = open_kept(begun(tmp_path / "r.jsonl"))

    assert kept.load() == 2
    assert kept.replies("none")[0] == REPLIES[0]
    assert kept.replies("none")[2].rewrites == REPLIES[1].rewrites
    assert kept.nll_nats("none") == {0: 1.5}
    assert not kept.replies("default")


def test_a_line_says_what_a_person_wants_to_know(tmp_path: Path) -> None:
    line = begun(tmp_path / "r.jsonl").read_text(encoding="utf-8").splitlines()[1]

    row = json.loads(line)
    assert row["prompt"] == "Where?"
    assert row["target"] == row["reply_language"] == "fr"
    assert row["is_right"] is None


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_line_that_was_half_written_is_written_again(tmp_path: Path, cut: int) -> None:
    path = begun(tmp_path / "r.jsonl")
    path.write_bytes(path.read_bytes()[:-cut])

    kept = open_kept(path)
    kept.load()
    kept.keep_nll("none", {0: 2.5})

    again = open_kept(path)
    again.load()
    assert again.nll_nats("none") == {0: 2.5}
    assert again.replies("none")[0] == REPLIES[0]


@pytest.mark.parametrize(
    ("about", "asked", "expected"),
    [
        ({"model": "x", "neuron set": "y"}, 3, "another model and another neuron set"),
        (ABOUT, 2, "damaged in line 3"),
    ],
)
def test_the_file_of_another_command_is_refused_and_kept(
    tmp_path: Path, about: dict[str, str], asked: int, expected: str
) -> None:
    path = begun(tmp_path / "r.jsonl")
    before = path.read_bytes()

    with pytest.raises(SettingsError, match=expected):
        open_kept(path, about, asked).load()
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", ["{}\n", "[1]\n", "Dear diary", "\x00\n", '{"format": 1}\n'])
def test_a_foreign_file_is_refused_and_kept(tmp_path: Path, content: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(content, encoding="utf-8")

    with pytest.raises(SettingsError, match="holds something else"):
        open_kept(path).load()
    assert path.read_text(encoding="utf-8") == content


def test_without_a_file_replies_are_kept_in_memory() -> None:
    kept = open_kept(None)
    kept.load()
    kept.keep("none", REPLIES)

    assert list(kept.replies("none")) == [0, 2]
    kept.remove()


def test_a_run_that_was_killed_gives_the_replies_of_one_that_was_not(
    load_tiny: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    model = load_tiny("llama")
    condition = Condition("none", lambda _: NO_STEERING)
    sampling = Sampling(max_new_tokens=5, temperature=1.0, seed=3)

    def write(kept: KeptReplies, batches: int) -> Sequence[WrittenReply]:
        kept.load()
        left = write_replies(
            model, PROMPTS, condition, sampling=sampling, batch_rows=1,
            skip=set(kept.replies("none")),
        )  # fmt: skip
        for _, batch in zip(range(batches), left, strict=False):
            kept.keep("none", batch)
        return sorted(kept.replies("none").values(), key=lambda reply: reply.number)

    whole = write(open_kept(tmp_path / "whole.jsonl"), 3)
    path = tmp_path / "killed.jsonl"
    assert len(write(open_kept(path), 2)) == 2

    assert write(open_kept(path), 3) == whole
    assert path.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
