"""Pushes templates: all of them or none, and the old ones stay active until all new ones are good.

Read, pack, compare; upload and import inactive; only when every import succeeded, activate one
after the other and read back. What goes wrong before leaves nothing active, what goes wrong after
is undone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hakim_actions.coder.api import Coder, RemoteTemplate, Version
from hakim_actions.coder.imports import Importer
from hakim_actions.coder.job import Job, Label, Result, Source, fingerprint
from hakim_actions.coder.template import Template
from hakim_actions.coder.variables import chosen
from hakim_actions.errors import HakimError, TemplateError
from hakim_actions.system.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Push:
    """A push to *organization* (an id) of one server."""

    coder: Coder
    organization: str
    progress: Progress
    all_or_nothing: bool = True
    activate: bool = True
    force: bool = False

    @property
    def _importer(self) -> Importer:
        return Importer(coder=self.coder, organization=self.organization, progress=self.progress)

    def plan(self, sources: Sequence[Source], label: Label) -> list[Result]:
        """Return what :meth:`run` would do, without a single write."""
        jobs = [self._job(source) for source in sources]
        return [
            job.result("unchanged") if self._skips(job) else job.result("would push", label.name)
            for job in jobs
        ]

    def run(self, sources: Sequence[Source], label: Label) -> list[Result]:
        """Push every template that changed; raise TemplateError naming each that failed."""
        jobs = [self._job(source) for source in sources]
        changed = [job for job in jobs if not self._skips(job)]
        failures = self._import_all(changed, label)
        if failures and (self.all_or_nothing or len(failures) == len(changed)):
            self._importer.discard(changed)
            raise _failed(failures, changed, kept=True)
        good = [job for job in changed if job.name not in failures]
        if self.activate:
            self._activate_all(good)
        if failures:
            self._importer.discard([job for job in changed if job.name in failures])
            raise _failed(failures, changed, kept=False)
        return [job.result(_action(job, changed, activate=self.activate)) for job in jobs]

    def rollback(self, templates: Sequence[Template], *, dry_run: bool = False) -> list[Result]:
        """Activate, for each template, the newest good version before the active one."""
        steps = [self._previous(template) for template in templates]
        if not dry_run:
            for remote, target in steps:
                self.coder.activate(remote, target.id)
                self._verify(remote.name, target)
        action = "would activate" if dry_run else "activated"
        return [
            Result(name=remote.name, action=action, version=target.name, size=0, sha256="")
            for remote, target in steps
        ]

    def _previous(self, template: Template) -> tuple[RemoteTemplate, Version]:
        remote = self.coder.template(self.organization, template.name)
        if remote is None:
            msg = f"Coder has no template '{template.name}' that could be rolled back."
            raise TemplateError(msg, hint="Push it first.")
        versions = self.coder.versions(remote.id)
        active = self.coder.version(remote.active_version_id)
        older = [
            version
            for version in versions
            if version.created_at < active.created_at and version.status == "succeeded"
        ]
        if not older:
            msg = f"'{template.name}' has no good version before '{active.name}'."
            raise TemplateError(msg, hint="Push the old state of the repository instead.")
        return remote, older[0]

    # -- reading --

    def _job(self, source: Source) -> Job:
        remote = self.coder.template(self.organization, source.template.name)
        active = self.coder.version(remote.active_version_id) if remote else None
        before = self.coder.variables(active.id) if active and source.template.variables() else []
        variables = chosen(source.template, given=source.variables, before=before)
        tags = dict(active.tags) if active else {}
        return Job(
            source=source,
            remote=remote,
            variables=variables,
            tags=tags,
            active=active,
            fingerprint=fingerprint(source, variables, tags),
        )

    def _skips(self, job: Job) -> bool:
        return job.unchanged and not self.force

    # -- importing --

    def _import_all(self, jobs: Sequence[Job], label: Label) -> dict[str, TemplateError]:
        """Import all, one after the other; returns what failed, by template."""
        failures: dict[str, TemplateError] = {}
        for job in jobs:
            try:
                with self.progress.phase(f"Importing {job.name}"):
                    self._importer.run(job, label)
            except HakimError as error:
                failures[job.name] = TemplateError(error.message, hint=error.hint)
                if self.all_or_nothing:
                    break
            except BaseException:
                self._importer.discard(jobs)
                raise
        return failures

    # -- activating --

    def _activate_all(self, jobs: Sequence[Job]) -> None:
        try:
            for job in jobs:
                with self.progress.phase(f"Activating {job.name}"):
                    self._activate(job)
        except BaseException as error:
            undone = self._undo(jobs)
            if not isinstance(error, HakimError):
                raise
            msg = f"{error.message} {undone}".strip()
            raise TemplateError(msg, hint=error.hint) from None

    def _activate(self, job: Job) -> None:
        assert job.version is not None  # noqa: S101 - imported before; narrows the type
        job.activated = True  # from here on it may be: also when no answer comes
        if job.remote is None:
            job.remote = self.coder.create_template(
                self.organization,
                name=job.name,
                version_id=job.version.id,
                about=_about(job.source.template),
            )
        else:
            self.coder.activate(job.remote, job.version.id)
        self._verify(job.name, job.version)

    def _verify(self, name: str, version: Version) -> None:
        found = self.coder.template(self.organization, name)
        if found is None or found.active_version_id != version.id:
            msg = f"Coder did not make '{version.name}' the active version of '{name}'."
            raise TemplateError(msg, hint="Did somebody else push at the same time? Run it again.")

    def _undo(self, jobs: Sequence[Job]) -> str:
        """Make the old versions active again; returns what a person has to know."""
        words = []
        for job in jobs:
            if not job.activated:
                continue
            try:
                self._undo_one(job)
                words.append(f"'{job.name}' is back to what it was.")
            except HakimError as error:
                words.append(f"'{job.name}' could not be set back: {error.message}")
        self._importer.discard(jobs)
        return " ".join(words)

    def _undo_one(self, job: Job) -> None:
        if job.active is not None and job.remote is not None:
            self.coder.activate(job.remote, job.active.id)
        else:
            created = self.coder.template(self.organization, job.name)
            if created is not None and job.version and created.active_version_id == job.version.id:
                self.coder.delete_template(created)


def _about(template: Template) -> dict[str, str]:
    """Return what the README says, cut to what Coder takes (a description of 127 bytes)."""
    matter = template.front_matter()
    names = ("display_name", "description", "icon")
    about: dict[str, str] = {name: matter[name] for name in names if name in matter}
    if "description" in about:
        about["description"] = about["description"].encode()[:127].decode(errors="ignore")
    return about


def _action(job: Job, changed: Sequence[Job], *, activate: bool) -> str:
    if job not in changed:
        return "unchanged"
    if not activate:
        return "pushed"
    return "activated" if job.active else "created"


def _failed(
    failures: Mapping[str, TemplateError], jobs: Sequence[Job], *, kept: bool
) -> TemplateError:
    first = next(iter(failures.values()))
    others = [job.name for job in jobs if job.name not in failures]
    parts = [error.message for error in failures.values()]
    if kept and others:
        parts.append(f"Nothing was activated, {', '.join(others)} neither.")
    return TemplateError(" ".join(parts), hint=first.hint)
