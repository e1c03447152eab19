"""Which version to go back to, and where its templates come from."""

from collections.abc import Mapping

from hakim_actions.errors import ConfigurationError, HakimError, did_you_mean
from hakim_actions.promote import names
from hakim_actions.promote.source import Source, Template, open_source
from hakim_actions.promote.state import State
from hakim_actions.system.http import Http


def choose(state: State, *, to: str = "") -> str:
    """Return the version *to*, or the one that was promoted first before the current one was."""
    versions = list(dict.fromkeys(r.version for r in state.records if r.version))
    if to:
        if to not in versions:
            msg = f"--to '{to}' was never promoted, as far as the state knows."
            raise ConfigurationError(msg, hint=did_you_mean(to, versions) if versions else _HOW)
        return to
    current = next((r.version for r in reversed(state.records) if r.version), "")
    before = versions[: versions.index(current)] if current else []
    if not before:
        msg = "There is no version to go back to in the state."
        raise ConfigurationError(msg, hint=_HOW)
    return before[-1]


def source_of(
    version: str, state: State, *, web: Http, env: Mapping[str, str]
) -> tuple[Source, str]:
    """Return the source of *version*, and a remark when it is only known from the state.

    What is in the stores already can be used without its source; the rest then fails by name.
    """
    reference = next((r.source for r in state.records if r.version == version and r.source), "")
    if not reference:
        return _remembered(version, state), "its source is not known"
    try:
        source = open_source(reference, web=web, env=env)
    except HakimError as error:
        return _remembered(version, state), f"its source cannot be read ({error.message})"
    if source.version != version:
        remark = f"{reference} holds {source.version or 'another version'} now"
        return _remembered(version, state), remark
    return source, ""


def _remembered(version: str, state: State) -> Source:
    known: dict[str, Template] = {}
    for record in state.records:
        name = names.ours(record.file)
        if record.version == version and record.sha256 and name is not None:
            contract = names.contract(name)
            known[contract.archive] = Template(
                name=contract, size=record.size, sha256=record.sha256
            )
    if not known:
        msg = f"Nothing of {version} is known well enough to go back to it."
        raise ConfigurationError(msg, hint=_HOW)
    return Source(reference="", version=version, commit="", templates=tuple(known.values()))


_HOW = (
    "Promote the older release instead: hakim-actions promote --release <tag> --repo <owner/name>."
)
