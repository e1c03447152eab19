"""The how-to pages are true: their commands work, and the printed plan is the printed plan."""

import os
import re
import shlex
from pathlib import Path

import pytest
from fakes.certificates import make_certificate
from fakes.promotions import Site, publish, site
from fakes.proxmox import FakeProxmox, Node, Storage, serving_files

DOCS = Path(__file__).resolve().parents[2] / "docs" / "how-to"
PLAN = re.compile(r"(<!-- plan: .*? -->\n```text\n)(.*?)(```\n<!-- end of plan -->)", re.DOTALL)


def _blocks(page: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL)


def test_the_token_page_followed_line_by_line_makes_a_token_that_promotes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate, key = make_certificate(tmp_path)
    fake = FakeProxmox(
        root=tmp_path / "pve",
        certificate=certificate,
        key=key,
        nodes={"pve1": Node("pve1"), "pve2": Node("pve2")},
        storages={"local-lvm": Storage("local-lvm", content="rootdir")},
    )
    secrets = {}
    for line in "".join(_blocks("proxmox-token.md")).splitlines():
        if line.startswith("pvesm"):
            fake.pvesm(line)
            continue
        printed = fake.access.pveum(line)
        words = shlex.split(line)
        if words[1:4] == ["user", "token", "add"]:
            secrets[f"{words[4]}!{words[5]}"] = printed
    identity = "hakim-promote@pve!ci"
    with fake:
        here = Site(fake, tmp_path, f"{identity}={secrets[identity]}")
        folder = here.release("v1")
        assert here.run("doctor", "proxmox", "--storage", "hakim-tmpl") == 0
        assert "pveum" not in capsys.readouterr().out
        assert here.promote(folder, "--storage", "hakim-tmpl") == 0
        assert here.run("prune", "--keep", "1", "--yes", "--storage", "hakim-tmpl") == 0
        # Nothing beyond: not the other storage, and nothing for the token of the workspaces.
        assert fake.access.on(identity, "/storage/local-lvm") == {}
        assert fake.access.on(identity, "/vms") == {}
        reader = set(fake.access.on("coder@pve!tf", "/storage/hakim-tmpl"))
        assert reader == {"Datastore.Audit"}


def _printed_plan(here: Site, public: Path, capsys: pytest.CaptureFixture[str]) -> str:
    fake = here.fake
    fake.storages["hakim-tmpl"] = Storage("hakim-tmpl")
    rights = ("Datastore.AllocateTemplate", "Datastore.Audit")
    fake.access.grant("hakim@pve!ci", "/storage/hakim-tmpl", *rights)
    for node in ("pve1", "pve2"):
        fake.access.grant("hakim@pve!ci", f"/nodes/{node}", "Sys.AccessNetwork", "Sys.Audit")
    fake.access.grant("hakim@pve!ci", "/nodes/pve3", "Sys.Audit")
    fake.nodes["pve3"].container = "6.1.0"
    variants = ("base", "php")
    publish(public / "v1.1.0", "v1.1.0", variants=variants, size=180_000_000 // 1000)
    publish(public / "v1.2.0", "v1.2.0", variants=variants, size=190_000_000 // 1000)
    with serving_files(public) as url:
        options = ("--storage", "hakim-tmpl")
        here.run("promote", "--from", f"{url}v1.1.0/index.json", "--node", "pve2", *options)
        capsys.readouterr()
        here.run("promote", "--from", f"{url}v1.2.0/index.json", "--plan", *options)
        printed = capsys.readouterr().out
        public_url = "https://github.com/owner/name/releases/download/"
        return printed.replace(url, public_url).replace(fake.url, "https://pve1.example:8006")


def test_the_plan_in_the_docs_is_what_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with site(tmp_path, nodes=("pve1", "pve2", "pve3")) as here:
        printed = _printed_plan(here, tmp_path / "public", capsys)
    page = DOCS / "promote.md"
    text = page.read_text(encoding="utf-8")
    fresh = PLAN.sub(lambda match: match[1] + printed + match[3], text)
    if os.environ.get("UPDATE_DOCS"):
        page.write_text(fresh, encoding="utf-8")
    assert text == fresh, "Run the test once with UPDATE_DOCS=1 and look at the difference."
