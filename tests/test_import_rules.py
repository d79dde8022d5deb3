"""The import table of the project: who may import whom, and what `import steering` costs."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "steering"

# Groups from low to high. A row names what a module may import from steering.
# A package (`ui`, `evaluation`) has one row, and what is inside may import itself.
WORDS = [
    "errors", "languages", "function_words", "unicode_scripts", "whole_files", "data_folder",
    "text_units", "looping",
]  # fmt: skip
DATA = [
    "activation_stats", "neuron_choice", "neuron_set", "steering_plan", "language_subspace",
    "architectures", "model_identity",
]  # fmt: skip
METHODS = ["lape", "baselines", "neuron_plans", "residual", "sharing", "token_bias"]
EDGES = [
    "neuron_set_file", "kept_sets", "shipped_sets", "imports", "corpus", "corpus_rows",
    "everyday_prompts", "experts", "hooks", "gguf_models", "narrow_vocabulary", "loading",
]  # fmt: skip
WORK = [
    "conversation", "plan_table", "chunks", "running_sums", "partial_results", "processes",
    "recording", "line_recording", "parameter_variation", "steerer", "detection",
    "identification", "countable_text", "last_token", "ffn_columns", "value_units",
    "corpus_language", "intrusions",
]  # fmt: skip
USE = [
    "building",
    "set_comparison",
    "contrastive",
    "from_model",
    "guard",
    "token_choice",
    "answer",
    "batch",
    "generation",
    "jobs",
    "engine",
    "zero_gpu",
    "activity",
    "pace",
    "evaluation",
    "report_card",
    "study",
    "export",
]
SURFACES = ["cli", "api", "ui"]
BELOW_SURFACES = [
    *WORDS, *DATA, *METHODS, "methods", *EDGES, *WORK, *USE, "bundled", "conversion_bar",
    "settings",
]  # fmt: skip

ALLOWED: dict[str, list[str]] = {
    "__init__": BELOW_SURFACES,
    "__main__": ["cli", "errors"],
    "errors": [],
    "languages": ["errors"],
    "function_words": [],
    "unicode_scripts": [],
    "text_units": ["unicode_scripts"],
    "looping": ["text_units"],
    "whole_files": [],
    "data_folder": [],
    "activation_stats": ["errors", "languages"],
    "neuron_choice": ["activation_stats", "errors", "languages"],
    "neuron_set": ["activation_stats", "errors", "languages", "model_identity", "neuron_choice"],
    "language_subspace": ["steering_plan"],
    "steering_plan": ["architectures", "errors", "languages", "neuron_set"],
    "architectures": ["errors", "languages"],
    **{method: [*WORDS, *DATA] for method in METHODS},
    "methods": [*WORDS, *DATA, "neuron_plans", "residual", "token_bias"],
    "neuron_set_file": ["whole_files", "neuron_set", "activation_stats", "languages", "errors"],
    "kept_sets": ["neuron_set", "neuron_set_file", "model_identity", "errors"],
    "shipped_sets": ["bundled", "neuron_set", "neuron_set_file", "model_identity", "errors"],
    "imports": ["neuron_set", "activation_stats", "model_identity", "languages", "errors"],
    "corpus": ["corpus_rows", "languages", "errors"],
    "corpus_rows": [],
    "corpus_language": ["corpus", "corpus_rows", "detection", "languages", "errors"],
    "everyday_prompts": ["languages", "errors"],
    "experts": ["architectures", "errors"],
    "hooks": ["architectures", "errors", "experts"],
    "model_identity": ["architectures"],
    "gguf_models": ["errors"],
    "narrow_vocabulary": [],
    "loading": [
        "architectures",
        "data_folder",
        "errors",
        "experts",
        "gguf_models",
        "model_identity",
        "narrow_vocabulary",
    ],
    "conversation": [*WORDS, *DATA, *EDGES],
    "chunks": [*WORDS, *DATA, "corpus", "corpus_rows", "loading", "conversation"],
    "running_sums": [*DATA, "errors"],
    "partial_results": ["errors", "whole_files"],
    "processes": ["errors"],
    "recording": [
        *WORDS,
        *DATA,
        "hooks",
        "corpus",
        "loading",
        "chunks",
        "running_sums",
        "partial_results",
        "processes",
    ],
    "line_recording": [*WORDS, *DATA, "hooks", "corpus", "loading", "conversation", "chunks"],
    "parameter_variation": [*WORDS, *DATA, "hooks", "loading", "model_identity"],
    "last_token": [*WORDS, *DATA, "hooks", "loading", "conversation"],
    "ffn_columns": [*DATA, "errors", "hooks", "loading"],
    "plan_table": [*WORDS, *DATA],
    "value_units": [*DATA, "ffn_columns"],
    "steerer": [*WORDS, *DATA, "methods", "hooks", "loading", "plan_table", "value_units"],
    "countable_text": [],
    "identification": ["function_words", "unicode_scripts", "languages", "errors"],
    "intrusions": ["countable_text", "text_units", "unicode_scripts", "languages"],
    "detection": [
        "identification",
        "countable_text",
        "intrusions",
        "unicode_scripts",
        "languages",
        "errors",
    ],
    "guard": [*WORDS, *DATA, "methods", "countable_text", "identification", "detection"],
    "token_choice": ["token_bias", "errors"],
    "answer": [*WORDS, *DATA, "token_bias", "loading", "conversation", "guard", "token_choice"],
    "batch": [
        *WORDS,
        *DATA,
        "token_bias",
        "hooks",
        "loading",
        "steerer",
        "answer",
        "token_choice",
    ],
    "generation": [
        *WORDS,
        *DATA,
        "hooks",
        "loading",
        "conversation",
        "guard",
        "answer",
        "batch",
        "token_choice",
    ],
    "jobs": [
        *WORDS,
        *DATA,
        "loading",
        "conversation",
        "guard",
        "answer",
        "generation",
        "token_choice",
    ],
    "engine": [*WORDS, "hooks", "loading", "batch", "generation", "jobs"],
    "zero_gpu": [*WORDS, "loading", "batch", "generation", "jobs", "engine"],
    "activity": [*WORDS, *DATA, "hooks", "loading", "conversation", "steerer", "batch"],
    "pace": [],
    "contrastive": [*WORDS, *EDGES, "conversation", "detection", "generation", "token_choice"],
    "from_model": [*WORDS, *EDGES, "chunks", "contrastive", "partial_results", "processes"],
    "building": [*WORDS, *DATA, *METHODS, "model_identity"],
    "set_comparison": [*WORDS, *DATA],
    "evaluation": [
        *WORDS,
        *DATA,
        *METHODS,
        "methods",
        *EDGES,
        *WORK,
        "guard",
        "token_choice",
        "answer",
        "batch",
        "generation",
        "set_comparison",
    ],
    "report_card": [*WORDS, *DATA, "evaluation"],
    "study": [*WORDS, *DATA, "loading", "set_comparison", "evaluation", "report_card"],
    "export": ["steering_plan", "architectures", "loading", "errors"],
    "settings": ["data_folder", "errors", "languages", "bundled", "loading"],
    "bundled": ["loading"],
    "conversion_bar": ["gguf_models"],
    **{surface: BELOW_SURFACES for surface in SURFACES},
    "serving": [*BELOW_SURFACES, "api", "ui"],
}


def module_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def owner_of(path: Path) -> str:
    """The row of a file: its module, or the package that it is in."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> set[str]:
    """The modules of steering that a file imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "steering":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and is_ours(node.module):
            found.add((node.module or "").removeprefix("steering."))
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("steering.") for a in node.names if is_ours(a.name)}
    return {name.split(".")[0] for name in found}


def is_ours(module: str | None) -> bool:
    return (module or "").startswith("steering.")


@pytest.mark.parametrize("path", module_files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_its_row_allows(path: Path) -> None:
    row = owner_of(path)

    assert row in ALLOWED, f"'{row}' has no row in the import table; add one above and in the docs"
    assert imported_modules(path) <= {*ALLOWED[row], row}


@pytest.mark.parametrize("path", module_files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_the_table_has_no_circle() -> None:
    """Rows may be filled in any order only if no module can reach itself."""
    table = {name: set(row) - {name} for name, row in ALLOWED.items()}
    while ready := [name for name, row in table.items() if not row & set(table)]:
        for name in ready:
            del table[name]

    assert not table


def test_import_steering_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import steering\n"
        "print(time.perf_counter() - start)\n"
        "print(*{'gradio', 'fastapi', 'torch', 'transformers', 'bitsandbytes'} & set(sys.modules))"
    )
    seconds = []
    for _ in range(3):  # the quickest of three, as other work may hold the processor
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        )
        took, heavy = done.stdout.split("\n")[:2]
        assert heavy == ""
        seconds.append(float(took))
        time.sleep(0.05)

    assert min(seconds) < 0.2


def test_the_page_does_not_wait_for_the_import_of_transformers() -> None:
    """It takes a quarter of a second, and nobody needs it before the model is loaded."""
    code = (
        "import steering.serving, sys; print(*{'transformers', 'bitsandbytes'} & set(sys.modules))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == ""


def test_app_imports_only_what_serves_and_errors() -> None:
    assert imported_modules(ROOT / "app.py") <= {"serving", "errors", "settings"}
