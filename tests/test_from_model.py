"""A neuron set from nothing but a chat model: what is asked, kept, left out, saved and said."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from tqdm import tqdm

import steering.contrastive
from steering.answer import AnswerView
from steering.cli.main import main
from steering.corpus import iter_dialogues, iter_text
from steering.errors import CorpusError, SettingsError, StoppedError
from steering.from_model import Questions, make_corpora
from steering.generation import answer_conversations
from steering.loading import LoadedModel
from steering.neuron_set_file import load_neuron_set
from steering.processes import Processes
from tests.scripted_answers import script_answers
from tests.started import free_port
from tests.test_survival import WAIT_S, start
from tests.toy import EN, FR, JA, SW, TH

QUESTIONS = Questions((EN, FR, JA), per_language=40, max_new_tokens=8)  # three batches each
Ask = Callable[[Sequence[str]], list[str]]


@pytest.fixture
def model(load_tiny: Callable[..., LoadedModel]) -> LoadedModel:
    return load_tiny("llama")


def test_languages_without_prompts_are_asked_for_in_all_that_have_some() -> None:
    prompts = Questions((SW, TH), per_language=15).prompts()

    assert list(prompts) == [SW, TH]
    assert {text.rpartition(" Answer in ")[2] for text in prompts[SW]} == {"Swahili."}
    assert len({text.partition(" Answer in ")[0] for text in prompts[SW]}) == 15


class KilledError(Exception):
    """Stands for a machine that goes away."""


class Counted:
    """Asks, counts the batches, and fails at one of them."""

    def __init__(self, ask: Ask, *, fails_at: int = 0, error: type[BaseException] = KilledError):
        self._ask, self._fails_at, self._error = ask, fails_at, error
        self.batches = 0

    def __call__(self, prompts: Sequence[str]) -> list[str]:
        self.batches += 1
        if self.batches == self._fails_at:
            raise self._error
        return self._ask(prompts)


def test_answers_become_text_and_dialogues(model: LoadedModel, tmp_path: Path) -> None:
    ask = script_answers("en", "fr", "ja")

    made = make_corpora(model, QUESTIONS, tmp_path, ask=ask)

    text, dialogues = made.corpora
    assert (text.kind, dialogues.kind) == ("text", "dialogues")
    assert made.languages == (EN, FR, JA)
    for language in made.languages:
        rows = list(iter_dialogues(dialogues, language))
        assert len(rows) == made.made[language].on_target > 35
        assert [row.answer for row in rows] == ask([row.prompt for row in rows])
        assert list(iter_text(text, language)) == [row.answer for row in rows]


def test_a_language_that_the_model_does_not_command_is_left_out_and_named(
    model: LoadedModel, tmp_path: Path
) -> None:
    made = make_corpora(model, QUESTIONS, tmp_path, ask=script_answers("en", "ja"))

    assert made.languages == (EN, JA)
    assert FR not in made.corpora[0].sources
    assert "English 40 of 40" in made.summary
    assert made.summary.endswith("Left out, as the model does not command them: French 0 of 40.")


def test_a_model_of_one_language_is_refused_with_the_counts(
    model: LoadedModel, tmp_path: Path
) -> None:
    with pytest.raises(CorpusError, match=r"in '1' of the languages .*French 0 of 40"):
        make_corpora(model, QUESTIONS, tmp_path, ask=script_answers("en"))


@pytest.mark.parametrize("languages", [(EN,), (EN, EN), ()])
def test_languages_that_cannot_be_compared_are_refused_before_anything_is_asked(
    languages: tuple[object, ...],
) -> None:
    with pytest.raises(CorpusError, match="Languages are"):
        Questions(languages)  # type: ignore[arg-type]  # languages


@pytest.mark.parametrize("at", [1, 2, 4, 9])
def test_what_was_answered_before_a_kill_is_not_asked_again(
    at: int, model: LoadedModel, tmp_path: Path
) -> None:
    whole = make_corpora(model, QUESTIONS, tmp_path / "whole", ask=script_answers("en", "fr", "ja"))
    failing = Counted(script_answers("en", "fr", "ja"), fails_at=at)
    with pytest.raises(KilledError):
        make_corpora(model, QUESTIONS, tmp_path / "killed", ask=failing)
    rest, seen = Counted(script_answers("en", "fr", "ja")), []

    made = make_corpora(
        model, QUESTIONS, tmp_path / "killed", ask=rest, progress=lambda _, n: seen.append(n)
    )

    assert rest.batches == 9 - (at - 1)
    assert made == whole
    assert sum(seen) == 120


def test_ctrl_c_says_where_it_stopped(model: LoadedModel, tmp_path: Path) -> None:
    ask = Counted(script_answers("en", "fr"), fails_at=5, error=KeyboardInterrupt)

    with pytest.raises(StoppedError, match=r"after 16 answers in French.*same command again"):
        make_corpora(model, QUESTIONS, tmp_path, ask=ask)


def test_answers_to_other_questions_are_refused(model: LoadedModel, tmp_path: Path) -> None:
    make_corpora(model, QUESTIONS, tmp_path, ask=script_answers("en", "fr", "ja"))
    other = Questions(QUESTIONS.languages, per_language=40, max_new_tokens=9)

    with pytest.raises(SettingsError, match="partial results of another command"):
        make_corpora(model, other, tmp_path, ask=script_answers("en", "fr", "ja"))


def test_answers_that_other_processes_saved_are_not_begun_anew(
    model: LoadedModel, tmp_path: Path
) -> None:
    make_corpora(model, QUESTIONS, tmp_path, ask=script_answers("en", "fr", "ja"))
    ask = Counted(script_answers("en", "fr", "ja"))

    with pytest.raises(SettingsError, match="begun by 1 processes, and these are 2"):
        make_corpora(model, QUESTIONS, tmp_path, ask=ask, processes=Processes(0, 2))

    assert ask.batches == 0


class OneOfTwo(Processes):
    """One of two processes, whose other one has its batches of every language ready."""

    others: Iterator[dict[str, list[str]]]

    def gather_values(self, value: object) -> list[object]:  # type: ignore[override]
        return [value, next(self.others)]


@pytest.mark.parametrize(("rank", "share"), [(0, 6), (1, 3)])
def test_two_processes_share_the_batches_and_hold_all_answers(
    rank: int, share: int, model: LoadedModel, tmp_path: Path
) -> None:
    ask, asked = script_answers("en", "fr", "ja"), []
    whole = make_corpora(
        model, QUESTIONS, tmp_path / "one", ask=lambda batch: asked.append(batch) or ask(batch)
    )
    counted, processes = Counted(ask), OneOfTwo(rank, 2)
    processes.__dict__["others"] = iter(
        {str(n): ask(asked[3 * k + n]) for n in range(3) if n % 2 != rank} for k in range(3)
    )

    made = make_corpora(model, QUESTIONS, tmp_path / "two", ask=counted, processes=processes)

    assert counted.batches == share
    assert made == whole


def build(model: Path, out: Path, *more: str) -> int:
    common = ["build-set", "--model", str(model), "--quantize", "none", "--from-model"]
    asked = ["--prompts", "40", "--max-new-tokens", "8"]
    thresholds = ["--select-fraction", "0.3", "--prob-quantile", "0.3"]
    return main([*common, *asked, *thresholds, *more, "--out", str(out)])


def build_uncalibrated(model: Path, out: Path, *more: str) -> int:
    return build(model, out, "--no-calibrate", *more)


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[[Ask], None]:
    """Let every model say what a script says."""

    def arm(ask: Ask) -> None:
        monkeypatch.setattr(steering.contrastive, "generate", lambda _, prompts, **__: ask(prompts))

    return arm


@pytest.fixture
def model_dir(tiny_model_dir: Callable[..., Path]) -> Path:
    return tiny_model_dir("llama")


def test_build_set_needs_nothing_but_a_model_and_gives_the_same_bytes_twice(
    model_dir: Path, tmp_path: Path, answering: Callable[[Ask], None],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    answering(script_answers("en", "fr", "ja", "ko"))

    assert build_uncalibrated(model_dir, first) == 0
    said = capsys.readouterr().out
    assert build_uncalibrated(model_dir, second) == 0

    assert first.read_bytes() == second.read_bytes()
    neurons = load_neuron_set(first)
    assert {str(one) for one in neurons.languages} == {"en", "fr", "ja", "ko"}
    assert set(neurons.value_means) == {"text", "onset", "body"}
    assert neurons.metadata.selection_phase == "text"
    assert neurons.metadata.token_counts["onset"]["en"] == 40
    assert neurons.metadata.corpus_name == "everyday prompts, answered by the model"
    assert not neurons.metadata.steering_method
    assert "Answers kept: English 40 of 40" in said
    assert "does not command them: Arabic 0 of 40, German 0 of 40" in said
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("at", [2, 5])
def test_build_set_goes_on_after_a_kill_and_ends_with_the_same_bytes(
    at: int, model_dir: Path, tmp_path: Path, answering: Callable[[Ask], None]
) -> None:
    ask = script_answers("en", "fr", "ja")
    whole, killed = tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    answering(ask)
    assert build_uncalibrated(model_dir, whole, "--languages", "en,fr,ja") == 0
    answering(Counted(ask, fails_at=at))
    with pytest.raises(KilledError):
        build_uncalibrated(model_dir, killed, "--languages", "en,fr,ja")
    rest = Counted(ask)
    answering(rest)

    assert build_uncalibrated(model_dir, killed, "--languages", "en,fr,ja") == 0

    assert rest.batches == 9 - (at - 1)
    assert killed.read_bytes() == whole.read_bytes()


def fail_at(number: int) -> Callable[..., list[AnswerView]]:
    """Answer as the model does, and go away at a batch of the calibration."""
    batches = iter(range(1, 10_000))

    def answer(*arguments: object, **named: object) -> list[AnswerView]:
        if next(batches) == number:
            raise KilledError
        return answer_conversations(*arguments, **named)  # type: ignore[arg-type]  # passed on

    return answer


def test_build_set_calibrates_goes_on_after_a_kill_in_it_and_says_what_to_expect(
    model_dir: Path, tmp_path: Path, answering: Callable[[Ask], None],
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    whole, killed = tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    answering(script_answers("en", "ja"))
    assert build(model_dir, whole, "--languages", "en,fr,ja") == 0
    printed = capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr("steering.evaluation.calibrating.answer_conversations", fail_at(4))
        with pytest.raises(KilledError):
            build(model_dir, killed, "--languages", "en,fr,ja")
    kept = tmp_path / "killed.safetensors.partial" / "calibration.json"
    assert kept.exists()
    assert not load_neuron_set(killed).metadata.steering_method
    answering(Counted(script_answers("en", "ja"), fails_at=1))

    assert build(model_dir, killed, "--languages", "en,fr,ja") == 0

    assert killed.read_bytes() == whole.read_bytes()
    metadata = load_neuron_set(whole).metadata
    assert metadata.steering_method in printed.out
    assert metadata.calibration.keys() == {"en", "ja"}
    assert "| ja | " in printed.out
    assert printed.out.rstrip().endswith("does not command them: French 0 of 40.")
    assert "whole set: about" in printed.err
    assert not list(tmp_path.glob("*.partial"))


def test_of_several_ways_the_first_is_calibrated_and_the_others_are_named(
    model_dir: Path, tmp_path: Path, answering: Callable[[Ask], None],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    answering(script_answers("en", "fr"))

    assert build(model_dir, tmp_path / "set.safetensors", "--choose", "random,lape",
                 "--languages", "en,fr") == 0  # fmt: skip

    lape, random = (load_neuron_set(tmp_path / f"set-{way}.safetensors").metadata
                    for way in ("lape", "random"))  # fmt: skip
    assert lape.steering_method
    assert not random.steering_method
    assert "set-random.safetensors'; run `calibrate`" in capsys.readouterr().out


def test_the_bar_of_the_recording_ends_at_its_total(
    model_dir: Path, tmp_path: Path, answering: Callable[[Ask], None],
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    ends: list[tuple[float, float | None]] = []

    class Noted(tqdm):  # type: ignore[type-arg]  # a bar
        def close(self) -> None:
            ends.append((self.n, self.total))
            super().close()

    monkeypatch.setattr("steering.cli.recording.tqdm", Noted)
    answering(script_answers("en", "fr", "ja"))

    assert build_uncalibrated(model_dir, tmp_path / "all.safetensors", "--languages", "en,fr") == 0
    few = ["--tokens", "100", "--batch-size", "3", "--languages", "en,fr"]
    assert build_uncalibrated(model_dir, tmp_path / "few.safetensors", *few) == 0

    capsys.readouterr()
    recorded = [end for end in dict.fromkeys(ends) if end[1] != 80]
    assert len(recorded) == 2
    assert all(done == total > 0 for done, total in recorded)


def test_an_imported_set_is_completed_without_any_data(
    model_dir: Path, tmp_path: Path, answering: Callable[[Ask], None]
) -> None:
    import torch

    published, imported = tmp_path / "own.pth", tmp_path / "imported.safetensors"
    torch.save([[torch.tensor([k, 20 + k]), torch.tensor([k])] for k in range(3)], published)
    options = ["--model", str(model_dir), "--languages", "en,fr,ja", "--out", str(imported)]
    assert main(["import-set", str(published), *options]) == 0
    answering(script_answers("en", "ja"))
    out = tmp_path / "completed.safetensors"
    common = ["build-set", "--model", str(model_dir), "--quantize", "none", "--from-model"]
    few = ["--prompts", "20", "--no-calibrate", "--complete", str(imported)]

    assert main([*common, *few, "--out", str(out)]) == 0

    neurons = load_neuron_set(out)
    assert neurons.languages == (EN, JA)
    assert neurons.metadata.imported_from == load_neuron_set(imported).metadata.imported_from
    assert [len(neurons.neurons_of(one)) for one in (EN, JA)] == [3, 3]
    assert set(neurons.value_means) == {"text", "onset", "body"}


BAD_INPUT = {
    "a corpus as well": (["--text", "{tmp}"], "`--from-model` lets the model write the corpus"),
    "one language": (["--languages", "en"], "Expected at least two different ones"),
    "twice": (["--languages", "en,fr,en"], "Expected each once"),
    "no prompts": (["--prompts", "0"], "`--prompts` is '0'"),
    "no answers": (["--max-new-tokens", "0"], "`--max-new-tokens` is '0'"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_gets_one_plain_line_and_leaves_nothing(
    case: str, model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, expected = BAD_INPUT[case]
    filled = [option.replace("{tmp}", str(tmp_path)) for option in options]

    assert build(model_dir, tmp_path / "set.safetensors", *filled) == 1

    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert expected in error
    assert not list(tmp_path.glob("set*"))


def test_numbers_of_answers_that_nobody_asks_for_are_refused(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--languages", "en,fr", "--text", str(tmp_path), "--prompts", "9"]

    assert main(["build-set", "--model", str(model_dir), *options, "--out", "x.safetensors"]) == 1

    assert "`--prompts` is '9', but it is for `--from-model` alone" in capsys.readouterr().err


def test_only_sets_of_the_models_own_answers_are_calibrated(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--languages", "en,fr", "--text", str(tmp_path), "--no-calibrate"]

    assert main(["build-set", "--model", str(model_dir), *options, "--out", "x.safetensors"]) == 1

    assert "only sets of `--from-model` are calibrated" in capsys.readouterr().err


BUNDLED = ["-m", "steering", "build-set", "--from-model", "--languages", "en,fr,ja",
           "--prompts", "32", "--max-new-tokens", "12", "--select-fraction", "0.1",
           "--prob-quantile", "0.8", "--membership-quantile", "0.8",
           "--no-calibrate", "--out"]  # fmt: skip


@pytest.fixture(scope="module")
def bundled_whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The set that an undisturbed run makes of the bundled model."""
    out = tmp_path_factory.mktemp("whole") / "whole.safetensors"
    process = start(*BUNDLED, str(out))
    output, errors = process.communicate(timeout=5 * WAIT_S)
    assert process.returncode == 0, errors
    assert "English 32 of 32" in output
    return out.read_bytes()


