"""How the page's listeners run, and what they take and return.

Knows gradio's queue, not what any listener does.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

# The values of components, by component.
Values: TypeAlias = Mapping[Any, Any]
# New values by component, gradio's own updates among them.
Updates: TypeAlias = dict[Any, Any]

# Turns that may run or wait in the engine at once; later ones wait in gradio's queue. All share
# one limit, and each holds a thread of gradio's while it waits (`open_page` says how many).
ON_MODEL: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 64}
QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
# A check has no outputs: gradio lays an error over the outputs of what fails. Queued, as an error
# outside of the queue is a failed request to the browser.
CHECK: dict[str, Any] = {
    "show_progress": "hidden",
    "api_visibility": "private",
    "concurrency_limit": None,
}
