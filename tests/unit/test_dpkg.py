"""What dpkg's status file says about packages, and what they need."""

import pytest

from hakim_actions.image import dpkg

STATUS = """\
Package: bash
Essential: yes
Priority: required
Pre-Depends: libc6 (>= 2.36), libtinfo6
Status: install ok installed

Package: libc6
Priority: optional
Depends: libgcc-s1
Status: install ok installed

Package: libtinfo6
Priority: optional

Package: libgcc-s1
Depends: libc6

Package: mawk
Priority: required

Package: git
Depends: libc6 (>= 2.38), perl:any, less | pager, httpd-cgi [amd64]

Package: perl
Depends: perl-base (= 5.40.1-6)

Package: busybox
Provides: less (= 1), pager, editor

Package: nginx
Provides: httpd-cgi

Package: vim
Depends: libc6
"""


@pytest.mark.parametrize(
    ("names", "more"),
    [
        ([], set()),
        (["perl"], {"perl"}),
        (["git"], {"git", "perl", "busybox", "nginx"}),
        (["vim", "vim"], {"vim"}),
        (["editor"], {"busybox"}),
        (["not-installed"], set()),
    ],
)
def test_what_is_needed(names: list[str], more: set[str]) -> None:
    """Always what is essential or required; then alternatives and what provides a name count."""
    always = {"bash", "libc6", "libtinfo6", "libgcc-s1", "mawk"}

    assert dpkg.needed(STATUS, names) == always | more


def test_nothing_is_needed_where_nothing_is_installed() -> None:
    assert dpkg.needed("", ["git"]) == frozenset()