@pytest.mark.slow
def test_the_bundled_model_killed_between_its_answers_goes_on(
    bundled_whole: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "killed.safetensors"
    folder = tmp_path / "killed.safetensors.partial" / "answers"
    for saved in (1, 3):
        process = start(*BUNDLED, str(out))
        began = time.monotonic()
        while len(list(folder.glob("*.safetensors"))) < saved and process.poll() is None:
            assert time.monotonic() - began < 5 * WAIT_S
            time.sleep(0.01)
        assert process.poll() is None
        process.kill()
        process.communicate()
    assert not out.exists()

    process = start(*BUNDLED, str(out))
    _, errors = process.communicate(timeout=5 * WAIT_S)

    assert process.returncode == 0, errors
    assert out.read_bytes() == bundled_whole
    assert not folder.exists()


@pytest.mark.slow
def test_two_processes_ask_in_turn_and_write_the_bytes_of_one(
    bundled_whole: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "two.safetensors"
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    port = ["--main_process_port", str(free_port()), "--num_machines", "1"]
    more = ["--mixed_precision", "no", "--dynamo_backend", "no"]

    process = start(*launch, *port, *more, *BUNDLED, str(out))
    output, errors = process.communicate(timeout=5 * WAIT_S)

    assert process.returncode == 0, errors
    assert output.count("Answers kept") == output.count("Wrote") == 1
    assert out.read_bytes() == bundled_whole
