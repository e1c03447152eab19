"""A small project that breaks no rule of lint, and what breaks each rule of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

POST_UNPACK: Final = """#!/bin/bash
set -euo pipefail
echo prepared
"""

GOOD: Final = {
    "distrobuilder/hakim.yaml": """\
image:
  distribution: debian
  variant: base
source:
  downloader: debootstrap
packages:
  manager: apt
  sets:
    - action: install
      packages:
        - curl
        - git

        - bat # another block
    - action: install
      early: true
      packages:
        - git
    - action: install
      releases: [trixie]
      architectures: [amd64]
      packages:
        - eza
    - action: install
      releases: [bookworm]
      packages:
        - eza
    - action: install
      variants: [rust]
      flags: [--no-install-recommends]
      packages:
        - lld
files:
  - generator: dump
    path: /etc/motd
    variants: [rust]
    content: See https://wiki.debian.org/Rust
actions:
  - trigger: post-unpack
    action: |
      #!/bin/bash
      set -euo pipefail
      echo prepared
  - trigger: post-files
    pongo: true
    action: |-
      #!/bin/sh
      set -eu
      echo {{ image.variant }}
""",
    "distrobuilder/variants.yaml": """\
schema: 1
variants:
  base:
    title: Base
    description: Just Debian
    icon: /icon/debian.svg
    preset: {name: Base, parameters: {}}
    modules: []
    releases: [trixie, bookworm]
    architectures: [amd64, arm64]
    checks: []
  rust:
    title: Rust
    description: Rust
    icon: /icon/rust.svg
    preset: {name: Rust, parameters: {}}
    modules: []
    releases: [trixie]
    architectures: [amd64]
    checks: []
""",
    "distrobuilder/tools.lock": """\
schema: 1
tools:
  cargo-nextest:
    variants: [rust]
  bun:
    variants: all-but-base
""",
    "distrobuilder/scripts/actions/post-unpack.sh": POST_UNPACK,
    "distrobuilder/scripts/actions/post-packages.sh": """\
#!/bin/bash
set -euo pipefail
install_rust_stack() {
  echo rust
}
install_rust_stack
""",
    "scripts/with-no-suffix": "#!/usr/bin/env bash\necho hello\n",
    "coder/modules/workspace/main.tf": """\
locals {
  rust = local.variant == "rust" || contains(["base", "rust"], local.variant)
  variant_env = {
    rust = { CARGO_HOME = "/home/coder/.cargo" }
  }
}

data "coder_parameter" "image_variant" {
  option {
    name  = "Custom"
    value = "custom"
  }
}
""",
    "coder/templates/hakim/main.tf": """\
locals {
  # local.variant == "cobol" in a comment names nothing.
  variants = yamldecode(file("variants.yaml")).variants
}
""",
    ".github/workflows/ci.yml": f"""\
on: push
permissions: {{}}
jobs:
  test:
    runs-on: ubuntu-24.04
    timeout-minutes: 10
    steps:
      - uses: actions/checkout@{"0" * 40} # v5
      - uses: ./build
      - uses: hakim/actions/build@v1
      - uses: docker://debian@sha256:{"0" * 64}
  called:
    uses: ./.github/workflows/other.yml
""",
    "build/action.yml": """\
name: build
runs:
  using: composite
  steps:
    - run: echo hello
      shell: bash
""",
    "README.md": """\
<!-- variants: zig -->
`hakim-rust-trixie-amd64.tar.xz`, `--variant rust`, `--variant zig`, hakim-<variant>-trixie-amd64

| variant | size |
|---|---|
| `base` | 1 |
| **rust** | 2 |

| tool | size |
|---|---|
| cobol | 1 |
""",
}


@dataclass(frozen=True)
class Fixture:
    """An edit of one file of GOOD that breaks one rule, and the line where the rule must say so.

    *line* is a text that only that line of the edited file has.
    """

    rule: str
    file: str
    old: str
    new: str
    line: str
    found: str
    hint: str = ""
    #: The file that the rule names, where it is not the edited one.
    at: str = ""

    def __str__(self) -> str:
        """Return what pytest calls the case."""
        return f"{self.rule}-{self.found}".replace(" ", "-").replace("/", "-")


YAML: Final = "distrobuilder/hakim.yaml"
VARIANTS: Final = "distrobuilder/variants.yaml"
SCRIPT: Final = "distrobuilder/scripts/actions/post-packages.sh"
MODULE: Final = "coder/modules/workspace/main.tf"
WORKFLOW: Final = ".github/workflows/ci.yml"

#: A variant that only variants.yaml knows.
GO: Final = """\
  go:
    title: Go
    description: Go
    icon: /icon/go.svg
    preset: {name: Go, parameters: {}}
    modules: []
    releases: [trixie]
    architectures: [amd64]
    checks: []
