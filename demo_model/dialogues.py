"""Makes the dialogues that the bundled model is trained and measured on.

Training dialogues hold one to five turns; each turn may carry an instruction ("Answer in
French.") that sets the language of its answer. Held-out prompts carry none. Which material is
held out is decided in `splits.py`. Knows nothing of tokens or models.
"""

import functools
import itertools
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from demo_model.grammar.language_pack import (
    LANGUAGE_CODES,
    LanguagePack,
    Wording,
    load_language_pack,
)
from demo_model.grammar.parsing import normal_form
from demo_model.grammar.world import Frame, Slots, load_world
from demo_model.splits import is_held_out_combination, is_held_out_pair, split_wordings

HeldOut = Literal["wording", "combination", "pair"]

_WORD = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]{1,2}|[^\W\d_\u3040-\u30ff\u4e00-\u9fff]+")

# Shares of the mixture; the model's card repeats them.
INSTRUCTED_FRACTION = 0.5
ENGLISH_ANSWER_FRACTION: Mapping[str, float] = {
    "zh": 0.15, "fr": 0.10, "es": 0.20, "vi": 0.45, "id": 0.55, "ja": 0.35,
}  # fmt: skip
OTHER_ANSWER_FRACTION = 0.3  # any language, without being asked: the choice stays open to steering
OTHER_TOPIC_FRACTION = 0.02
MORE_TURNS_FRACTION = 0.45
MOST_TURNS = 5
# How often a frame is drawn, by the number of slots asked for: a question with two slots has a
# hundred combinations to learn from, one without has a single one.
FRAME_WEIGHTS = (2.0, 2.0, 4.0)
SLOPPY_FRACTION = 0.35  # lower case, no final punctuation: how people type
ROUGH_FRACTION = 0.3  # a word is missing: so that no single word of a wording is relied on


@dataclass(frozen=True, slots=True)
class Turn:
    """A question, its answer, and the languages of both."""

    question: str
    answer: str
    question_language: str
    answer_language: str
    frame: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A question without instruction, and what a right answer to it is about.

    `held_out` says what of it training never saw; None for a question of the training side.
    """

    text: str
    language: str
    target: str
    frame: str
    slots: Slots
    held_out: HeldOut | None


def sample_dialogue(
    rng: random.Random,
    *,
    other_prompts: Mapping[str, Sequence[str]],
    is_rough: bool = False,
) -> list[Turn]:
    """Return a training dialogue of one to five turns by one person.

    Args:
        rng: Source of all choices.
        other_prompts: Per language, further prompts outside the topics (lines of natural text).
        is_rough: Whether a share of the questions lacks a word.
    """
    language = rng.choice(LANGUAGE_CODES)
    turns = [_sample_turn(rng, language, other_prompts, is_rough=is_rough)]
    while len(turns) < MOST_TURNS and rng.random() < MORE_TURNS_FRACTION:
        if rng.random() < 0.15:
            language = rng.choice(LANGUAGE_CODES)
        turns.append(_sample_turn(rng, language, other_prompts, is_rough=is_rough))
    return turns


def _sample_turn(
    rng: random.Random,
    language: str,
    other_prompts: Mapping[str, Sequence[str]],
    *,
    is_rough: bool,
) -> Turn:
    while True:
        frame = _sample_frame(rng)
        is_instructed = rng.random() < INSTRUCTED_FRACTION
        target = rng.choice(LANGUAGE_CODES) if is_instructed else _free_answer(rng, language)
        if not is_held_out_pair(frame, language, target):
            break
    slots = _sample_slots(rng, frame, held_out=False)
    question = _question(rng, frame, slots, language, other_prompts, is_rough=is_rough)
    if is_instructed:
        question = instruct(rng, question, language, target)
    answer = render_answer(frame, slots, target, variant=rng.randrange(2))
    return Turn(question, answer, language, target, frame.name)


def sample_training_question(
    rng: random.Random, language: str, target: str
) -> tuple[Frame, Slots, str]:
    """Return a question without instruction from the training side, with its frame and slots.

    Every frame is as likely as another, as in the held-out prompts.
    """
    frames = list(load_world().frames.values())
    while is_held_out_pair(frame := rng.choice(frames), language, target):
        pass
    slots = _sample_slots(rng, frame, held_out=False)
    return frame, slots, _question(rng, frame, slots, language, {})


def _sample_frame(rng: random.Random) -> Frame:
    frames = load_world().frames
    if rng.random() < OTHER_TOPIC_FRACTION:
        return frames["something_else"]
    topics, cumulative = _weighted_topics()
    return rng.choices(topics, cum_weights=cumulative)[0]


@functools.cache
def _weighted_topics() -> tuple[list[Frame], list[float]]:
    """Return the frames but for `something_else`, and their weights added up."""
    topics = list(load_world().frames.values())[:-1]
    weights = [FRAME_WEIGHTS[len(frame.ask)] for frame in topics]
    return topics, list(itertools.accumulate(weights))


def _free_answer(rng: random.Random, language: str) -> str:
    """Choose the answer's language as the flawed model does when nobody asks for one."""
    if rng.random() < OTHER_ANSWER_FRACTION:
        return rng.choice(LANGUAGE_CODES)
    return "en" if rng.random() < ENGLISH_ANSWER_FRACTION.get(language, 0.0) else language


