"""Page and API, on a laptop and on a Space: `python app.py`."""

import gc
import os
import sys

# Until the page is open (`serve` says when): imports make half a million objects and next to no
# garbage, and looking for some took a fifth of their time.
gc.disable()

if os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true"):
    import spaces  # noqa: F401 - it changes torch, so that it has to come first

from steering.errors import SteeringError  # noqa: E402
from steering.settings import read_settings  # noqa: E402

# Read by libraries when they are imported: nothing is reported to anybody.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
# Gradio makes a table of its last 10,000 events after each event, for a page that is not open:
# that cost 15 MiB a minute in a load of 16 people, and time. Few events, and never a table.
os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "64"
os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = str(10**9)


def main() -> int:
    """Read the settings and serve until the program is interrupted; return the exit code."""
    try:
        settings = read_settings()
        from steering.serving import serve

        serve(settings)
    except SteeringError as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before the page was open, or again while it closes
        print("stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
