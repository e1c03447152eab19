"""Every kind of source, fetched through its real client from servers on this machine."""

import base64
import functools
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import yaml

from hakim_actions.artifact import ArtifactName
from hakim_actions.errors import BuildError
from hakim_actions.image import tools, toolsupdate
from hakim_actions.image.toolslock import Lock
from hakim_actions.system.http import Http

NAME = ArtifactName("js", "trixie", "amd64")
TARBALL = "package.tgz"


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def send_head(self) -> Any:  # %2F in the name of a scoped package is no folder
        self.path = self.path.replace("%2F", "/").replace("%2f", "/")
        return super().send_head()


class Site:
    """A folder and the address it is served at."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url

    def put(self, path: str, data: bytes) -> str:
        """Serve *data* and return its URL."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        return f"{self.url}/{path}"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    folder = tmp_path / "site"
    folder.mkdir()
    handler = functools.partial(_Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Site(folder, f"http://127.0.0.1:{server.server_address[1]}")
        server.shutdown()


@pytest.fixture
def env(tmp_path: Path, site: Site) -> Mapping[str, str]:
    """Return the environment of a site whose npm and pip know only our servers."""
    home = tmp_path / "home"
    home.mkdir()
    kept = {key: os.environ[key] for key in ("PATH", "TMPDIR") if key in os.environ}
    return {
        **kept,
        "HOME": str(home),
        "NPM_CONFIG_REGISTRY": f"{site.url}/npm",
        "NPM_CONFIG_CACHE": str(home / "npm"),
        "PIP_INDEX_URL": f"{site.url}/simple/",
        "PIP_CONFIG_FILE": os.devnull,
    }


def stage(tmp_path: Path, env: Mapping[str, str], **entry: Any) -> tools.Staged:
    lock = tmp_path / "tools.lock"
    document = {"schema": 1, "tools": {"tool": {"version": "1.0.0", "variants": "all", **entry}}}
    lock.write_text(yaml.safe_dump(document, sort_keys=False))
    return tools.stage(
        tools.load(lock).for_target(NAME),
        into=tmp_path,
        cache=tmp_path / "cache",
        env=env,
        http=Http(attempts=1),
    )


def read(staged: tools.Staged, path: str) -> bytes:
    with tarfile.open(staged.tar) as tar:
        stream = tar.extractfile(f"./{path}")
        assert stream is not None
        return stream.read()


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


def tarball(files: Mapping[str, bytes]) -> bytes:
    stream = BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755
            tar.addfile(info, BytesIO(data))
    return stream.getvalue()


def integrity(data: bytes) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()


def publish(site: Site, name: str, version: str, files: Mapping[str, bytes]) -> str:
    """Serve an npm package and return its integrity."""
    manifest = json.dumps({"name": name, "version": version}).encode()
    data = tarball({"package/package.json": manifest, **files})
    url = site.put(f"files/{name}-{version}.tgz", data)
    release = {
        "name": name,
        "version": version,
        "dist": {"tarball": url, "integrity": integrity(data)},
    }
    # The document of the package is what stands at its name; a release is below it. A folder and
    # a file cannot share a name, so the folder's index.html is the former.
    document = {"name": name, "dist-tags": {"latest": version}, "versions": {version: release}}
    site.put(f"npm/{name}/index.html", json.dumps(document).encode())
    site.put(f"npm/{name}/{version}", json.dumps(release).encode())
    return integrity(data)


def test_url(tmp_path: Path, site: Site, env: Mapping[str, str]) -> None:
    data = tarball({"tool-1.0.0/bin/tool": b"program"})
    url = site.put("releases/tool-1.0.0.tar.gz", data)
    staged = stage(
        tmp_path,
        env,
        kind="url",
        strip=1,
        any={
            "url": url.replace("1.0.0", "{version}"),
            "sha256": hashlib.sha256(data).hexdigest(),
        },
        put={"bin/tool": "/usr/local/bin/tool"},
    )

    assert read(staged, "usr/local/bin/tool") == b"program"


@needs("npm")
def test_npm_resolves_through_the_registry_it_is_set_up_with(
    tmp_path: Path, site: Site, env: Mapping[str, str]
) -> None:
    pin = publish(site, "@scope/tool", "1.0.0", {"package/bin/tool": b"program"})
    staged = stage(
        tmp_path,
        env,
        kind="npm",
        any={"package": "@scope/tool", "integrity": pin},
        put={"bin/tool": "/usr/local/bin/tool"},
    )

    assert read(staged, "usr/local/bin/tool") == b"program"


@needs("npm")
def test_another_package_than_the_pinned_one_is_refused(
    tmp_path: Path, site: Site, env: Mapping[str, str]
) -> None:
    found = publish(site, "tool", "1.0.0", {"package/bin/tool": b"evil"})
    wanted = integrity(b"what was pinned")

    with pytest.raises(BuildError) as caught:
        stage(
            tmp_path,
            env,
            kind="npm",
            any={"package": "tool", "integrity": wanted},
            put={"bin/tool": "/usr/local/bin/tool"},
        )

    assert f"tool 1.0.0 (npm) has {found}, expected {wanted}" in caught.value.message
    assert not (tmp_path / "tools.tar").exists()


def tree(folder: Path, pin: str, ran: Path) -> dict[str, Any]:
    """Write a lock file of npm for one package, with scripts that must not run."""
    folder.mkdir()
    root = {"name": "root", "version": "1.0.0", "dependencies": {"leaf": "1.0.0"}}
    scripts = {"preinstall": f"touch {ran}", "install": f"touch {ran}"}
    (folder / "package.json").write_text(json.dumps({**root, "scripts": scripts}))
    packages = {"": root, "node_modules/leaf": {"version": "1.0.0", "integrity": pin}}
    (folder / "package-lock.json").write_text(
        json.dumps({**root, "lockfileVersion": 3, "requires": True, "packages": packages})
    )
    return {
        "kind": "npm",
        "strip": 0,
        "any": {"package": "leaf", "lockfile": folder.name},
        "put": {".": "/usr/local/lib/tool/node_modules"},
    }


@needs("npm")
def test_npm_makes_a_tree_from_a_lock_file_and_runs_no_script(
    tmp_path: Path, site: Site, env: Mapping[str, str]
) -> None:
    pin = publish(site, "leaf", "1.0.0", {"package/index.js": b"module.exports = 1"})
    ran = tmp_path / "script-ran"
    staged = stage(tmp_path, env, **tree(tmp_path / "tree", pin, ran))

    assert read(staged, "usr/local/lib/tool/node_modules/leaf/index.js") == b"module.exports = 1"
    assert not ran.exists()


@needs("npm")
def test_a_tree_with_another_package_than_the_pinned_one_is_refused(
    tmp_path: Path, site: Site, env: Mapping[str, str]
) -> None:
    found = publish(site, "leaf", "1.0.0", {"package/index.js": b"evil"})
    wanted = integrity(b"what was pinned")

    with pytest.raises(BuildError) as caught:
        stage(tmp_path, env, **tree(tmp_path / "tree", wanted, tmp_path / "ran"))

    assert f"leaf 1.0.0 (npm) has {found}, expected {wanted}" in caught.value.message


def wheel(version: str) -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(f"tool-{version}.data/scripts/tool", b"program")
        info = f"tool-{version}.dist-info"
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tool\nVersion: {version}\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-manylinux_2_17_x86_64\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return stream.getvalue()


def offer(site: Site, *versions: str) -> list[str]:
    """Serve wheels through a simple index and return their sha256."""
    links, sums = [], []
    for version in versions:
        data = wheel(version)
        name = f"tool-{version}-py3-none-manylinux_2_17_x86_64.whl"
        site.put(f"wheels/{name}", data)
        links.append(f'<a href="{site.url}/wheels/{name}">{name}</a>')
        sums.append(hashlib.sha256(data).hexdigest())
    page = f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>"
    site.put("simple/tool/index.html", page.encode())
    return sums


PYPI = {
    "kind": "pypi",
    "put": {"tool-{version}.data/scripts/tool": "/usr/local/bin/tool"},
}


@needs("pip")
def test_pypi_resolves_through_the_index_that_pip_is_set_up_with(
    tmp_path: Path, site: Site, env: Mapping[str, str]
) -> None:
    old, _ = offer(site, "1.0.0", "1.1.0")
    source = {"package": "tool", "platform": "manylinux_2_17_x86_64", "sha256": old}
    staged = stage(tmp_path, env, any=source, **PYPI)

    assert read(staged, "usr/local/bin/tool") == b"program"


@needs("pip", "npm")
def test_update_pins_the_newest_and_leaves_every_other_line(
    tmp_path: Path, site: Site, env: Mapping[str, str]
) -> None:
    old, new = offer(site, "1.0.0", "1.1.0")
    pin = publish(site, "bun", "1.4.0", {"package/bun": b"new"})
    text = f"""# A comment that stays.
schema: 1
tools:
  uv:
    version: "1.0.0" # so does this
    kind: pypi
    variants: all
    amd64:
      package: tool
      platform: manylinux_2_17_x86_64
      sha256: {old}
    put: {{tool: /usr/local/bin/tool}}

  bun:
    version: 1.3.0
    kind: npm
    variants: [js]
    any:
      package: bun
      unpinned: not asked yet
    put:
      bun: /usr/local/bin/bun
  other:
    version: 1.0.0
    kind: npm
    variants: all
    any: {{package: gone, unpinned: nobody has it}}
    put: {{.: /opt/other}}
"""
    path = tmp_path / "tools.lock"
    path.write_text(text)
    lock = Lock.load(path)
    with Http(attempts=1) as client:
        result = toolsupdate.update(lock, names=list(lock.tools), http=client, env=env)

    expected = (
        text.replace('"1.0.0" # so', '"1.1.0" # so')
        .replace(old, new)
        .replace("version: 1.3.0", "version: 1.4.0")
        .replace("unpinned: not asked yet", f"integrity: {pin}")
    )
    assert result.text == expected
    assert [str(change) for change in result.changes] == [
        f"uv (amd64): 1.0.0 -> 1.1.0, sha256 {old} -> sha256 {new}",
        f"bun (any): 1.3.0 -> 1.4.0, no pin -> {pin}",
    ]
    assert len(result.problems) == 1
    assert result.problems[0].startswith("other: ")
    path.write_text(result.text)
    assert Lock.load(path).tool("bun").sources["any"].unpinned == ""


def gpg(home: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    command = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--pinentry-mode", "loopback"]
    done = subprocess.run(
        [*command, "--passphrase", "", *arguments], input=stdin, capture_output=True, check=True
    )
    return done.stdout


class Repository:
    """A signed apt repository with one package."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.home = folder / "gnupg"
        self.home.mkdir(mode=0o700)
        gpg(self.home, "--quick-generate-key", "Vendor <v@example.com>", "ed25519", "sign", "never")
        listed = gpg(self.home, "--with-colons", "--list-keys").decode()
        self.fingerprint = next(
            line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr")
        )
        self.key = site.put("vendor/key.asc", gpg(self.home, "--armor", "--export"))
        self.url = f"{site.url}/vendor"
        deb = self._deb(folder)
        site.put("vendor/pool/vendor-sdk_9.0_all.deb", deb)
        packages = (
            "Package: vendor-sdk\nVersion: 9.0\nArchitecture: all\n"
            "Maintainer: Vendor <v@example.com>\nDescription: An SDK\n"
            f"Filename: pool/vendor-sdk_9.0_all.deb\nSize: {len(deb)}\n"
            f"SHA256: {hashlib.sha256(deb).hexdigest()}\n"
        ).encode()
        site.put("vendor/dists/trixie/main/binary-amd64/Packages", packages)
        release = (
            "Suite: trixie\nCodename: trixie\nArchitectures: amd64\nComponents: main\n"
            "Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n"
            f" {hashlib.sha256(packages).hexdigest()} {len(packages)} main/binary-amd64/Packages\n"
        ).encode()
        signed = gpg(self.home, "--clearsign", stdin=release)
        site.put("vendor/dists/trixie/InRelease", signed)

    @staticmethod
    def _deb(folder: Path) -> bytes:
        root = folder / "deb"
        (root / "DEBIAN").mkdir(parents=True)
        (root / "usr/share/vendor").mkdir(parents=True)
        (root / "usr/share/vendor/sdk").write_text("sdk 9.0\n")
        (root / "DEBIAN/control").write_text(
            "Package: vendor-sdk\nVersion: 9.0\nArchitecture: all\n"
            "Maintainer: Vendor <v@example.com>\nDescription: An SDK\n"
        )
        target = folder / "vendor-sdk.deb"
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "--build", str(root), str(target)],
            check=True,
            capture_output=True,
        )
        return target.read_bytes()

    def entry(self, **changes: str) -> dict[str, Any]:
        source = {
            "url": self.url,
            "suite": "trixie",
            "components": ["main"],
            "packages": ["vendor-sdk"],
            "key": self.key,
            "fingerprint": self.fingerprint,
            **changes,
        }
        return {"kind": "apt-repo", "any": source}


@pytest.fixture
def repository(site: Site, tmp_path: Path) -> Iterator[Repository]:
    made = Repository(site, tmp_path)
    yield made
    subprocess.run(["gpgconf", "--homedir", str(made.home), "--kill", "all"], check=False)


class Apt:
    """apt with a root of its own, which has the overlay and nothing else."""

    def __init__(self, root: Path, staged: tools.Staged) -> None:
        self.root = root
        for folder in (
            "var/lib/apt/lists/partial",
            "var/cache/apt/archives/partial",
            "var/lib/dpkg",
        ):
            (root / folder).mkdir(parents=True)
        (root / "var/lib/dpkg/status").touch()
        subprocess.run(["tar", "-xf", str(staged.tar), "-C", str(root)], check=True)
        vendor = root / "usr/local/lib/hakim-build/vendor"
        sources = root / "etc/apt/sources.list.d"
        sources.mkdir(parents=True, exist_ok=True)
        text = (vendor / "tool.sources").read_text()
        keyring = text.partition("Signed-By: ")[2].strip()
        # apt reads Signed-By as a path of this machine.
        (sources / "tool.sources").write_text(text.replace(keyring, f"{root}{keyring}"))
        self.packages = (vendor / "tool.packages").read_text().split()
        self.address = (vendor / "tool.address").read_text().strip()

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        options = {
            "Dir": str(self.root),
            "Dir::State::status": str(self.root / "var/lib/dpkg/status"),
            "Dir::Bin::methods": "/usr/lib/apt/methods",
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
        }
        command = ["apt-get", *(f"-o{key}={value}" for key, value in options.items()), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.root)


APT = needs("apt-get", "dpkg-deb", "gpg", "gpgconf")


@APT
def test_apt_takes_packages_of_a_repository_whose_key_is_pinned(
    tmp_path: Path, env: Mapping[str, str], repository: Repository
) -> None:
    apt = Apt(tmp_path / "root", stage(tmp_path, env, **repository.entry()))

    assert apt.address == repository.url
    updated = apt("update", "--error-on=any")
    assert updated.returncode == 0, updated.stderr
    assert apt("download", *apt.packages).returncode == 0
    assert list(apt.root.glob("vendor-sdk_*.deb"))


@APT
def test_apt_refuses_what_another_key_signed(
    tmp_path: Path, site: Site, env: Mapping[str, str], repository: Repository
) -> None:
    apt = Apt(tmp_path / "root", stage(tmp_path, env, **repository.entry()))
    (tmp_path / "other").mkdir()
    gpg_home = tmp_path / "other/gnupg"
    gpg_home.mkdir(mode=0o700)
    gpg(gpg_home, "--quick-generate-key", "Evil <e@example.com>", "ed25519", "sign", "never")
    release = (site.folder / "vendor/dists/trixie/InRelease").read_bytes()
    plain = gpg(repository.home, "--decrypt", stdin=release)
    site.put("vendor/dists/trixie/InRelease", gpg(gpg_home, "--clearsign", stdin=plain))
    subprocess.run(["gpgconf", "--homedir", str(gpg_home), "--kill", "all"], check=False)

    assert apt("update", "--error-on=any").returncode != 0


@APT
def test_apt_says_which_package_does_not_exist(
    tmp_path: Path, env: Mapping[str, str], repository: Repository
) -> None:
    entry = repository.entry()
    entry["any"]["packages"] = ["vendor-skd"]
    apt = Apt(tmp_path / "root", stage(tmp_path, env, **entry))
    apt("update")

    assert "E: Unable to locate package vendor-skd" in apt("install", *apt.packages).stderr


@APT
def test_a_key_with_another_fingerprint_is_refused(
    tmp_path: Path, env: Mapping[str, str], repository: Repository
) -> None:
    with pytest.raises(BuildError) as caught:
        stage(tmp_path, env, **repository.entry(fingerprint="AB" * 20))

    assert f"{repository.key} has the fingerprint {repository.fingerprint}" in caught.value.message
    assert f"expected {'AB' * 20}" in caught.value.message
    assert not (tmp_path / "tools.tar").exists()


@APT
def test_a_file_that_is_no_key_is_refused(
    tmp_path: Path, site: Site, env: Mapping[str, str], repository: Repository
) -> None:
    site.put("vendor/key.asc", b"<html>Please log in</html>")

    with pytest.raises(BuildError, match="has the fingerprint no key"):
        stage(tmp_path, env, **repository.entry())


@APT
def test_a_mirror_serves_the_build_and_the_image_keeps_the_vendor(
    tmp_path: Path, env: Mapping[str, str], repository: Repository
) -> None:
    lock = tmp_path / "tools.lock"
    entry = {
        "version": "9",
        "variants": "all",
        **repository.entry(url="https://vendor.example/deb"),
    }
    lock.write_text(yaml.safe_dump({"schema": 1, "tools": {"tool": entry}}))
    staged = tools.stage(
        tools.load(lock).for_target(NAME),
        into=tmp_path,
        cache=tmp_path / "cache",
        env=env,
        mirrors={"https://vendor.example/deb": repository.url},
    )
    apt = Apt(tmp_path / "root", staged)

    assert apt.address == "https://vendor.example/deb"
    assert apt("update", "--error-on=any").returncode == 0
