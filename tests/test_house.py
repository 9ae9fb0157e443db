"""What holds for the package as a whole."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lossmith as lm

ROOT = Path(__file__).resolve().parent.parent


def modules_after(statement: str) -> set[str]:
    """What a fresh interpreter has imported after a statement."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_imports_no_torch() -> None:
    assert "torch" not in modules_after("import lossmith; dir(lossmith); lossmith.__version__")


def test_the_objectives_import_torch_and_nothing_of_the_tool() -> None:
    loaded = modules_after("import lossmith; lossmith.info_nce; lossmith.InfoNCE")
    assert "torch" in loaded
    assert not loaded & {"polars", "scipy", "matplotlib", "typer", "rich", "tokenizers", "sklearn"}


def test_every_public_name_resolves_and_is_listed() -> None:
    assert len(lm.__all__) > 40
    for name in lm.__all__:
        assert getattr(lm, name) is not None
    assert set(lm.__all__) <= set(dir(lm))


def test_an_unknown_name_is_answered_with_a_suggestion() -> None:
    with pytest.raises(AttributeError, match="Did you mean 'info_nce'"):
        _ = lm.info_nec


def test_generated_files_are_current() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "tools" / "generate.py")
    assert spec is not None and spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for path, text in generate.made().items():
        assert path.read_text("utf-8") == text, f"{path.name} is stale: python tools/generate.py"


def test_the_python_of_the_readme_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_no_source_file_outgrows_its_room() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in (ROOT / "src").rglob("*.py")
        if (lines := len(path.read_text("utf-8").splitlines())) > 400
    }
    assert not long
