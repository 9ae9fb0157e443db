"""Write what is derived: the stubs and the README's table, and the gallery's page.

``python tools/generate.py`` writes; with ``--check`` it exits 1 if a file is stale.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import textwrap
from pathlib import Path

from lossmith.core.spec import Spec, objectives
from lossmith.core.words import FAMILIES

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "lossmith"
GALLERY = ROOT / "docs" / "gallery"
# Public names that are not objectives, and where they live.
OTHERS = {
    "lossmith.core.module": ["Objective"],
    "lossmith.core.spec": ["find", "objectives"],
    "lossmith.core.validate": ["value_checks"],
    "lossmith.kernels.dot_scores": ["dot_scores"],
    "lossmith.kernels.known_items": ["KnownItems"],
    "lossmith.kernels.token_statistics": ["TokenStatistics", "token_statistics"],
    "lossmith.kernels.violators": ["Violators", "sample_violators"],
    "lossmith.modules": ["from_text"],
}
HEADER = "# Written by tools/generate.py from the registry; do not edit.\n"


def package_stub() -> str:
    """``__init__.pyi``: every public name and its home."""
    lines = [HEADER + "from typing import Final\n"]
    homes: dict[str, list[str]] = {module: list(names) for module, names in OTHERS.items()}
    for spec in objectives():
        homes.setdefault(f"lossmith.losses.{spec.family}", []).append(spec.name)
        homes["lossmith.modules"].append(spec.module_name)
    for home in sorted(homes):
        lines += [f"from {home} import {name} as {name}" for name in sorted(homes[home])]
    return "\n".join([*lines, "", "__version__: Final[str]", ""])


def modules_stub() -> str:
    """``modules.pyi``: each module face with its knobs, so that editors complete them."""
    parts = [
        HEADER + "from typing import Literal\n\nfrom torch import Tensor\n\n"
        "from lossmith.core.module import Objective\n"
        "from lossmith.core.numerics import Distance\n"
        "from lossmith.core.reduce import Divisor, Reduction\n"
    ]
    extra = sorted({line for spec in objectives() for line in _type_imports(spec)})
    parts[0] += "".join(f"{line}\n" for line in extra)
    parts += [_class_stub(spec) for spec in objectives()]
    return "\n".join([*parts, "def from_text(text: str) -> Objective: ...", ""])


def _type_imports(spec: Spec) -> list[str]:
    """Imports of the names that a family defines for its annotations (``Keywords``, ...)."""
    module = inspect.getmodule(spec.function)
    text = " ".join(str(p.annotation) for p in spec.parameters.values())
    names = set(re.findall(r"\b[A-Z]\w+", text)) - {
        "Literal",
        "Tensor",
        "None",
        "Divisor",
        "Reduction",
        "Distance",
    }
    lines = []
    for name in sorted(names):
        home = getattr(getattr(module, name, None), "__module__", None)
        if home is None or not home.startswith("lossmith"):  # an alias, which knows no home
            home = _home_of_alias(name)
        lines.append(f"from {home} import {name}")
    return lines


def _home_of_alias(name: str) -> str:
    """The first module of the lower layers that defines the alias (``Weighting``), or a family."""
    for folder in ("core", "kernels", "losses"):
        for path in sorted((PACKAGE / folder).rglob("*.py")):
            if re.search(rf"^{name}(: \w+)? = ", path.read_text("utf-8"), re.MULTILINE):
                return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    raise LookupError(f"no module of lossmith defines {name}")


def _class_stub(spec: Spec) -> str:
    call = [p for p in spec.parameters.values() if p.kind is not p.KEYWORD_ONLY]
    batch = [p for p in spec.parameters.values() if p.kind is p.KEYWORD_ONLY]
    knobs = spec.knobs
    batch = [p for p in batch if p.name not in knobs or p.default is p.empty]
    init = "".join(f"        {_parameter(p)},\n" for p in knobs.values())
    forward = "".join(f"        {_parameter(p)},\n" for p in call) + "        *,\n"
    forward += "".join(f"        {_parameter(p, optional=True)},\n" for p in batch)
    return (
        f"class {spec.module_name}(Objective):\n"
        f"    def __init__(\n        self,\n        *,\n{init}    ) -> None: ...\n"
        f"    def forward(\n"
        f"        self,\n{forward}    ) -> Tensor: ...\n"
        f"    __call__ = forward\n"
    )


def _parameter(parameter: inspect.Parameter, optional: bool = False) -> str:
    has_default = optional or parameter.default is not parameter.empty
    # A knob without a default (num_items) may also be given with the batch.
    needs_dots = has_default or parameter.kind is parameter.KEYWORD_ONLY
    return f"{parameter.name}: {parameter.annotation}{' = ...' if needs_dots else ''}"


def objective_table() -> str:
    """The README's table of objectives, by family."""
    rows = [
        "| family | objective | what it pushes | mean divides by |",
        "| --- | --- | --- | --- |",
    ]
    for family in FAMILIES:
        for spec in objectives(family):
            summary = spec.summary.rstrip(".")
            rows.append(f"| {family} | `{spec.name}` | {summary} | {spec.unit} |")
    return "\n".join(rows)


