"""npm and pip as they are set up on this machine: which registry, which mirror, which proxy.

No registry is named in the project; whoever builds says it once, to the clients themselves.
"""

import json
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from hakim_actions.errors import BuildError
from hakim_actions.system import process
from hakim_actions.system.http import Http, HttpError

#: What npm calls an architecture: https://nodejs.org/api/process.html#processarch
NPM_CPU: Final = {"amd64": "x64", "arm64": "arm64"}
#: How the clients' own settings begin in the environment, in any case.
_PREFIXES: Final = ("npm_config_", "pip_")
#: What npm says with EINTEGRITY.
_WRONG: Final = re.compile(r"wanted (\S+) but got (\S+?)\.?(?:\s|$)")


class UnavailableError(BuildError):
    """A tool cannot be had from here: what ``--allow-missing`` is for."""


class MismatchError(BuildError):
    """Something else came than what is pinned; nothing excuses that."""

    def __init__(self, source: str, *, found: object, expected: object) -> None:
        """Name *source* and both values."""
        super().__init__(
            f"{source} has {found}, expected {expected}.",
            hint="It is not what was pinned; nothing was installed. See 'hakim-actions tools "
            "update' once you know why.",
        )


class Registries:
    """Asks npm and pip; may be used by threads. Every method raises UnavailableError."""

    def __init__(self, http: Http, env: Mapping[str, str]) -> None:
        """Use *http* for what registries answer, and the clients that are on the PATH of *env*."""
        self._http = http
        self._env = env
        self._lock = threading.Lock()
        self._registries: dict[str, str] = {}

    def npm_registry(self, package: str) -> str:
        """Return the registry that the npm client is set up to take *package* from."""
        scope = package.partition("/")[0] if package.startswith("@") else ""
        with self._lock:
            if scope not in self._registries:
                keys = [f"{scope}:registry"] if scope else []
                found = [self._npm_config(key) for key in (*keys, "registry")]
                self._registries[scope] = next(url for url in found if url).rstrip("/")
            return self._registries[scope]

    def _npm_config(self, key: str) -> str:
        said = self._client(["npm", "config", "get", key], what=f"npm's setting '{key}'").strip()
        return "" if said == "undefined" else said

    def npm_release(self, package: str, version: str) -> Mapping[str, str]:
        """Return ``dist`` of a release (tarball, integrity) and its ``version``.

        *version* may be a tag, such as ``latest``.
        """
        path = package.replace("/", "%2F")
        url = f"{self.npm_registry(package)}/{path}/{version}"
        try:
            document = self._http.get(url).json()
            dist = document["dist"]
            return {
                "version": str(document["version"]),
                "tarball": str(dist["tarball"]),
                "integrity": str(dist["integrity"]),
            }
        except HttpError as error:
            raise UnavailableError(error.message, hint=error.hint) from None
        except (KeyError, TypeError):
            msg = f"{url} did not answer as a registry of npm does."
            raise UnavailableError(msg, hint="Is 'npm config get registry' right?") from None

    def npm_newest(self, wanted: str) -> Mapping[str, str]:
        """Return ``version`` and ``integrity`` of the newest release that *wanted* allows.

        *wanted* is what npm takes: a name, ``@`` and a range.
        """
        command = ["npm", "view", wanted, "version", "dist.integrity", "--json"]
        said = self._client(command, what=f"{wanted} from npm's registry")
        try:
            found = json.loads(said)
            releases = [
                {"version": str(item["version"]), "integrity": str(item["dist.integrity"])}
                for item in (found if isinstance(found, list) else [found])
                if "-" not in str(item["version"])  # a version before the release
            ]
            return max(releases, key=lambda release: _numbers(release["version"]))
        except (ValueError, KeyError, TypeError):
            msg = f"npm's registry has no release of {wanted}."
            raise UnavailableError(msg, hint="Is 'npm config get registry' right?") from None

    def pip_download(self, requirement: str, platform: str, target: Path) -> Path:
        """Let pip download the wheel of *requirement* for *platform* into *target*."""
        options = ["--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--quiet"]
        command = ["pip", "download", *options, "--platform", platform, "--dest", str(target)]
        self._client([*command, requirement], what=f"{requirement} from pip's index")
        wheels = list(target.glob("*.whl"))
        if len(wheels) != 1:
            msg = f"pip left {len(wheels)} wheels for {requirement}."
            raise UnavailableError(msg, hint="Try the same command by hand: " + " ".join(command))
        return wheels[0]

    def _client(self, command: list[str], *, what: str, cwd: Path | None = None) -> str:
        """Run npm or pip with the user's settings for them."""
        extra = {k: v for k, v in self._env.items() if k.lower().startswith(_PREFIXES)}
        environment = process.child_environment(self._env, extra)
        try:
            return process.run(command, env=environment, timeout=1800, cwd=cwd).stdout
        except process.ProcessError as error:
            if wrong := _WRONG.search(" ".join(error.tail)):
                raise MismatchError(what, found=wrong[2], expected=wrong[1]) from None
            msg = f"{what} could not be had: {error.message}"
            raise UnavailableError(msg, hint=error.hint) from None

    def npm_ci(self, work: Path, *, arch: str, what: str) -> None:
        """Make ``node_modules`` in *work* from its lock file, for *arch*; no script is run.

        *what* names it in errors. npm checks every package against the lock file.
        """
        options = ["--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund"]
        system = ["--os=linux", f"--cpu={NPM_CPU[arch]}", "--libc=glibc"]
        command = ["npm", "ci", "--loglevel=error", *options, *system]
        self._client(command, what=what, cwd=work)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.partition("+")[0].split(".")]
