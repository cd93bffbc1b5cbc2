"""Pin all dependencies: versions and hashes, no addresses. Run by ``make lock``."""

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ALL = ("*",)
FILES = {
    "requirements/runtime.txt": (("gateway",), ("build",)),
    "requirements/image.txt": (("gateway", "kafka", "postgres", "rabbitmq"), ("build",)),
    "requirements/dev.txt": (ALL, ("build", "docs", "dev")),
    "requirements/bench.txt": (ALL, ("build", "docs", "dev", "peers")),
}
OPTIONS = (
    "--quiet",
    "--upgrade",
    "--universal",  # one file for every Python that the package supports ...
    "--python-version=3.11.0",  # ... from the oldest on
    "--generate-hashes",
    "--strip-extras",
    "--no-header",
    "--no-annotate",
    "--no-emit-options",
    "--system-certs",
)


def wanted(project: dict[str, Any], extras: tuple[str, ...], groups: tuple[str, ...]) -> list[str]:
    """Return the requirements of the project with some (or all) extras, and some groups."""
    lines: list[str] = list(project["project"]["dependencies"])
    optional: dict[str, list[str]] = project["project"]["optional-dependencies"]
    for extra in optional if extras == ALL else extras:
        lines += optional[extra]
    for group in groups:
        lines += project["dependency-groups"][group]
    return lines


def main() -> None:
    """Write all files; each agrees with the one before."""
    project = tomllib.loads(Path("pyproject.toml").read_text())
    constraints: list[str] = []
    for output, (extras, groups) in FILES.items():
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "all.in"
            source.write_text("\n".join(wanted(project, extras, groups)) + "\n")
            command = [sys.executable, "-m", "uv", "pip", "compile", *OPTIONS, *constraints]
            subprocess.run([*command, "-o", output, str(source)], check=True)  # noqa: S603 - ours
        constraints = ["-c", output]


if __name__ == "__main__":
    main()
