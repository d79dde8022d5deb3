"""What is sent back, as OpenAI shapes it, with one field more: `steering`.

Knows the shapes, not how an answer is written.
"""

import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from typing import Literal, TypeAlias

from pydantic import BaseModel

from steering.answer import FinishReason
from steering.api.choosing import Choice
from steering.detection import Verdict, detect, language_of_prompt
from steering.generation import ReplyUpdate
from steering.guard import note_on_giving_up
from steering.languages import Language

# OpenAI has two ways for an answer to end of itself.
_FINISH: Mapping[FinishReason, Literal["stop", "length"]] = {
    "end": "stop",
    "length": "length",
    "time": "length",
}
_OUT_OF_TIME = "The answer was cut off: it took as long as an answer may."

Finish: TypeAlias = Literal["stop", "length"]


class ModelCard(BaseModel):
    """A model by one of its names."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["langsteer"] = "langsteer"


class ModelList(BaseModel):
    """All names."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class Health(BaseModel):
    """Whether the program can answer."""

    status: Literal["ready", "loading", "failed", "closing"]
    model: str
    detail: str = ""


class Usage(BaseModel):
    """What an answer took."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class RewriteReport(BaseModel):
    """A passage that the guard had written again; `start` is its place in the answer.

    One that `is_kept` stayed as it is, as no attempts were left.
    """

    start: int
    text: str
    language: str | None
    tokens: int
    attempt: int
    is_kept: bool


class StrayReport(BaseModel):
    """A sentence in another language than the one that was asked for."""

    text: str
    language: str | None


class IntrusionReport(BaseModel):
    """A word in a script that the language isn't written in, and where it stands."""

    text: str
    script: str
    line: int
    start: int | None


class SteeringReport(BaseModel):
    """What came of the steering: not of OpenAI.

    Args:
        language: The one that was asked for, None if none was.
        verdict: The detector's on the whole answer; None if no language was asked for.
        detected: The language that the answer is in, None if that is not decided.
        strays: Its sentences in other languages; empty if no language was asked for.
        intrusions: Its words in other scripts; empty if no language was asked for.
        rewrites: By the guard.
        has_given_up: Whether the guard left a passage as it was, as no attempts were left.
        notes: What is to be known beside, such as messages that did not fit.
    """

    language: str | None
    verdict: Verdict | None
    detected: str | None
    strays: list[StrayReport] = []
    intrusions: list[IntrusionReport] = []
    rewrites: list[RewriteReport]
    has_given_up: bool
    notes: list[str]


class AnswerMessage(BaseModel):
    """The answer as a message."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class AnswerChoice(BaseModel):
    """The one answer of a completion."""

    index: Literal[0] = 0
    message: AnswerMessage
    logprobs: None = None
    finish_reason: Finish


class ChatCompletion(BaseModel):
    """A finished answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[AnswerChoice]
    usage: Usage
    steering: SteeringReport


class Delta(BaseModel):
    """What a chunk adds to the answer."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChunkChoice(BaseModel):
    """The one answer of a chunk."""

    index: int
    delta: Delta
    logprobs: None
    finish_reason: Finish | None


class ChatCompletionChunk(BaseModel):
    """One event of a stream; a field that was not set is not sent."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    steering: SteeringReport | None = None


class ChunkWriter:
    """Writes the events of one stream; all have the same id, time and model.

    Args:
        model: As it was asked for.
        has_usage: Whether the client wants to know what the answer took, in a last chunk.
    """

    def __init__(self, model: str, *, has_usage: bool) -> None:
        self._id, self._created = new_id(), int(time.time())
        self._model, self._has_usage = model, has_usage

    def add(self, delta: Delta) -> str:
        """Write what the answer gains."""
        return self._write([_chunk_choice(delta, None)])

    def finish(self, reason: Finish, report: SteeringReport) -> str:
        """Write the answer's end."""
        return self._write([_chunk_choice(Delta(), reason)], steering=report)

    def close(self, usage: Usage) -> str:
        """Write the stream's end."""
        last = self._write([], usage=usage) if self._has_usage else ""
        return f"{last}data: [DONE]\n\n"

    def _write(
        self,
        choices: list[ChunkChoice],
        *,
        usage: Usage | None = None,
        steering: SteeringReport | None = None,
    ) -> str:
        chunk = ChatCompletionChunk(
            id=self._id,
            object="chat.completion.chunk",
            created=self._created,
            model=self._model,
            choices=choices,
        )
        if self._has_usage:  # null in all chunks but the last
            chunk.usage = usage
        if steering is not None:
            chunk.steering = steering
        return f"data: {chunk.model_dump_json(exclude_unset=True)}\n\n"


def _chunk_choice(delta: Delta, reason: Finish | None) -> ChunkChoice:
    return ChunkChoice(index=0, delta=delta, logprobs=None, finish_reason=reason)


def new_id() -> str:
    """Return an id for a completion."""
    return f"chatcmpl-{uuid.uuid4().hex}"


def complete(model: str, last: ReplyUpdate, report: SteeringReport) -> ChatCompletion:
    """Return a finished answer as a whole."""
    return ChatCompletion(
        id=new_id(),
        created=int(time.time()),
        model=model,
        choices=[
            AnswerChoice(
                message=AnswerMessage(content=last.texts[0]), finish_reason=finish_of(last)
            )
        ],
        usage=usage_of(last),
        steering=report,
    )


def finish_of(last: ReplyUpdate) -> Finish:
    """Return how an answer ended, in OpenAI's words."""
    return _FINISH.get(last.finish_reasons[0] or "end", "stop")


def usage_of(last: ReplyUpdate) -> Usage:
    """Return what an answer took."""
    prompt, answer = sum(last.prompt_tokens), last.new_tokens
    return Usage(prompt_tokens=prompt, completion_tokens=answer, total_tokens=prompt + answer)


def report_on(last: ReplyUpdate, choice: Choice) -> SteeringReport:
    """Judge a finished answer and say what was done for it; takes milliseconds."""
    text, languages = last.texts[0], choice.languages
    verdict: Verdict | None = None
    strays, intrusions = list[StrayReport](), list[IntrusionReport]()
    if choice.language is not None:
        judged = detect(text, expected=choice.language, languages=languages)
        verdict, found = judged.verdict, judged.language
        strays = [
            StrayReport(text=one.text, language=_code(one.language))
            for one in judged.sentences
            if one.verdict == "off_target"
        ]
        intrusions = [IntrusionReport(**asdict(one)) for one in judged.intrusions]
    else:
        found = language_of_prompt(text, languages=languages) if languages else None
    given_up = note_on_giving_up(last.rewrites[0] if last.rewrites else ())
    out_of_time = _OUT_OF_TIME if last.finish_reasons[0] == "time" else ""
    notes = [last.notes[0], out_of_time, given_up]
    return SteeringReport(
        language=_code(choice.language),
        verdict=verdict,
        detected=_code(found),
        strays=strays,
        intrusions=intrusions,
        rewrites=_rewrites(last),
        has_given_up=bool(given_up),
        notes=[note for note in notes if note],
    )


def _rewrites(last: ReplyUpdate) -> list[RewriteReport]:
    return [
        RewriteReport(
            start=one.start,
            text=one.text,
            language=_code(one.language),
            tokens=one.tokens,
            attempt=one.attempt,
            is_kept=one.is_kept,
        )
        for one in (last.rewrites[0] if last.rewrites else ())
    ]


def _code(language: Language | None) -> str | None:
    return None if language is None else language.code
