"""Programs that ask what the page would ask with the choices as they are, as text to copy.

Every value is written as a literal of its language (JSON within a quoted word of the shell, or
Python), whatever letters it holds. Knows the API's fields, not components or the model.
"""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steering.token_choice import Sampling
from steering.ui.about.texts import SetFile
from steering.ui.asking import NO_LANGUAGE, Wish

_FALLBACK_URL = "http://127.0.0.1:7860"
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?"
)
_SERVED = "langsteer"  # the API's name for whichever model is served
_KEY = "none"  # what stands for a key where the server asks for none


@dataclass(frozen=True, slots=True)
class Call:
    """One question and all that it is asked with.

    Args:
        base_url: Of the server, without a slash at the end.
        question: What is asked.
        model: As `load_model` takes it.
        set_file: The neuron set's; None while there is none, and then nothing is steered.
        wish: The choices.
        method: As the API takes it; empty for the set's own.
        sampling: How tokens are chosen.
        longest: Tokens of an answer that names no length.
    """

    base_url: str
    question: str
    model: str
    set_file: SetFile | None
    wish: Wish
    method: str
    sampling: Sampling
    longest: int

    @property
    def language(self) -> str | None:
        """Return the code of the language that is steered to; None where nothing is steered."""
        if self.wish.language is None or self.wish.level == "off" or self.set_file is None:
            return None
        return self.wish.language.code

    def sampling_fields(self) -> dict[str, Any]:
        """Return the fields of the API that say how tokens are chosen."""
        fields: dict[str, Any] = {"max_completion_tokens": self.sampling.max_new_tokens}
        if self.sampling.temperature:  # else nothing is drawn
            fields |= {
                "temperature": self.sampling.temperature,
                "top_p": self.sampling.top_p,
                "seed": self.sampling.seed,
            }
        return fields

    def steering_fields(self) -> dict[str, Any]:
        """Return the field `steering` of the API; empty where nothing is steered."""
        if self.language is None:
            return {}
        fields = {
            "language": self.language,
            "strength": self.wish.level,
            "guard": self.wish.has_guard,
        }
        return {**fields, "method": self.method} if self.method else fields


def base_url_of(headers: Mapping[str, str]) -> str:
    """Return the address that a person has opened, by the headers of a request.

    Args:
        headers: With lower-case names. What a proxy in between adds counts before its own.

    Returns:
        Without a slash at the end; the usual address on this machine where no name makes sense.
    """
    host = _first(headers.get("x-forwarded-host")) or _first(headers.get("host"))
    scheme = _first(headers.get("x-forwarded-proto")).lower()
    if _HOST.fullmatch(host) is None:
        return _FALLBACK_URL
    return f"{scheme if scheme in ('http', 'https') else 'http'}://{host}"


def as_curl(call: Call) -> str:
    """Return a command of a POSIX shell."""
    body: dict[str, Any] = {
        "model": _SERVED,
        "messages": [{"role": "user", "content": call.question}],
        **call.sampling_fields(),
    }
    if steering := call.steering_fields():
        body["steering"] = steering
    lines = (
        f"curl -sS {shlex.quote(f'{call.base_url}/v1/chat/completions')}",
        "-H 'Content-Type: application/json'",
        f"-H {shlex.quote(f'Authorization: Bearer {_KEY}')}",
        f"-d {shlex.quote(_json(body))}",
    )
    return " \\\n  ".join(lines)


def with_openai(call: Call) -> str:
    """Return Python for OpenAI's client."""
    arguments = {
        "model": _SERVED,
        "messages": [{"role": "user", "content": call.question}],
        **call.sampling_fields(),
    }
    if steering := call.steering_fields():
        arguments["extra_body"] = {"steering": steering}
    short = ""
    if call.language is not None:
        named = f"{_SERVED}:{call.language}"
        short = (
            "\n# A client that cannot send `steering` names the language behind the model,\n"
            f"# and gets the usual strength, guard and method: model={_literal(named)}"
        )
    return (
        "from openai import OpenAI\n\n"
        f"client = OpenAI(base_url={_literal(f'{call.base_url}/v1')}, api_key={_literal(_KEY)})\n"
        f"answer = client.chat.completions.create(\n{_arguments(arguments)})\n"
        f"print(answer.choices[0].message.content){short}"
    )


