"""Users, tokens, roles and ACLs with Proxmox VE's rules, and the pveum lines that make them.

https://pve.proxmox.com/pve-docs/chapter-pveum.html
"""

import shlex
from dataclasses import dataclass, field

PRIVILEGES = frozenset(
    [
        "Datastore.Allocate",
        "Datastore.AllocateSpace",
        "Datastore.AllocateTemplate",
        "Datastore.Audit",
        "Sys.Audit",
        "Sys.Modify",
        "Sys.AccessNetwork",
        "Sys.Console",
        "Sys.Incoming",
        "Sys.PowerMgmt",
        "Sys.Syslog",
        "SDN.Allocate",
        "SDN.Audit",
        "SDN.Use",
        "Pool.Allocate",
        "Pool.Audit",
        "Mapping.Use",
        "Mapping.Audit",
        "VM.Allocate",
        "VM.Audit",
        "VM.Backup",
        "VM.Clone",
        "VM.Console",
        "VM.Migrate",
        "VM.PowerMgmt",
        "VM.Snapshot",
        "VM.Config.CDROM",
        "VM.Config.CPU",
        "VM.Config.Cloudinit",
        "VM.Config.Disk",
        "VM.Config.HWType",
        "VM.Config.Memory",
        "VM.Config.Network",
        "VM.Config.Options",
        "User.Modify",
        "Group.Allocate",
        "Realm.Allocate",
        "Permissions.Modify",
    ]
)
TOP = ("/", "/access", "/nodes", "/pool", "/sdn", "/storage", "/vms")


class AccessError(Exception):
    """A pveum line that the real program refuses too."""


@dataclass
class Token:
    secret: str
    privsep: bool = True
    expire: int = 0


@dataclass(frozen=True)
class Entry:
    path: str
    who: str
    role: str
    propagate: bool


@dataclass
class Access:
    roles: dict[str, frozenset[str]] = field(
        default_factory=lambda: {"Administrator": PRIVILEGES, "NoAccess": frozenset()}
    )
    users: set[str] = field(default_factory=lambda: {"root@pam"})
    tokens: dict[str, Token] = field(default_factory=dict)
    acl: list[Entry] = field(default_factory=list)

    def pveum(self, line: str) -> str:
        """Carry out one ``pveum`` line; returns what it prints (a token's secret)."""
        words = shlex.split(line, comments=True)
        if words[0] != "pveum":
            raise AccessError(line)
        options, plain = _options(words[1:])
        match plain:
            case ["role", "add", name]:
                self._add_role(name, options)
            case ["user", "add", user]:
                self.users.add(user)
            case ["user", "token", "add", user, name]:
                return self._add_token(user, name, options)
            case ["user", "token", "permissions", user, name]:
                return str(self.permissions(f"{user}!{name}"))
            case ["acl", "modify", path]:
                self._modify(path, options)
            case _:
                raise AccessError(line)
        return ""

    def grant(self, who: str, path: str, *privileges: str) -> None:
        """Give *privileges* on *path*, to a token and to its user."""
        role = "+".join((path, *privileges))
        self.roles[role] = frozenset(privileges)
        names = {who, who.split("!", maxsplit=1)[0]}
        self.users.add(who.split("!", maxsplit=1)[0])
        self.acl += [Entry(path, name, role, propagate=True) for name in names]

    def on(self, who: str, path: str) -> dict[str, bool]:
        """Return privilege → propagates of *who* on *path*; a token's are cut by its user's."""
        held = self._own(who, path)
        user = who.split("!", maxsplit=1)[0]
        if user != who:
            token = self.tokens[who]
            of_user = self._own(user, path)
            if not token.privsep:
                return of_user
            return {name: held[name] and of_user[name] for name in held if name in of_user}
        return held

    def permissions(self, who: str) -> dict[str, dict[str, int]]:
        """Return what GET /access/permissions does: only paths where something is allowed."""
        paths = sorted({*TOP, *(entry.path for entry in self.acl)})
        tree = {path: {n: int(p) for n, p in self.on(who, path).items()} for path in paths}
        return {path: privileges for path, privileges in tree.items() if privileges}

    def _own(self, who: str, path: str) -> dict[str, bool]:
        if who == "root@pam":
            return dict.fromkeys(PRIVILEGES, True)
        held: dict[str, bool] = {}
        parts = [part for part in path.split("/") if part]
        chain = ["/", *("/" + "/".join(parts[: n + 1]) for n in range(len(parts)))]
        for level in chain:
            entries = [
                e
                for e in self.acl
                if e.path == level and e.who == who and (e.propagate or level == path)
            ]
            if entries:  # what is set deeper replaces what was inherited
                held = {}
                for entry in entries:
                    for name in self.roles[entry.role]:
                        held[name] = held.get(name, False) or entry.propagate
        return held

    def _add_role(self, name: str, options: dict[str, str]) -> None:
        privileges = frozenset(options["privs"].replace(",", " ").split())
        if unknown := privileges - PRIVILEGES:
            msg = f"invalid privilege '{min(unknown)}'"
            raise AccessError(msg)
        if name in self.roles:
            msg = f"role '{name}' already exists"
            raise AccessError(msg)
        self.roles[name] = privileges

    def _add_token(self, user: str, name: str, options: dict[str, str]) -> str:
        if user not in self.users:
            msg = f"no such user ('{user}')"
            raise AccessError(msg)
        secret = f"5ec2e700-0000-4000-8000-{len(self.tokens):012d}"
        self.tokens[f"{user}!{name}"] = Token(
            secret,
            privsep=options.get("privsep", "1") == "1",
            expire=int(options.get("expire", "0")),
        )
        return secret

    def _modify(self, path: str, options: dict[str, str]) -> None:
        role = options["roles"]
        if role not in self.roles:
            msg = f"role '{role}' does not exist"
            raise AccessError(msg)
        for kind, known in (("users", self.users), ("tokens", self.tokens)):
            if kind in options:
                if options[kind] not in known:
                    msg = f"no such {kind[:-1]} '{options[kind]}'"
                    raise AccessError(msg)
                self.acl.append(
                    Entry(path, options[kind], role, options.get("propagate", "1") == "1")
                )


def _options(words: list[str]) -> tuple[dict[str, str], list[str]]:
    options, plain, rest = {}, [], iter(words)
    for word in rest:
        if word.startswith("--"):
            options[word[2:]] = next(rest)
        else:
            plain.append(word)
    return options, plain
