"""Tests of fitting a conversation into the context: what is left out, and that it is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from steering.conversation import Message, context_tokens, encode_prompt, fit_prompt
from steering.errors import GenerationError
from steering.loading import LoadedModel

LoadTiny = Callable[..., LoadedModel]

SYSTEM = Message("system", "be brief")


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str) -> Message:
    return Message("assistant", text)


@pytest.fixture
def model(load_tiny: LoadTiny) -> LoadedModel:
    """A model that reads 64 tokens; the template takes three for a message and two around all."""
    return load_tiny("llama", max_position_embeddings=64)


def decode(model: LoadedModel, ids: list[int]) -> str:
    return str(model.tokenizer.decode(ids))


def test_prompt_is_the_template_up_to_where_the_answer_begins(
    byte_tokenizer: PreTrainedTokenizerFast,
) -> None:
    ids = encode_prompt(byte_tokenizer, [SYSTEM, user("hi"), assistant("yo"), user("été")])

    assert byte_tokenizer.decode(ids) == (
        "<s><|system|>be brief</s><|user|>hi</s><|assistant|>yo</s><|user|>été</s><|assistant|>"
    )


def test_tokenizer_without_template_gets_the_texts_line_by_line(
    byte_tokenizer: PreTrainedTokenizerFast,
) -> None:
    byte_tokenizer.chat_template = None

    ids = encode_prompt(byte_tokenizer, [SYSTEM, user("hi")])

    assert byte_tokenizer.decode(ids) == "be brief\nhi\n"


@pytest.mark.parametrize(
    ("family", "tokens"), [("llama", 2048), ("gpt2", 1024), ("bloom", 2048), ("gemma3", 131072)]
)
def test_context_is_what_the_configuration_says(
    family: str, tokens: int, load_tiny: LoadTiny
) -> None:
    """BLOOM has no limit of its own, so 2048 is taken."""
    assert context_tokens(load_tiny(family)) == tokens


def test_conversation_that_fits_is_kept_without_a_note(model: LoadedModel) -> None:
    messages = [SYSTEM, user("hi"), assistant("yo"), user("and?")]

    fitted = fit_prompt(model, messages, answer_tokens=10)

    assert fitted.token_ids == encode_prompt(model.tokenizer, messages)
    assert fitted.note == ""


@pytest.mark.parametrize(
    "messages",
    [[], [user("")], [user(" \n")], [user("hi"), user("")], [user("hi"), assistant("\t")]],
)
def test_empty_message_is_refused(messages: list[Message], model: LoadedModel) -> None:
    with pytest.raises(GenerationError, match="Cannot answer the message '': it is empty"):
        fit_prompt(model, messages, answer_tokens=10)


@pytest.mark.parametrize("answer_tokens", [49, 64, 1000])
def test_answer_that_leaves_no_room_is_refused(answer_tokens: int, model: LoadedModel) -> None:
    with pytest.raises(
        GenerationError, match=f"'{answer_tokens}' tokens leaves no room.*reads 64 tokens in all"
    ):
        fit_prompt(model, [user("hi")], answer_tokens=answer_tokens)


@pytest.mark.parametrize(
    ("answer_tokens", "kept", "dropped"),
    [(10, 5, 0), (24, 3, 2), (48, 1, 4)],
)
def test_oldest_turns_are_left_out_first_and_told(
    answer_tokens: int, kept: int, dropped: int, model: LoadedModel
) -> None:
    messages = [user("a" * 8), assistant("b" * 9), user("c" * 8), assistant("d" * 5), user("e" * 6)]

    fitted = fit_prompt(model, messages, answer_tokens=answer_tokens)

    assert fitted.token_ids == encode_prompt(model.tokenizer, messages[-kept:])
    if dropped:
        assert fitted.note == (
            "The conversation is longer than the model's context: "
            f"the oldest messages ({dropped}) were left out."
        )


def test_conversation_that_fits_to_the_token_is_kept(model: LoadedModel) -> None:
    messages = [user("a"), assistant("b"), user("c")]
    length = len(encode_prompt(model.tokenizer, messages))

    exact = fit_prompt(model, [user("a" * 7), *messages[1:]], answer_tokens=64 - length - 6)
    over = fit_prompt(model, [user("a" * 8), *messages[1:]], answer_tokens=64 - length - 6)

    assert exact.note == ""
    assert "(2)" in over.note


def test_system_message_is_kept_when_turns_are_left_out(model: LoadedModel) -> None:
    messages = [SYSTEM, user("a" * 20), assistant("b" * 20), user("c")]

    fitted = fit_prompt(model, messages, answer_tokens=20)

    assert fitted.token_ids == encode_prompt(model.tokenizer, [SYSTEM, user("c")])
    assert "(2)" in fitted.note


def test_message_that_stands_twice_is_left_out_once(model: LoadedModel) -> None:
    """The same object: a caller may keep one `Message` and send it again."""
    again = user("again")

    fitted = fit_prompt(model, [again, assistant("b" * 40), again], answer_tokens=20)

    assert fitted.token_ids == encode_prompt(model.tokenizer, [again])


def test_too_long_message_keeps_its_end_and_says_how_much_is_missing(model: LoadedModel) -> None:
    fitted = fit_prompt(model, [user("a" * 50 + "z" * 39)], answer_tokens=20)

    assert decode(model, fitted.token_ids) == f"<s><|user|>a{'z' * 39}</s><|assistant|>"
    assert len(fitted.token_ids) == 44
    assert fitted.note.endswith("context: the first 49 tokens of the message were left out.")


def test_too_long_message_after_turns_tells_both(model: LoadedModel) -> None:
    messages = [SYSTEM, user("a"), assistant("b"), user("c" * 60)]

    fitted = fit_prompt(model, messages, answer_tokens=20)

    assert "the oldest messages (2) were left out, and the first" in fitted.note
    assert len(fitted.token_ids) <= 44
    assert decode(model, fitted.token_ids).startswith("<s><|system|>be brief</s><|user|>ccc")


def test_letter_of_several_tokens_is_not_cut_in_half(model: LoadedModel) -> None:
    """Each of these letters is three tokens; 44 - 4 leaves room for 13 of them."""
    fitted = fit_prompt(model, [user("語" * 30)], answer_tokens=20)

    assert decode(model, fitted.token_ids) == f"<s><|user|>{'語' * 13}</s><|assistant|>"


def test_message_is_cut_without_a_template_too(model: LoadedModel) -> None:
    model.tokenizer.chat_template = None

    fitted = fit_prompt(model, [user("a" * 90)], answer_tokens=20)

    assert decode(model, fitted.token_ids) == "a" * 43 + "\n"


def test_system_message_that_fills_the_context_is_refused(model: LoadedModel) -> None:
    with pytest.raises(GenerationError, match="The system message alone fills the model's context"):
        fit_prompt(model, [Message("system", "s" * 60), user("hi")], answer_tokens=20)


MESSAGES = st.lists(
    st.builds(
        Message,
        st.sampled_from(["user", "assistant"]),
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=50),
    ),
    max_size=5,
)


@given(messages=MESSAGES, last=st.text("aé語 \n", min_size=1).filter(str.strip))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_whatever_is_said_fits_and_ends_where_the_answer_begins(
    messages: list[Message], last: str, model: LoadedModel
) -> None:
    fitted = fit_prompt(model, [*messages, user(last)], answer_tokens=20)

    assert len(fitted.token_ids) <= 44
    assert decode(model, fitted.token_ids).endswith("</s><|assistant|>")
    is_whole = fitted.token_ids == encode_prompt(model.tokenizer, [*messages, user(last)])
    assert is_whole == (fitted.note == "")


def test_messages_that_the_template_refuses_are_told_in_words(
    byte_tokenizer: PreTrainedTokenizerFast,
) -> None:
    byte_tokenizer.chat_template = "{{ raise_exception('Roles must alternate') }}"

    with pytest.raises(GenerationError, match=r"'system, user, user' \(Roles must alternate\)"):
        encode_prompt(byte_tokenizer, [SYSTEM, user("a"), user("b")])