def readme() -> str:
    """The README with its table brought up to date."""
    text = (ROOT / "README.md").read_text("utf-8")
    start, end = "<!-- objectives: written by tools/generate.py -->", "<!-- end of objectives -->"
    before, rest = text.split(start)
    return f"{before}{start}\n{objective_table()}\n{end}{rest.split(end)[1]}"


def gallery() -> str:
    """The gallery's page: every mistake by family, from the files and what check found there."""
    found = json.loads((GALLERY / "findings.json").read_text("utf-8"))
    parts = [(GALLERY / "introduction.md").read_text("utf-8")]
    entries: dict[str, list[str]] = {}
    for path in sorted(GALLERY.glob("*.py")):
        family, row = _mistake(path, found.get(path.stem, {}))
        entries.setdefault(family, []).append(row)
    for family in FAMILIES:
        if family in entries:
            head = "| mistake | published | what it costs | caught by |\n| --- | --- | --- | --- |"
            parts.append(f"## {family.capitalize()}\n\n{head}")
            parts[-1] += "\n" + "\n".join(entries[family]) + "\n"
    return "\n".join(parts)


def _mistake(path: Path, found: dict[str, dict[str, str]]) -> tuple[str, str]:
    """The family of one file of the gallery, and its row."""
    tree = ast.parse(path.read_text("utf-8"))
    constants = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        if node.targets[0].id in ("FAMILY", "CAUGHT_BY")
    }
    title, _, body = (ast.get_docstring(tree) or "").partition("\n\n")
    told = dict(part.split(": ", 1) for part in re.split(r"\n(?=Costs: |Mend: )", body))
    caught = [f"`{law}`: {_numbers(found.get(law, {}))}" for law in constants["CAUGHT_BY"]]
    cells = [
        f"[{title.rstrip('.')}]({path.name})",
        told["Published"],
        told["Costs"],
        "<br>".join(caught),
    ]
    row = " | ".join(" ".join(cell.replace("|", r"\|").split()) for cell in cells)
    return constants["FAMILY"], f"| {row.replace('``', '`')} |"


def _numbers(finding: dict[str, str]) -> str:
    if not finding:
        return ""
    expected, got = (textwrap.shorten(finding[key], 110) for key in ("expected", "got"))
    return f"expected {expected}; got {got}"


def made() -> dict[Path, str]:
    """Each generated file with the text it should have."""
    return {
        PACKAGE / "__init__.pyi": package_stub(),
        PACKAGE / "modules.pyi": modules_stub(),
        ROOT / "README.md": readme(),
        GALLERY / "README.md": gallery(),
    }


def main() -> int:
    """Write the files, or with ``--check`` say which are stale."""
    stale = {
        path: text
        for path, text in made().items()
        if not path.exists() or path.read_text("utf-8") != text
    }
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is stale: run python tools/generate.py")
        return 1 if stale else 0
    for path, text in stale.items():
        path.write_text(text, "utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
