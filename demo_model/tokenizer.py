"""The bundled model's tokenizer: one small byte-level BPE vocabulary shared by all languages.

A small shared vocabulary puts pressure on the model to keep the language in its neurons.
"""

from collections.abc import Iterator, Mapping, Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY = 3072
BYTES_PER_LANGUAGE = 1_500_000  # enough for this many merges, and the same for every language
START, END, USER, ASSISTANT, PAD = "<s>", "<|end|>", "<|user|>", "<|assistant|>", "<|pad|>"

# A system message stands before the next user message: the model knows no third role.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% set extra = namespace(text='') %}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{% set extra.text = message['content'] + ' ' %}"
    "{% elif message['role'] == 'user' %}"
    "{{ '<|user|>' + extra.text + message['content'] + '<|end|>' }}{% set extra.text = '' %}"
    "{% else %}{{ '<|assistant|>' + message['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer(lines: Mapping[str, Sequence[str]]) -> PreTrainedTokenizerFast:
    """Learn the vocabulary from the same amount of text in every language."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[START, END, USER, ASSISTANT, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_balanced(lines), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=START,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[USER, ASSISTANT],
        padding_side="left",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def _balanced(lines: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for rows in lines.values():
        seen_bytes = 0
        for row in rows:
            yield row
            seen_bytes += len(row.encode())
            if seen_bytes > BYTES_PER_LANGUAGE:
                break
