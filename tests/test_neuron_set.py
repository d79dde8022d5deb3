"""Tests of neuron sets as data, and of telling whether one was made for a model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from steering.errors import NeuronSetMismatchError, StatsError, UnknownLanguageError
from steering.languages import LANGUAGES, Language
from steering.neuron_set import NeuronSet, NeuronSetMetadata, OtherWeights, check_set_fits
from tests.toy import (
    EN,
    FR,
    SW,
    TH,
    TOY_IDENTITY,
    TOY_LANGUAGES,
    WITH_NEURONS,
    without_neurons,
)


def test_languages_keep_the_order_of_the_statistics(toy_set: NeuronSet) -> None:
    assert toy_set.languages == TOY_LANGUAGES
    assert [toy_set.position(language) for language in TOY_LANGUAGES] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("language", TOY_LANGUAGES, ids=str)
def test_neurons_of_a_language_are_its_members(language: Language, toy_set: NeuronSet) -> None:
    own = toy_set.neurons_of(language)

    assert toy_set.is_member[toy_set.position(language), own].all()
    assert len(own) == int(toy_set.is_member[toy_set.position(language)].sum())
    assert (len(own) > 0) == (language in WITH_NEURONS)


@pytest.mark.parametrize("language", TOY_LANGUAGES, ids=str)
def test_layer_counts_name_every_layer(language: Language, toy_set: NeuronSet) -> None:
    own = toy_set.neurons_of(language)
    expected = [sum(int(toy_set.layer[one]) == layer for one in own) for layer in (0, 1)]

    assert toy_set.layer_counts(language) == expected


def test_set_without_neurons_has_empty_languages(toy_set: NeuronSet) -> None:
    empty = without_neurons(toy_set)

    assert empty.neurons_of(FR).tolist() == []
    assert empty.layer_counts(SW) == [0, 0]


@pytest.mark.parametrize("code", ["de", "fa"])
def test_language_that_the_set_does_not_hold_is_refused(code: str, toy_set: NeuronSet) -> None:
    with pytest.raises(UnknownLanguageError, match=f"'{code}'.*Known here: fr, ja, en, th, sw"):
        toy_set.neurons_of(LANGUAGES[code])


def test_language_of_the_same_code_but_other_names_is_refused(toy_set: NeuronSet) -> None:
    with pytest.raises(UnknownLanguageError, match="Unknown language 'fr' in this neuron set"):
        toy_set.position(Language("fr", "Old French", "franceis", "Latn"))


def test_means_are_told_apart_by_site_and_phase(toy_set: NeuronSet) -> None:
    gate, value = toy_set.means("gate", "text"), toy_set.means("value", "text")

    assert gate is toy_set.gate_means["text"]
    assert value is toy_set.value_means["text"]
    assert not torch.equal(gate, value)
    assert gate.shape == value.shape == (5, 12)


def test_means_that_the_set_does_not_hold_are_refused(toy_set: NeuronSet) -> None:
    only_text = replace(toy_set, value_means={"text": toy_set.value_means["text"]})

    with pytest.raises(StatsError, match="no means for phase 'onset', only for: text"):
        only_text.means("value", "onset")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"languages": ("fr",)}, "at least 2 items"),
        ({"languages": ("fr", "fr", "en", "th", "sw")}, "a language stands twice"),
        ({"languages": ("fr", "qq", "en", "th", "sw")}, "'qq' is not in the table"),
        ({"token_counts": {"text": {"fr": 1}}}, "'text' are not those of the languages"),
        ({"token_counts": {"later": {}}}, "'text', 'onset' or 'body'"),
        ({"layers": 0}, "greater than 0"),
        ({"layers": 10**30}, "less than"),
        ({"prob_quantile": 1.0}, "less than 1"),
        ({"strengths": {"normal": float("nan")}}, "finite number"),
        ({"strengths": {"huge": 1.0}}, "'gentle', 'normal' or 'strong'"),
        ({"method": "guess"}, "'lape'"),
        (
            {"calibration": {"fr": [{"strength": 1, "successes": 3, "trials": 2}]}},
            "3 successes of 2 trials",
        ),
        ({"more": 1}, "Extra inputs are not permitted"),
    ],
)
def test_metadata_that_make_no_sense_are_refused(
    change: dict[str, object], problem: str, toy_set: NeuronSet
) -> None:
    with pytest.raises(ValidationError, match=problem):
        NeuronSetMetadata.model_validate(toy_set.metadata.model_dump() | change)


def test_metadata_cannot_be_changed(toy_set: NeuronSet) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        toy_set.metadata.layers = 3


def check(
    neurons: NeuronSet,
    *,
    revision: str = "local",
    layers: int = 2,
    width: int = 48,
    tokenizer: str = "0" * 64,
    **others: Any,
) -> OtherWeights | None:
    loaded = replace(
        TOY_IDENTITY,
        model_id="other",
        revision=revision,
        layers=layers,
        neurons_per_layer=width,
        tokenizer_sha256=tokenizer,
        **others,
    )
    return check_set_fits(neurons.made_for, loaded)


def test_tokenizer_that_an_imported_set_does_not_know_is_not_compared(toy_set: NeuronSet) -> None:
    unknown = toy_set.metadata.model_copy(update={"tokenizer_sha256": ""})

    check(replace(toy_set, metadata=unknown), tokenizer="1" * 64)
    with pytest.raises(NeuronSetMismatchError, match="the tokenizers differ"):
        check(toy_set, tokenizer="1" * 64)


def test_set_of_another_hub_model_is_refused_although_the_shapes_agree(toy_set: NeuronSet) -> None:
    metadata = toy_set.metadata.model_copy(update={"model_revision": "a" * 40})
    of_the_hub = replace(toy_set, metadata=metadata)

    check(of_the_hub, revision="local")
    with pytest.raises(NeuronSetMismatchError, match=r"'toy' .* loaded model is 'other'"):
        check(of_the_hub, revision="b" * 40)


def test_set_of_other_weights_is_refused_where_both_are_hashed(toy_set: NeuronSet) -> None:
    metadata = toy_set.metadata.model_copy(update={"model_revision": "sha256:aa"})
    hashed = replace(toy_set, metadata=metadata)

    check(hashed, revision="sha256:aa")
    check(hashed, revision="local")
    with pytest.raises(NeuronSetMismatchError, match="the weights differ"):
        check(hashed, revision="sha256:bb")


def test_set_fits_a_model_of_the_same_shape_and_tokenizer_whatever_its_name(
    toy_set: NeuronSet,
) -> None:
    check(toy_set)


@pytest.mark.parametrize(
    ("layers", "width", "tokenizer", "what"),
    [
        (3, 48, "0" * 64, r"the shapes differ\. Load"),
        (2, 49, "0" * 64, r"the shapes differ\. Load"),
        (48, 2, "0" * 64, r"the shapes differ\. Load"),
        (2, 48, "1" * 64, r"\(2 x 48\); the tokenizers differ\. Load"),
        (3, 48, "1" * 64, "the shapes differ; the tokenizers differ"),
    ],
)
def test_set_of_another_model_is_refused_with_both_names(
    layers: int, width: int, tokenizer: str, what: str, toy_set: NeuronSet
) -> None:
    with pytest.raises(NeuronSetMismatchError, match=what) as caught:
        check(toy_set, layers=layers, width=width, tokenizer=tokenizer)

    assert "made for 'toy' (2 layers x 48)" in str(caught.value)
    assert f"loaded model is 'other' ({layers} x {width})" in str(caught.value)


def test_toy_languages_are_what_the_tests_rely_on(toy_set: NeuronSet) -> None:
    assert len(toy_set.layer) == 12
    assert len(toy_set.neurons_of(TH)) == len(toy_set.neurons_of(SW)) == 0
    assert (toy_set.activation_prob[toy_set.position(SW)] == 0).all()
    assert len(toy_set.neurons_of(EN)) > 1


# The final norm of a model like Qwen2.5-Coder-0.5B, and the first norm of its first layer.
MEANS, DEVIATIONS = torch.tensor([[7.2], [0.03]]), torch.tensor([[1.2], [0.1]])


def make_norms(seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return MEANS + DEVIATIONS * torch.randn(2, 32, generator=random)


def change_norms(final: float, first: float) -> Tensor:
    """Return the norms of seed 0, moved by so many of their deviations."""
    norms, move = make_norms(0), torch.tensor([[final], [first]])
    deviations = (norms - norms.mean(dim=1, keepdim=True)).norm(dim=1, keepdim=True)
    signs = 1 - 2 * (torch.arange(32) % 2)
    return norms + move * deviations * signs / 32**0.5


@pytest.fixture
def known(toy_set: NeuronSet) -> NeuronSet:
    """A set that knows its model's norms."""
    return replace(toy_set, norm_weights=make_norms(0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_the_same_weights_are_taken_in_any_format_and_under_any_name(
    dtype: torch.dtype, known: NeuronSet
) -> None:
    norms = make_norms(0).to(dtype).float()

    assert check(known, norm_weights=norms) is None
    assert check(known, norm_weights=norms, tokenizer="1" * 64, vocabulary=300) is None


@pytest.mark.parametrize(
    ("norms", "others"),
    [
        (change_norms(0.1, 0.0), {}),  # fine-tuned
        (change_norms(0.0, 0.1), {}),
        (change_norms(0.0, 5.0), {}),  # rescaled within the layers, as by AWQ
        (make_norms(0), {"vocabulary": 301}),
    ],
    ids=["final", "first", "rescaled", "resized"],
)
def test_other_weights_of_the_same_model_are_taken_with_a_warning(
    norms: Tensor, others: dict[str, int], known: NeuronSet
) -> None:
    warning = check(known, norm_weights=norms, tokenizer="1" * 64, **others)

    assert warning == OtherWeights("toy", "other")
    assert "made on another copy of 'toy' than the loaded 'other'" in str(warning)


@pytest.mark.parametrize(("made", "loaded"), [("a" * 40, "b" * 40), ("sha256:a", "sha256:b")])
def test_the_same_norms_under_another_name_or_hash_are_the_same_model(
    made: str, loaded: str, known: NeuronSet
) -> None:
    metadata = known.metadata.model_copy(update={"model_revision": made})

    made_for = replace(known, metadata=metadata)

    assert check(made_for, revision=loaded, norm_weights=make_norms(0)) is None


@pytest.mark.parametrize("norms", [make_norms(1), change_norms(0.3, 0.0), torch.ones(2, 31)])
def test_a_sibling_of_the_same_shape_is_refused(norms: Tensor, known: NeuronSet) -> None:
    with pytest.raises(NeuronSetMismatchError, match=r"'toy' .* 'other' .* final norms differ"):
        check(known, norm_weights=norms)


def test_norms_that_only_one_of_the_two_has_decide_nothing(
    known: NeuronSet, toy_set: NeuronSet
) -> None:
    assert check(known) is None
    assert check(toy_set, norm_weights=make_norms(0)) is None
    with pytest.raises(NeuronSetMismatchError, match="the tokenizers differ"):
        check(known, tokenizer="1" * 64)


def test_another_width_of_the_stream_is_another_shape(known: NeuronSet) -> None:
    with pytest.raises(NeuronSetMismatchError, match="the shapes differ"):
        check(known, hidden_size=64)
