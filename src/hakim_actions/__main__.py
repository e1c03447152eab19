"""``python -I -m hakim_actions`` and the console script; the only reader of os.environ."""

import os
import sys

from hakim_actions.cli.main import main


def start() -> int:
    """Run the command line of this process and return its exit code."""
    # Line by line also into a pipe, so that our lines and a child's come in their real order.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)
    return main(sys.argv[1:], dict(os.environ))


if __name__ == "__main__":
    sys.exit(start())
