"""Values of template variables: from options, files and the environment, and from before."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hakim_actions.catalog import read_yaml
from hakim_actions.coder.api import RemoteVariable
from hakim_actions.coder.template import Template
from hakim_actions.errors import ConfigurationError, did_you_mean

#: As Terraform itself reads them from the environment.
_PREFIX: Final = "TF_VAR_"


def given_variables(
    templates: Sequence[Template],
    *,
    options: Sequence[str],
    file: Path | None,
    env: Mapping[str, str],
) -> dict[str, str]:
    """Return what the user gave: ``--variable`` wins over the file, that over TF_VAR_<name>.

    Raises ConfigurationError with every name that no template declares, every option that is not
    NAME=VALUE, and every secret that stands on the command line, where others can read it.
    """
    declared = {name: var for template in templates for name, var in template.variables().items()}
    from_options, problems = _options(options)
    from_file = {name: as_text(value) for name, value in (read_yaml(file) if file else {}).items()}
    problems += [
        f"{where} '{name}': no template has this variable. {did_you_mean(name, declared)}"
        for where, names in (("--variable", from_options), ("--variables-file", from_file))
        for name in names
        if name not in declared
    ]
    problems += [
        f"--variable '{name}': a secret; give it as TF_VAR_{name} or in --variables-file"
        for name in from_options
        if name in declared and declared[name].sensitive
    ]
    if problems:
        msg = "The variables of the templates are not right."
        raise ConfigurationError(msg, problems=problems)
    from_env = {name: env[_PREFIX + name] for name in declared if env.get(_PREFIX + name)}
    return {**from_env, **from_file, **from_options}


def chosen(
    template: Template, *, given: Mapping[str, str], before: Sequence[RemoteVariable]
) -> dict[str, str]:
    """Return the values for a new version of *template*.

    A version inherits nothing from the one before: what the user did not say, and what is no
    secret, is taken over here, so that a push changes only what it was asked to change.
    """
    declared = template.variables()
    kept = {
        variable.name: variable.value
        for variable in before
        if variable.name in declared
        and not variable.sensitive
        and variable.value
        and variable.value != variable.default
    }
    return {**kept, **{name: value for name, value in given.items() if name in declared}}


def as_text(value: Any) -> str:
    """Return a value of a YAML file as Coder wants it: texts as they are, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def _options(options: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    values, problems = {}, []
    for option in options:
        name, found, value = option.partition("=")
        if found and name:
            values[name] = value
        else:
            problems.append(f"--variable '{option}': expected NAME=VALUE")
    return values, problems
