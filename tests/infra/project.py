"""Everything that the checks read, from one folder: the project, or a copy with a fault planted in it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tests.infra.bicep import Declaration, Template, parse


@dataclass(frozen=True)
class Project:
    root: Path

    @cached_property
    def templates(self) -> Mapping[Path, Template]:
        """Every Bicep file below `infra/`, by its resolved path."""
        return {path.resolve(): parse(path) for path in sorted((self.root / "infra").rglob("*.bicep"))}

    @property
    def main(self) -> Template:
        return self.templates[(self.root / "infra" / "main.bicep").resolve()]

    def target(self, template: Template, module: Declaration) -> Template | None:
        """The file of a module; None when there is none."""
        return self.templates.get((template.path.parent / module.kind).resolve())

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """Parameter: its value, as `main.parameters.json` gives it."""
        document = json.loads(self.text("infra/main.parameters.json"))
        return {name: entry["value"] for name, entry in document["parameters"].items()}

    @cached_property
    def azure_yaml(self) -> Mapping[str, Any]:
        loaded: Mapping[str, Any] = yaml.safe_load(self.text("azure.yaml"))
        return loaded

    @cached_property
    def hooks(self) -> Mapping[str, str]:
        paths = sorted((self.root / "infra" / "hooks").glob("*.py"))
        return {path.name: path.read_text(encoding="utf-8") for path in paths}

    @cached_property
    def deploy_variables(self) -> frozenset[str]:
        """The variables that docs/deploy.md explains: those in backquotes at the head of a table row."""
        return frozenset(re.findall(r"(?m)^\| `(\w+)` \|", self.text("docs/deploy.md")))

    def text(self, path: str) -> str:
        return (self.root / path).read_text(encoding="utf-8")
