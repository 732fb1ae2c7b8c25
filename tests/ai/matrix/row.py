"""The rows of the matrix: what is tested in which environment."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
ENVIRONMENTS = ROOT / ".venv-matrix"


@dataclass(frozen=True)
class Framework:
    """A framework and the tests that show that it works."""

    name: str
    """Also the extra of our package."""
    package: str
    """Whose version is shown."""
    tests: tuple[str, ...]
    """Arguments for pytest."""
    is_typed_here: bool = False
    """Whether types are checked in its environment, because the main one cannot hold it."""


FRAMEWORKS = [
    Framework("adk", "google-adk", ("tests/ai/adk",), is_typed_here=True),
]
AGES = ("lowest", "newest")


@dataclass(frozen=True)
class Row:
    """A framework at one version."""

    framework: Framework
    age: str

    @property
    def name(self) -> str:
        """As it is asked for, such as `adk-newest`."""
        return f"{self.framework.name}-{self.age}"

    @property
    def requirements(self) -> Path:
        """The file with the pinned requirements."""
        return HERE / "requirements" / f"{self.name}.txt"

    @property
    def environment(self) -> Path:
        """The folder of the virtual environment."""
        return ENVIRONMENTS / self.name

    @property
    def version(self) -> str:
        """The pinned version of the framework."""
        for line in self.requirements.read_text().splitlines():
            package, _, version = line.partition("==")
            if package == self.framework.package:
                return version
        raise LookupError(f"{self.requirements} does not pin {self.framework.package}")


ROWS = {
    row.name: row
    for framework, age in itertools.product(FRAMEWORKS, AGES)
    for row in (Row(framework, age),)
}
