"""Imports one version: uploads, creates it inactive, and waits for its job."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from hakim_actions.coder.api import RUNNING, Coder, CoderError, Version
from hakim_actions.coder.job import FINGERPRINT, Job, Label
from hakim_actions.errors import HakimError, TemplateError
from hakim_actions.system.progress import Progress

_POLL_SECONDS: Final = 1.0
#: Seconds that a job may wait while provisioners exist, before it counts as stuck.
_PENDING_SECONDS: Final = 300.0
#: How often a version of one name can be pushed with different content.
_MAX_REVISIONS: Final = 50


@dataclass(frozen=True, kw_only=True)
class Importer:
    """Imports into *organization* (an id) of one server; *sleep* is for tests."""

    coder: Coder
    organization: str
    progress: Progress
    sleep: Callable[[float], None] = time.sleep

    def run(self, job: Job, label: Label) -> None:
        """Import *job* and set its version; raise TemplateError when it does not succeed."""
        file_id = self.coder.upload(job.source.pack.data)
        job.version = self._create(job, label, file_id)
        if job.version.status in RUNNING:
            _refuse_without_provisioner(job.version)
        job.version = self._wait(job.version)
        if job.version.status != "succeeded":
            raise self._import_failed(job)

    def _create(self, job: Job, label: Label, file_id: str) -> Version:
        """Create the version, or find the one that an earlier run left; a name is used once."""
        message = f"{label.message.rstrip()}\n\n{FINGERPRINT}{job.fingerprint}"
        for revision in range(1, _MAX_REVISIONS + 1):
            name = label.name if revision == 1 else f"{label.name[:60]}-r{revision}"
            try:
                return self.coder.create_version(
                    self.organization,
                    name=name,
                    message=message,
                    file_id=file_id,
                    template_id=job.remote.id if job.remote else "",
                    variables=job.variables,
                    tags=job.tags,
                )
            except CoderError as error:
                if error.status != 409 or job.remote is None:
                    raise
            found = self.coder.version_named(job.remote.id, name)
            good = found.status in RUNNING or found.status == "succeeded"
            if (
                found.message == message
                and found.file_id == file_id
                and good
                and not found.archived
            ):
                return found
        msg = f"'{job.name}' has {_MAX_REVISIONS} versions called '{label.name}'."
        raise TemplateError(msg, hint="Give another name with --version-name.")

    def _wait(self, version: Version) -> Version:
        """Wait for the import to end, showing its log."""
        last, pending_since = 0, time.monotonic()
        while True:
            current = self.coder.version(version.id)
            for number, line in self.coder.logs(version.id, last):
                last = number
                self.progress.line(line)
            if current.status not in RUNNING:
                return current
            if current.status != "pending":
                pending_since = time.monotonic()
            elif time.monotonic() - pending_since > _PENDING_SECONDS:
                msg = f"The import waited {_PENDING_SECONDS:g} seconds for a provisioner."
                raise TemplateError(msg, hint="Look at the provisioners in Coder.")
            self.sleep(_POLL_SECONDS)

    def _import_failed(self, job: Job) -> TemplateError:
        assert job.version is not None  # noqa: S101 - set by the caller; narrows the type
        version = job.version
        if version.error_code == "REQUIRED_TEMPLATE_VARIABLES":
            missing = [
                variable.name
                for variable in self.coder.variables(version.id)
                if variable.required and not variable.value and variable.name not in job.variables
            ]
            msg = f"'{job.name}' needs values for: {', '.join(missing) or version.error}."
            return TemplateError(
                msg, hint="Give them with TF_VAR_<name>, --variables-file or --variable NAME=VALUE."
            )
        return TemplateError(
            f"The import of '{job.name}' {version.status}: {version.error or 'no reason given'}",
            hint="The log above tells where.",
        )

    def discard(self, jobs: Sequence[Job]) -> None:
        """Archive what was created and is not active; failing at it hides no other failure."""
        for job in jobs:
            version = job.version
            if version is None or (job.active and version.id == job.active.id):
                continue
            try:
                if version.status in RUNNING:
                    self.coder.cancel(version.id)
                self.coder.archive(version.id)
            except HakimError as error:
                self.progress.note(f"'{version.name}' of {job.name} stays: {error.message}")


def _refuse_without_provisioner(version: Version) -> None:
    tags = ", ".join(f"{key}={value}" for key, value in sorted(version.tags.items())) or "none"
    if version.provisioners == 0:
        msg = f"No provisioner of Coder matches the tags of the template ({tags})."
        raise TemplateError(
            msg, hint="Start one with these tags, or push without them once by hand."
        )
    if version.available == 0:
        msg = f"Coder's provisioners for the tags of the template ({tags}) are all offline."
        raise TemplateError(msg, hint="Start one; 'coder provisioner list' shows them.")
