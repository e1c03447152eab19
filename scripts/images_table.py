#!/usr/bin/env python3
"""Write the table of real images into README.md, from the manifests below a folder.

scripts/images_table.py distrobuilder/out
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src")]

from hakim_actions.artifact import Manifest  # noqa: E402 - from this very tree
from hakim_actions.system import units  # noqa: E402 - likewise

BEGIN, END = "<!-- images:begin -->", "<!-- images:end -->"
#: Phases of a build as the manifest names them, and what the column says.
PHASES = {
    "source": "bootstrap or layer",
    "packages": "packages",
    "setup": "setup",
    "tar": "tar",
    "pack": "pack",
    "verify": "verify",
    "boot": "boot test",
}


def row(manifest: Manifest) -> str:
    """Return one line of the table; times are in seconds."""
    name = manifest.name
    cells = [
        f"{name.variant} {name.release} {name.arch}",
        units.size(manifest.files[0].size),
        units.size(manifest.unpacked_bytes),
        str(len(manifest.packages)),
        *(f"{manifest.phases.get(phase, 0):.0f}" for phase in PHASES),
        f"{manifest.boot_seconds:.1f}",
        str(len(manifest.checks)),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Read the folder from the command line."""
    found = [
        Manifest.from_json(path.read_text("utf-8"), source=path.name)
        for path in sorted(Path(sys.argv[1]).rglob("*.manifest.json"))
    ]
    columns = ["image", "size", "unpacked", "packages", *PHASES.values(), "to running", "checks"]
    lines = [f"| {' | '.join(columns)} |", f"|---|{'---:|' * (len(columns) - 1)}", *map(row, found)]
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    table = "\n".join([BEGIN, "", *lines, "", END])
    readme.write_text(f"{before}{table}{after}", "utf-8")


if __name__ == "__main__":
    main()