def with_gradio_client(call: Call) -> str:
    """Return Python for Gradio's client, whose endpoint takes the page's own choices."""
    wish = call.wish
    arguments: dict[str, Any] = {
        "message": call.question,
        "language": NO_LANGUAGE if wish.language is None else wish.language.code,
        "steering": wish.level,
        "guard": wish.has_guard,
    }
    if wish.method:
        arguments["method"] = wish.method
    if wish.is_damped:
        arguments["damping"] = True
    if call.sampling.max_new_tokens < call.longest:
        arguments["length"] = call.sampling.max_new_tokens
    if wish.temperature:  # else nothing is drawn
        arguments |= {"creativity": wish.temperature, "seed": wish.seed}
    arguments["api_name"] = "/chat"
    return (
        "from gradio_client import Client\n\n"
        f"client = Client({_literal(call.base_url)}, verbose=False)\n"
        f"answer = client.predict(\n{_arguments(arguments)})\nprint(answer)"
    )


def with_steering(call: Call) -> str:
    """Return Python for the package itself, without the server."""
    if call.language is None or call.set_file is None:
        return _unsteered(call)
    return _steered(call, call.set_file)


def _steered(call: Call, file: SetFile) -> str:
    method = f"method={_literal(call.method)}, " if call.method else ""
    guards = "[make_guard(neurons, wanted)]" if call.wish.has_guard else "()"
    guard = "from steering.guard import make_guard\n" if call.wish.has_guard else ""
    return (
        "# In the folder of the project.\n"
        "from steering import Sampling, load_model, load_neuron_set, parse_language\n"
        "from steering.conversation import Message\n"
        "from steering.detection import language_of_prompt\n"
        "from steering.generation import generate_conversations\n"
        f"{guard}"
        "from steering.methods import SteeringRequest, make_plan\n\n"
        f"model = load_model({_literal(call.model)})\n"
        f"neurons = load_neuron_set({_literal(file.name)})  # SHA-256 {file.sha256[:12]}…\n"
        f"question = {_literal(call.question)}\n"
        "wanted = SteeringRequest(\n"
        f"    parse_language({_literal(call.language)}),\n"
        f"    {method}strength={_literal(call.wish.level)},\n"
        "    source=language_of_prompt(question, languages=neurons.languages),\n"
        ")\n"
        "answers = generate_conversations(\n"
        "    model,\n"
        '    [[Message("user", question)]],\n'
        "    plans=[make_plan(neurons, wanted)],\n"
        f"    sampling={_sampling(call.sampling)},\n"
        f"    guards={guards},\n"
        ")\n"
        "print(answers[0])"
    )


def _unsteered(call: Call) -> str:
    return (
        "# In the folder of the project.\n"
        "from steering import Sampling, load_model\n"
        "from steering.conversation import Message\n"
        "from steering.generation import generate_conversations\n"
        "from steering.steering_plan import NO_STEERING\n\n"
        f"model = load_model({_literal(call.model)})\n"
        f"question = {_literal(call.question)}\n"
        "answers = generate_conversations(\n"
        "    model,\n"
        '    [[Message("user", question)]],\n'
        "    plans=[NO_STEERING],\n"
        f"    sampling={_sampling(call.sampling)},\n"
        ")\n"
        "print(answers[0])"
    )


def _sampling(sampling: Sampling) -> str:
    arguments: dict[str, Any] = {"max_new_tokens": sampling.max_new_tokens}
    if sampling.temperature:
        arguments |= {
            "temperature": sampling.temperature, "top_p": sampling.top_p, "seed": sampling.seed,
        }  # fmt: skip
    return f"Sampling({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"


def _arguments(values: Mapping[str, Any]) -> str:
    """Return arguments of a call in Python, one a line."""
    return "".join(f"    {name}={_literal(value)},\n" for name, value in values.items())


def _literal(value: Any) -> str:
    """Return a value of JSON as Python has it, texts in double quotes."""
    if isinstance(value, str):
        return f'"{"".join(map(_letter, value))}"'
    if isinstance(value, Mapping):
        items = (f"{_literal(key)}: {_literal(one)}" for key, one in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    return repr(value)


def _letter(sign: str) -> str:
    """Return one letter within double quotes of Python; what cannot be seen is spelled out."""
    if sign in ("\\", '"'):
        return f"\\{sign}"
    return sign if sign.isprintable() else sign.encode("unicode_escape").decode()


def _json(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=2)
    is_plain = text.replace("\n", "").isprintable()
    return text if is_plain else json.dumps(value, indent=2)


def _first(header: str | None) -> str:
    """Return the first of several values, which is the one nearest to the person."""
    return (header or "").split(",")[0].strip()
