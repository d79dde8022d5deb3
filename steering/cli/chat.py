"""`chat`: a conversation in the terminal, answered in the chosen language."""

import argparse
import sys
from typing import TYPE_CHECKING

from steering.cli.arguments import (
    add_model_arguments,
    add_set_argument,
    check_set,
    choose_neuron_set,
    load_chosen_model,
)
from steering.conversation import Message, check_can_chat
from steering.detection import language_of_prompt
from steering.engine import Engine
from steering.guard import make_guard, note_on_giving_up
from steering.jobs import GenerationRequest
from steering.languages import parse_language
from steering.methods import SteeringRequest, make_plan
from steering.neuron_set_file import load_neuron_set

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_parser(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser("chat", help="chat in the terminal")
    add_model_arguments(parser)
    add_set_argument(parser)
    parser.add_argument("--language", required=True, help="of the answers, such as fr")
    parser.add_argument("--strength", choices=["gentle", "normal", "strong"], default="normal")
    parser.add_argument(
        "--no-guard",
        action="store_true",
        help="don't rewrite passages that come in another language",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Answer line after line until the input ends."""
    neurons = load_neuron_set(choose_neuron_set(options))
    target = parse_language(options.language, known=neurons.languages)
    model = load_chosen_model(options)
    check_can_chat(model)
    check_set(neurons, model)
    engine = Engine(lambda: model)
    history: list[Message] = []
    print(f"Answers come in {target.english_name}. An empty line ends the chat.", file=sys.stderr)
    while text := _read_line():
        history.append(Message("user", text))
        source = language_of_prompt(text, languages=neurons.languages)
        request = SteeringRequest(target, strength=options.strength, source=source)
        plan = make_plan(neurons, request)
        guard = None if options.no_guard else make_guard(neurons, request)
        reply = engine.reply(GenerationRequest((tuple(history),), (plan,), guards=(guard,)))
        for note in (reply.notes[0], note_on_giving_up(reply.rewrites[0])):
            if note:
                print(f"note: {note}", file=sys.stderr)
        history.append(Message("assistant", reply.texts[0]))
        print(reply.texts[0], flush=True)
    engine.close()
    return 0


def _read_line() -> str:
    if sys.stdin.isatty():
        print("> ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()
