"""How long ``hakim-actions --help`` takes, against a bare Python that does nothing.

Both are started alternately in one run; the number that counts is the ratio.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 15
SOURCE = Path(__file__).resolve().parents[1] / "src"
HELP = f"import sys; sys.path.insert(0, {str(SOURCE)!r}); from hakim_actions.cli.main import main"
COMMANDS = {
    "python -I -c pass": ("-I", "-c", "pass"),
    "hakim-actions --help": ("-I", "-c", f"{HELP}; main(['--help'], {{}})"),
}


def main() -> None:
    """Print a Markdown table of medians in milliseconds, and the ratio."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, arguments in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run((sys.executable, *arguments), stdout=subprocess.DEVNULL, check=True)
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    bare, ours = medians.values()
    print("| command | median |")
    print("|---|---|")
    for name, seconds in medians.items():
        print(f"| `{name}` | {seconds * 1000:.0f} ms |")
    print(f"\nRatio: {ours / bare:.1f}, {1000 * (ours - bare):.0f} ms on top.")


if __name__ == "__main__":
    main()
