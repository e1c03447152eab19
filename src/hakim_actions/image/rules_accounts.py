"""Rules about the accounts in an image: who is there, who may do what, who has a password."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hakim_actions.image import passwords
from hakim_actions.image.rootfs import Rootfs
from hakim_actions.image.rules import Finding, Image, rule, some
from hakim_actions.image.tarreader import Kind

USER: Final = "coder"
USER_ID: Final = 1000
HOME: Final = f"home/{USER}"
#: The first password of root; whoever provisions a container replaces it.
BOOTSTRAP_PASSWORD: Final = "password"  # noqa: S105 - known to everybody
PROJECT: Final = f"{HOME}/project"

_BASH: Final = frozenset({"/bin/bash", "/usr/bin/bash"})
#: What /etc/passwd has where the password is in /etc/shadow, or there is none.
_ELSEWHERE: Final = frozenset({"x", "*", "!"})
_WITHOUT_PASSWORD: Final = "NOPASSWD:ALL"  # noqa: S105 - sudo's tag


@dataclass(frozen=True)
class _Account:
    name: str
    password: str
    uid: str
    gid: str
    home: str
    shell: str


@rule(
    "user-coder",
    f"There is a user {USER} with id {USER_ID}, bash and a home",
    why="The Coder agent and everything in a workspace run as this user; volumes carry its id.",
)
def _user(image: Image) -> Iterator[Finding]:
    account = _accounts(image.rootfs).get(USER)
    if account is None:
        yield Finding(f"no user {USER} in /etc/passwd", f"{USER}, {USER_ID}")
        return
    ids = f"{account.uid}:{account.gid}"
    if ids != f"{USER_ID}:{USER_ID}":
        yield Finding(f"{USER} has the ids {ids}", f"{USER_ID}:{USER_ID}")
    if account.home != f"/{HOME}":
        yield Finding(f"{USER} has the home {account.home}", f"/{HOME}")
    if account.shell not in _BASH:
        yield Finding(f"{USER} has the shell {account.shell}", "/bin/bash")


@rule(
    "project-folder",
    f"/{PROJECT} is there and belongs to {USER}",
    why="Workspaces start in it and clone into it.",
)
def _project(image: Image) -> Iterator[Finding]:
    for path in (HOME, PROJECT):
        member = image.rootfs.members.get(path)
        if member is None or member.kind is not Kind.DIRECTORY:
            yield Finding(f"/{path} is {member.kind.value if member else 'missing'}", "a directory")
        elif (member.uid, member.gid) != (USER_ID, USER_ID):
            yield Finding(f"/{path} belongs to {member.uid}:{member.gid}", f"{USER_ID}:{USER_ID}")


@rule(
    "sudo-without-password",
    f"{USER} may use sudo without a password",
    why="The user has no password, so sudo could never be used otherwise.",
)
def _sudo(image: Image) -> Iterator[Finding]:
    rootfs = image.rootfs
    groups = {f"%{name}" for name in _groups(rootfs)}
    files = ["etc/sudoers", *(p for p in rootfs.below("etc/sudoers.d") if _read_by_sudo(p))]
    lines = [line for path in files for line in (rootfs.text(path) or "").splitlines()]
    if "sudo" not in image.packages:
        yield Finding("no package sudo", "sudo installed")
    elif not any(_grants(line, {USER, *groups}) for line in lines):
        yield Finding(
            f"no rule for {USER} in /etc/sudoers.d", f"{USER} ALL=(ALL) {_WITHOUT_PASSWORD}"
        )


@rule(
    "sudoers-protected",
    "What sudo reads belongs to root, and only root can write it",
    why="sudo refuses to run with anything else, and whoever can write it is root.",
)
def _sudoers(image: Image) -> Iterator[Finding]:
    paths = ["etc/sudoers", "etc/sudoers.d", *image.rootfs.below("etc/sudoers.d")]
    members = {path: image.rootfs.members[path] for path in paths if path in image.rootfs.members}
    names = [
        f"{path} ({member.uid}, {member.mode:04o})"
        for path, member in members.items()
        if member.uid != 0 or member.mode & 0o022
    ]
    if names:
        yield Finding(some(names), "owner 0 and mode 0440")


def _read_by_sudo(path: str) -> bool:
    """Tell whether sudo reads *path*: not with a dot in its name or a tilde at its end."""
    name = path.rpartition("/")[2]
    return "." not in name and not name.endswith("~")


def _grants(line: str, who: set[str]) -> bool:
    words = line.partition("#")[0].split(None, 1)
    return (
        len(words) == 2
        and words[0] in who
        and words[1].replace(" ", "").endswith(_WITHOUT_PASSWORD)
    )


@rule(
    "root-password",
    f"root has the password '{BOOTSTRAP_PASSWORD}' on trixie, and none on other releases",
    why="Where Proxmox sets no credentials this is the only way in; elsewhere it would be a hole.",
)
def _root_password(image: Image) -> Iterator[Finding]:
    found = _passwords(image.rootfs).get("root")
    if found is None:
        yield Finding("no root in /etc/shadow", "root")
    elif not image.release.bootstrap_password:
        if not _is_locked(found):
            yield Finding("root has a password", "a locked one (* or !)")
    elif not passwords.is_hash(found):
        yield Finding("root has no password", "the bootstrap password")
    elif passwords.matches(BOOTSTRAP_PASSWORD, found) is False:
        yield Finding("root has another password", f"the bootstrap password '{BOOTSTRAP_PASSWORD}'")


@rule(
    "accounts-locked",
    "No account but root has a password, and none an empty one",
    why="A password in an image is known to everybody who has the image.",
)
def _locked(image: Image) -> Iterator[Finding]:
    found = _passwords(image.rootfs)
    names = [n for n, password in found.items() if n != "root" and not _is_locked(password)]
    names += [a.name for a in _accounts(image.rootfs).values() if a.password not in _ELSEWHERE]
    if names:
        yield Finding(f"{some(sorted(set(names)))} with a password", "* or ! in /etc/shadow")


def _is_locked(password: str) -> bool:
    return password.startswith(("*", "!"))


def _accounts(rootfs: Rootfs) -> dict[str, _Account]:
    found = {}
    for line in (rootfs.text("etc/passwd") or "").splitlines():
        parts = line.split(":")
        if len(parts) == 7:
            name, password, uid, gid, _, home, shell = parts
            found[name] = _Account(name, password, uid, gid, home, shell)
    return found


def _passwords(rootfs: Rootfs) -> dict[str, str]:
    lines = (rootfs.text("etc/shadow") or "").splitlines()
    return {parts[0]: parts[1] for line in lines if len(parts := line.split(":")) >= 2}


def _groups(rootfs: Rootfs) -> set[str]:
    """Return the names of the groups that the user is a member of."""
    lines = (rootfs.text("etc/group") or "").splitlines()
    rows = [line.split(":") for line in lines]
    return {row[0] for row in rows if len(row) == 4 and USER in row[3].split(",")}