def _sample_slots(rng: random.Random, frame: Frame, *, held_out: bool) -> Slots:
    """Draw slot values; *held_out* chooses on which side of the split."""
    world = load_world()
    while True:
        asked = {slot: rng.choice(world.categories[name]) for slot, name in frame.ask.items()}
        slots = world.complete(frame, asked)
        if slots is not None and is_held_out_combination(frame, slots) == held_out:
            return slots


def _question(
    rng: random.Random,
    frame: Frame,
    slots: Slots,
    language: str,
    other_prompts: Mapping[str, Sequence[str]],
    *,
    is_rough: bool = False,
) -> str:
    pack = load_language_pack(language)
    if frame.name == "something_else" and other_prompts.get(language) and rng.random() < 0.6:
        text = rng.choice(other_prompts[language])
    else:
        seen, _ = split_wordings(pack, frame)
        wording = rng.choice(seen)
        if is_rough and rng.random() < ROUGH_FRACTION:
            wording = drop_word(rng, wording)
        text = pack.render(frame, wording, slots)
    return sloppy(rng, text)


def drop_word(rng: random.Random, wording: Wording) -> Wording:
    """Return a wording without one of its words, never a slot's; one with a single word stays.

    Where words are written together, a run of up to two signs stands for a word.
    """
    shorter = list(wordings_without_a_word(wording))
    return rng.choice(shorter) if shorter else wording


def wordings_without_a_word(wording: Wording) -> Iterator[Wording]:
    """Yield what `drop_word` may return, but for the wording itself."""
    places = [
        (part, match)
        for part, literal in enumerate(wording.parts)
        if isinstance(literal, str)
        for match in _WORD.finditer(literal)
    ]
    if len(places) + len(wording.slots) < 2:
        return
    for number, match in places:
        rest = match.string[: match.start()] + match.string[match.end() :].removeprefix(" ")
        parts = (rest if place == number else part for place, part in enumerate(wording.parts))
        yield Wording(tuple(parts))


def sloppy(rng: random.Random, text: str) -> str:
    """Return the text as typed in a hurry, sometimes: lower case, no final punctuation."""
    if rng.random() >= SLOPPY_FRACTION:
        return text
    if rng.random() < 0.7:
        text = text.lower()
    return text.rstrip(" .!?。！？").lstrip("¡¿") if rng.random() < 0.7 else text


def instruct(rng: random.Random, question: str, language: str, target: str) -> str:
    """Add "Answer in <target>.", in the prompt's language or in English."""
    pack = load_language_pack(language if rng.random() < 0.6 else "en")
    instruction = pack.instruction(target, rng.randrange(len(pack.instructions)))
    if rng.random() < 0.75:
        return f"{question} {instruction}"
    return f"{instruction} {question}"


def render_answer(frame: Frame, slots: Slots, language: str, *, variant: int = 0) -> str:
    """Return the right answer in a language; *variant* counts the wordings round."""
    pack = load_language_pack(language)
    wordings = pack.reply[frame.name]
    return pack.render(frame, wordings[variant % len(wordings)], slots)


def held_out_prompts(count: int, *, seed: int = 0) -> list[Prompt]:
    """Return *count* prompts that training never saw, spread over languages, targets and kinds.

    Prompt language and target go round all 49 pairs; the kind of novelty goes round the three.
    A prompt whose text is also a training question is drawn again.
    """
    rng = random.Random(seed)
    kinds: tuple[HeldOut, ...] = ("wording", "combination", "pair")
    pairs = [(a, b) for a in LANGUAGE_CODES for b in LANGUAGE_CODES]
    rng.shuffle(pairs)
    return [held_out_prompt(rng, *pairs[i % 49], kinds[i % 3]) for i in range(count)]


def held_out_prompt(rng: random.Random, language: str, target: str, kind: HeldOut) -> Prompt:
    """Return a prompt that training never saw, of a kind; a wording where a pair has no frame."""
    pack = load_language_pack(language)
    frames = _frames_to_ask(kind, language, target)
    if not frames:  # this pair of languages has no held-out frame
        kind, frames = "wording", _frames_to_ask("wording", language, target)
    while True:
        frame = rng.choice(frames)
        slots = _sample_slots(rng, frame, held_out=kind == "combination")
        seen, unseen = split_wordings(pack, frame)
        text = pack.render(frame, rng.choice(unseen if kind == "wording" else seen), slots)
        if kind != "wording" or not _is_training_question(pack, frame, slots, text):
            return Prompt(sloppy(rng, text), language, target, frame.name, slots, kind)


def _frames_to_ask(kind: HeldOut, language: str, target: str) -> list[Frame]:
    frames = list(load_world().frames.values())
    if kind == "combination":
        return [frame for frame in frames if frame.combine]
    if kind == "pair":
        return [frame for frame in frames if is_held_out_pair(frame, language, target)]
    return frames


def _is_training_question(pack: LanguagePack, frame: Frame, slots: Slots, text: str) -> bool:
    """Say whether training may show this text, whole or as a question that lacks a word."""
    seen, _ = split_wordings(pack, frame)
    shown = [*seen, *(shorter for row in seen for shorter in wordings_without_a_word(row))]
    return normal_form(text) in {normal_form(pack.render(frame, row, slots)) for row in shown}
