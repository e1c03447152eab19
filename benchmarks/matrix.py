"""How long the matrix takes as it grows to GitHub's limit of 256 rows, and what one row costs.

All sizes are measured alternately in one run; the number that counts is the ratio to 14 rows.
"""

import statistics
import time
from pathlib import Path

from hakim_actions import matrix
from hakim_actions.catalog import Catalog, Project
from hakim_actions.content import Sources

ROUNDS = 7
SIZES = (14, 64, 256)


def main() -> None:
    """Print a Markdown table of medians in milliseconds."""
    project = Project.find(Path(__file__).parent)
    times: dict[int, list[float]] = {size: [] for size in SIZES}
    for _ in range(ROUNDS):
        for size in SIZES:
            start = time.perf_counter()
            rows = matrix.all_rows(
                Catalog.load(project.variants),
                Sources.read(project.definition.parent),
                filters=matrix.Filters(),
                runners=matrix.RUNNERS,
            )
            sources = Sources.read(project.definition.parent)
            many = [rows[number % len(rows)] for number in range(size)]
            changed = [row for row in many if sources.key(row.name) != row.content_key]
            matrix.limited(changed).as_dict()
            times[size].append(time.perf_counter() - start)
    medians = {size: statistics.median(values) for size, values in times.items()}
    print("| rows | median | ratio |")
    print("|---|---|---|")
    for size, seconds in medians.items():
        print(f"| {size} | {seconds * 1000:.0f} ms | {seconds / medians[SIZES[0]]:.2f} |")


if __name__ == "__main__":
    main()
