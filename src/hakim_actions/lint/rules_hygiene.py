"""What may stand in no file: mirrors that only one site has, and secrets."""

import re
from collections.abc import Iterable
from typing import Final

from hakim_actions.lint.rules import Problem, rule
from hakim_actions.lint.tree import DEFINITION, Tree

_MIRROR: Final = re.compile(
    r"\b(?:https?|ftp)://(?:[^\s/\"']*mirror[^\s/\"']*|[^\s\"']+/debian(?:-security)?(?![\w.-]))"
)
_SECRETS: Final = {
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a token of GitHub": re.compile(r"\b(?:gh[pousr]_\w{36}|github_pat_\w{22})"),
    "a token of GitLab": re.compile(r"\bglpat-[\w-]{20}"),
    "a token of npm": re.compile(r"\bnpm_[A-Za-z0-9]{36}"),
    "a token of Slack": re.compile(r"\bxox[abprs]-\w{10}"),
    "an access key of AWS": re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    "an API token of Proxmox": re.compile(
        r"[\w.-]+@\w+![\w.-]+=[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    ),
    "a password in a URL": re.compile(
        # Words that stand for one in an example are none.
        r"://[^\s/:@\"'{}$<>]+:(?!(?:password|PASSWORD|secret|SECRET)@|[$<{*])[^\s/:@\"'{}<>]+@[\w.-]"
    ),
}
#: Tests are full of made-up secrets; a lock file's hashes only look like some.
_NOT_SEARCHED: Final = ("tests/", "requirements/")


@rule(
    "no-mirror-host",
    "hakim.yaml names no Debian mirror",
    why="debootstrap has a default, and a site's own mirror is given with --mirror.",
)
def no_mirror_host(tree: Tree) -> Iterable[Problem]:
    """Yield texts in hakim.yaml that hold the address of a mirror, and any set source."""
    document = tree.yaml(DEFINITION)
    expected = "no address of a Debian mirror"
    hint = "Leave it out; 'hakim-actions build --mirror URL' uses another mirror for one build."
    source = document.get("source", "url")
    if source:
        yield Problem(DEFINITION, source.line, f"source.url: {source.text}", expected, hint)
    for node in document.walk():
        for number, line in enumerate(node.text.split("\n")):
            found = _MIRROR.search(line)
            if found and node.raw is not source.raw:
                yield Problem(DEFINITION, node.content_line + number, found.group(), expected, hint)


@rule(
    "no-secrets",
    "No file holds a token, a password in a URL or a private key",
    why="What was committed once is known for ever, and images carry it to everybody.",
)
def no_secrets(tree: Tree) -> Iterable[Problem]:
    """Yield what looks like a secret, by its kind alone: a log must not repeat it."""
    for name in tree.files:
        if name.startswith(_NOT_SEARCHED):
            continue
        for number, line in enumerate(tree.text(name).split("\n"), start=1):
            for kind, pattern in _SECRETS.items():
                if pattern.search(line):
                    yield Problem(
                        name,
                        number,
                        f"what looks like {kind}",
                        "no secret in any file",
                        "Revoke it, then take it from the environment or from a file outside.",
                    )