"""

BROKEN: Final = (
    Fixture(
        "yaml-syntax",
        WORKFLOW,
        "on: push",
        "on: push: tag",
        "on: push: tag",
        "mapping",
    ),
    Fixture(
        "yaml-unique-keys",
        YAML,
        "  variant: base\n",
        "  variant: base\n  variant: js\n",
        "  variant: js",
        "'variant' again",
    ),
    Fixture(
        "yaml-unique-keys",
        VARIANTS,
        "  rust:\n    title: Rust",
        "  base: {}\n  rust:\n    title: Rust",
        "base: {}",
        "'base' again",
    ),
    Fixture(
        "catalog-valid",
        VARIANTS,
        "    title: Rust\n",
        "    titel: Rust\n    title: R\n",
        "titel",
        "unknown key 'titel'",
        "Did you mean 'title'?",
    ),
    Fixture(
        "catalog-valid",
        VARIANTS,
        "title: Rust",
        "title: 7",
        "title: 7",
        "expected a text",
    ),
    Fixture(
        "catalog-valid",
        VARIANTS,
        "schema: 1",
        "schema: 2",
        "schema: 2",
        "found 2",
    ),
    Fixture(
        "catalog-valid",
        VARIANTS,
        "title: Rust",
        "title: !text Rust",
        "!text",
        "!text",
    ),
    Fixture(
        "stack-functions-known",
        SCRIPT,
        "install_rust_stack",
        "install_rsut_stack",
        "install_rsut_stack()",
        "install_rsut_stack",
        "Did you mean 'rust'?",
    ),
    Fixture(
        "tools-lock-variants",
        "distrobuilder/tools.lock",
        "[rust]",
        "[rust, ruts]",
        "ruts",
        "variants: ruts",
        "Did you mean 'rust'?",
    ),
    Fixture(
        "tools-lock-variants",
        "distrobuilder/tools.lock",
        "all-but-base",
        "al-but-base",
        "al-but",
        "al-but-base",
        "Did you mean 'all-but-base'?",
    ),
    Fixture(
        "definition-keys",
        YAML,
        "  downloader:",
        "  downlaoder:",
        "downlaoder",
        "'downlaoder' in source",
        "Did you mean 'downloader'?",
    ),
    Fixture(
        "definition-keys",
        YAML,
        "  - action: install\n      variants",
        "  - actoin: install\n      variants",
        "actoin",
        "'actoin' in packages.sets",
        "Did you mean 'action'?",
    ),
    Fixture(
        "definition-valid",
        YAML,
        "downloader: debootstrap",
        "downloader: nothing",
        "downloader: nothing",
        "source.downloader must be one of",
    ),
    Fixture(
        "filters-known-variants",
        YAML,
        "    variants: [rust]\n    content",
        "    variants: [rust, rsut]\n    content",
        "rsut",
        "'rsut'",
        "Did you mean 'rust'?",
    ),
    Fixture(
        "filters-known-releases",
        YAML,
        "releases: [bookworm]",
        "releases: [bookwrom]",
        "bookwrom",
        "'bookwrom'",
        "Did you mean 'bookworm'?",
    ),
    Fixture(
        "filters-known-architectures", YAML, "[amd64]", "[x86_64]", "x86_64", "'x86_64'", "amd64"
    ),
    Fixture(
        "embedded-post-unpack",
        YAML,
        "      echo prepared",
        "      echo ready",
        "echo ready",
        "echo ready",
        "line 3",
    ),
    Fixture(
        "package-names",
        YAML,
        "- lld",
        "- LLD",
        "LLD",
        "package 'LLD'",
    ),
    Fixture(
        "packages-once",
        YAML,
        "- lld",
        "- git\n        - lld",
        "- git\n        - lld",
        "'git' again",
    ),
    Fixture(
        "variant-packages-apart",
        YAML,
        "      flags: [--no-install-recommends]\n",
        "",
        "- action: install\n      variants: [rust]",
        "with flags: [], as other sets have",
    ),
    Fixture(
        "variant-packages-apart",
        YAML,
        "        - lld\n",
        "        - lld\n    - {action: install, packages: [zip]}\n",
        "- action: install\n      variants: [rust]",
        "above a set for all variants",
    ),
    Fixture(
        "packages-sorted",
        YAML,
        "- curl\n        - git",
        "- git\n        - curl",
        "- curl",
        "'curl' after 'git'",
    ),
    Fixture(
        "no-mirror-host",
        YAML,
        "wiki.debian.org/Rust",
        "example.com/debian/ or so",
        "example.com",
        "https://example.com/debian",
    ),
    Fixture(
        "no-mirror-host",
        YAML,
        "  downloader:",
        "  url: http://example.com\n  downloader:",
        "example.com",
        "source.url",
    ),
    Fixture(
        "no-secrets",
        "README.md",
        "| tool |",
        "ghp_" + 36 * "x" + "\n\n| tool |",
        "xxx",
        "a token of GitHub",
    ),
    Fixture(
        "no-secrets",
        SCRIPT,
        "echo rust",
        "echo https://me:hunter2@example.com",
        "hunter2",
        "a password in a URL",
    ),
    Fixture(
        "bash-syntax",
        "scripts/with-no-suffix",
        "echo hello",
        "true\necho )",
        "echo )",
        "syntax error",
    ),
    Fixture(
        "shellcheck",
        SCRIPT,
        "  echo rust",
        "  local word='a b'\n  echo $word",
        "echo $word",
        "SC2086",
    ),
    Fixture(
        "shellcheck",
        YAML,
        "      set -eu\n",
        "      set -eu\n      cd /tmp/$1\n",
        "cd /tmp/$1",
        "SC2086",
    ),
    Fixture(
        "terraform-fmt", MODULE, 'value = "custom"', 'value  =  "custom"', "  =  ", "value  =  "
    ),
    Fixture(
        "templates-have-variants",
        "coder/templates/hakim/variants.yaml",
        "",
        "variants: {}\n",
        "yamldecode",
        "differs",
        "ln -s",
        at="coder/templates/hakim/main.tf",
    ),
    Fixture(
        "templates-known-variants",
        MODULE,
        'local.variant == "rust"',
        'local.variant == "rsut"',
        "rsut",
        "'rsut'",
        "Did you mean 'rust'?",
    ),
    Fixture(
        "templates-known-variants", MODULE, '["base", "rust"]', '["base", "rsut"]', "rsut", "'rsut'"
    ),
    Fixture(
        "templates-known-variants",
        MODULE,
        "    rust = {",
        "    rsut = {",
        "rsut",
        "'rsut'",
    ),
    Fixture(
        "templates-offer-all-variants",
        MODULE,
        "  option {",
        '  option {\n    value = "base"\n  }\n  option {',
        '"image_variant"',
        "rust",
    ),
    Fixture(
        "uses-pinned",
        WORKFLOW,
        f"actions/checkout@{'0' * 40}",
        "actions/checkout@v5",
        "checkout@v5",
        "actions/checkout@v5",
        "ls-remote",
    ),
    Fixture(
        "uses-pinned",
        "build/action.yml",
        "run: echo hello",
        "uses: docker://debian:13",
        "debian:13",
        "docker://debian:13",
    ),
    Fixture(
        "jobs-time-out",
        WORKFLOW,
        "    timeout-minutes: 10\n",
        "",
        "  test:",
        "job 'test'",
    ),
    Fixture(
        "workflow-permissions",
        WORKFLOW,
        "permissions: {}\n",
        "",
        "on: push",
        "permissions",
    ),
    Fixture(
        "docs-known-variants",
        "README.md",
        "--variant rust",
        "--variant rsut",
        "rsut",
        "'rsut'",
        "Did you mean 'rust'?",
    ),
    Fixture(
        "docs-known-variants",
        "README.md",
        "**rust**",
        "**cobalt**",
        "cobalt",
        "'cobalt'",
    ),
    Fixture(
        "variant-has-content",
        VARIANTS,
        "  rust:\n",
        GO + "  rust:\n",
        "  go:",
        "'go' has nothing of its own",
        "packages: []",
    ),
)


def write(root: Path, *fixtures: Fixture) -> Path:
    """Write GOOD with the edits of *fixtures* below *root* and return it."""
    files = dict(GOOD)
    for fixture in fixtures:
        before = files.get(fixture.file, "")
        assert fixture.old in before
        files[fixture.file] = before.replace(fixture.old, fixture.new)
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    link = root / "coder/templates/hakim/variants.yaml"
    if not link.exists():
        link.symlink_to("../../../distrobuilder/variants.yaml")
    return root
