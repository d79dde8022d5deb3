"""The documents say what the code does: the README's code runs, commands and names are there."""

import ast
import io
import re
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import steering
from scripts.write_cli_docs import PAGE, iter_commands, render
from steering.bundled import REAL_MODEL, REAL_MODEL_ON_GPU
from steering.cli.main import make_parser
from steering.loading import BUNDLED_FOLDER

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", ROOT / "demo_model/README.md", ROOT / "neuron_sets/README.md",
             *sorted((ROOT / "docs").rglob("*.md"))]  # fmt: skip


def test_readme_code_prints_what_the_readme_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```\s+(?:[^`]*?)```\n(.*?)```", README, flags=re.DOTALL)
    names: dict[str, object] = {}
    assert len(blocks) == 2
    assert (BUNDLED_FOLDER / "model.safetensors").is_file()

    for code, expected in blocks:
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(code, "README.md", "exec"), names)  # noqa: S102 - our own page
        assert printed.getvalue().strip() == expected.strip()


def test_front_matter_is_what_a_space_accepts() -> None:
    front = yaml.safe_load(README.split("---")[1])

    assert front["sdk"] == "gradio"
    assert f"gradio=={front['sdk_version']}" in (ROOT / "constraints.txt").read_text()
    assert (ROOT / front["app_file"]).is_file()
    assert len(front["short_description"]) <= 60
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {front["colorFrom"], front["colorTo"]} <= colours
    assert front["preload_from_hub"] == front["models"] == [REAL_MODEL, REAL_MODEL_ON_GPU]


def test_command_page_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(make_parser()), (
        "stale: run `python scripts/write_cli_docs.py`"
    )


def test_every_command_is_on_the_page() -> None:
    names = {name for name, *_ in iter_commands(make_parser())}

    assert {"build-set", "inspect", "check", "evaluate forcing", "evaluate perplexity"} <= names


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_files_that_a_document_names_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")

    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (document.parent / target).exists(), target
    for name in re.findall(r"`((?:steering|demo_model|docs|tests|neuron_sets)/[\w/.-]+)`", text):
        assert (ROOT / name).exists(), name


def test_every_module_has_its_place_in_the_architecture_page() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")

    package = ROOT / "steering"
    for path in sorted([*package.glob("*.py"), *package.glob("ui/**/*.py")]):
        if not path.name.startswith("__"):
            assert path.name in page, path.name


def test_no_document_has_a_placeholder_left() -> None:
    for document in DOCUMENTS:
        assert "@@" not in document.read_text(encoding="utf-8"), document


def test_public_names_are_complete_sorted_and_there() -> None:
    names = list(steering.__all__)

    assert names == sorted(names, key=lambda name: (not name.isupper(), name.islower(), name))
    assert not any(isinstance(getattr(steering, name), ModuleType) for name in names)
    tree = ast.parse((ROOT / "steering/__init__.py").read_text(encoding="utf-8"))
    homes = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOMES"
    )
    assert set(homes) == set(names)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(steering, "nothing")  # noqa: B009 - reading it is the test
