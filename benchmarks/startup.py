"""How fast the page is there and the bundled model writes: `python -m benchmarks.startup`.

Starts `app.py` as a person would and measures until the page answers, the first answer and the
first text through its API, and the memory of the process; then, in this process, the speed with
and without steering, in turn. Prints a table and, last, one JSON line.
"""

import json
import statistics
import time

import torch
from gradio_client import Client

from benchmarks.server import started_server
from steering.bundled import BUNDLED_NEURON_SET
from steering.conversation import Message, encode_prompt
from steering.languages import LANGUAGES
from steering.loading import BUNDLED_MODEL, LoadedModel, load_model
from steering.methods import SteeringRequest, make_plan
from steering.neuron_set_file import load_neuron_set
from steering.steerer import steered
from steering.steering_plan import NO_STEERING, SteeringPlan

QUESTION = "Where is the cat?"
PAIRS = 9
TOKENS = 100


def measure_page() -> dict[str, float]:
    """Start the app and return the seconds until it answers, to the first reply, and its memory."""
    with started_server() as server:
        client = Client(server.url, verbose=False)
        asked = time.perf_counter()
        client.predict(message=QUESTION, language="fr", steering="normal", api_name="/chat")
        first_reply_s = time.perf_counter() - asked
        first_token_s = statistics.median(_first_token_s(client) for _ in range(PAIRS))
        memory_mib = server.memory_mib()
        assert memory_mib is not None
        return {
            "page_s": server.page_s,
            "first_reply_s": first_reply_s,
            "first_token_s": first_token_s,
            "memory_gb": memory_mib * 2**20 / 1e9,
        }


def _first_token_s(client: Client) -> float:
    """Return the seconds from sending a question through the page's queue to its first text."""
    started = time.perf_counter()
    job = client.submit(message=QUESTION, language="ja", steering="normal", api_name="/chat")
    first = next(text for text in job if text)
    assert first
    seconds = time.perf_counter() - started
    job.result()
    return seconds


def measure_speed(model: LoadedModel, plan: SteeringPlan) -> tuple[float, float]:
    """Return tokens/s while steered, and the median over pairs of steered time / unsteered time."""
    ids = torch.tensor([encode_prompt(model.tokenizer, [Message("user", QUESTION)])])
    _seconds(model, ids, plan)
    pairs = []
    for number in range(PAIRS):  # the order alternates, so that drift takes no side
        order = (plan, NO_STEERING) if number % 2 else (NO_STEERING, plan)
        times = {id(one): _seconds(model, ids, one) for one in order}
        pairs.append((times[id(plan)], times[id(NO_STEERING)]))
    ratio = statistics.median(on / off for on, off in pairs)
    return TOKENS / statistics.median(on for on, _ in pairs), ratio


def _seconds(model: LoadedModel, ids: torch.Tensor, plan: SteeringPlan) -> float:
    with torch.inference_mode(), steered(model.model, [plan]):
        started = time.perf_counter()
        model.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            min_new_tokens=TOKENS,
            max_new_tokens=TOKENS,
            pad_token_id=model.tokenizer.pad_token_id,
        )
        return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    page = measure_page()
    neurons = load_neuron_set(BUNDLED_NEURON_SET)
    plan = make_plan(neurons, SteeringRequest(LANGUAGES["fr"]))
    model = load_model(BUNDLED_MODEL)
    tokens_per_s, ratio = measure_speed(model, plan)
    rows = [
        ("page answers", f"{page['page_s']:.1f} s", "15 s"),
        ("first reply, model loading included", f"{page['first_reply_s']:.1f} s", ""),
        ("memory of the process", f"{page['memory_gb']:.2f} GB", "1.5 GB"),
        ("first text after sending", f"{page['first_token_s']:.2f} s", "1.5 s"),
        ("speed, steered", f"{tokens_per_s:.0f} tokens/s", "60 tokens/s"),
        ("steering costs", f"{ratio - 1:+.1%} of the time", "5%"),
    ]
    print("| what | measured | limit |\n|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    numbers = page | {"tokens_per_s": tokens_per_s, "steering_overhead": ratio - 1}
    print(json.dumps({name: round(value, 4) for name, value in numbers.items()}))


if __name__ == "__main__":
    main()
