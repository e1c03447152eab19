"""What doctor looks at to tell whether this machine can build and boot images."""

import os
from collections.abc import Iterable, Mapping

from hakim_actions.debian import ARCHITECTURES, DEFAULT_ARCH, DEFAULT_RELEASE
from hakim_actions.image import cache, preflight
from hakim_actions.system.finding import Finding
from hakim_actions.system.process import is_installed


def findings(env: Mapping[str, str]) -> Iterable[Finding]:
    """Yield root, programs, keyring and disk, for the newest release of this machine."""
    root = os.geteuid() == 0 or is_installed("sudo", env=env)
    fix = () if root else ("run as root, or install sudo",)
    yield Finding(check="root", ok=root, detail="root, or sudo to become it", fix=fix)
    native = (a.name for a in ARCHITECTURES.values() if a.kernel_name == os.uname().machine)
    yield from preflight.findings(
        variants=["php"],
        release=DEFAULT_RELEASE,
        arch=next(native, DEFAULT_ARCH),
        work_dir=cache.DEFAULT_FOLDER,
        env=env,
    )
