"""The outside world: child processes, files, GitHub's runner, HTTP."""
