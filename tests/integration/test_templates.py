"""Both templates with the real engine and providers: validated, and planned in all combinations."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from terraform.bed import ROOT, Bed, Stack, copy_template, opened, workspace_environment

from hakim_actions.cli.main import main

VARIANTS = yaml.safe_load((ROOT / "distrobuilder/variants.yaml").read_text())["variants"]
PROXMOX = {
    "TF_VAR_proxmox_endpoint": "https://pve.example.com:8006/",
    "TF_VAR_proxmox_api_token": "coder@pve!tf=secret",
}
TOKEN_SHA = "a" * 64


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with opened(tmp_path_factory.mktemp("bed")) as made:
        yield made


def initialized(bed: Bed, name: str, folder: Path) -> Path:
    copy = copy_template(name, folder)
    Stack(bed, copy, bed.environment()).init()
    return copy


@pytest.fixture(scope="module")
def proxmox_folder(bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return initialized(bed, "hakim-proxmox", tmp_path_factory.mktemp("proxmox"))


@pytest.fixture(scope="module")
def docker_folder(bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return initialized(bed, "hakim", tmp_path_factory.mktemp("docker"))


@pytest.fixture
def proxmox(bed: Bed, proxmox_folder: Path) -> Stack:
    return Stack(bed, proxmox_folder, bed.environment(**workspace_environment(), **PROXMOX))


@pytest.fixture
def docker(bed: Bed, docker_folder: Path) -> Stack:
    return Stack(bed, docker_folder, bed.environment(**workspace_environment()))


def test_both_templates_pass_validation_and_their_own_tests(
    bed: Bed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate-templates", "--ignore-lock"], bed.environment()) == 0
    said = capsys.readouterr().out
    for name in ("hakim", "hakim-proxmox"):
        assert f"{name}: fmt, init and validate" in said
        assert f"{name}: Success!" in said


@pytest.mark.parametrize("transition", ["start", "stop"])
@pytest.mark.parametrize("home_disk", ["true", "false"])
@pytest.mark.parametrize("release", ["trixie", "bookworm"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_proxmox_plan(
    variant: str, release: str, home_disk: str, transition: str, proxmox: Stack
) -> None:
    proxmox.parameters = {
        "image_variant": variant,
        "template_release": release,
        "enable_home_disk": home_disk,
    }
    env = {"CODER_WORKSPACE_TRANSITION": transition}
    if release not in VARIANTS[variant]["releases"]:
        assert "There is no image of the variant" in proxmox.refusal(**env)
        return
    planned = proxmox.planned(**env)
    container = planned["proxmox_virtual_environment_container.workspace"]
    assert container["operating_system"] == [
        {
            "template_file_id": f"local:vztmpl/hakim-{variant}-{release}-amd64.tar.xz",
            "type": "unmanaged" if release == "trixie" else "debian",
        }
    ]
    assert container["unprivileged"]
    assert not container["start_on_boot"]
    assert not container["features"]
    assert container["started"] == (transition == "start")
    assert ("proxmox_virtual_environment_container.home[0]" in planned) == (home_disk == "true")
    assert ("terraform_data.bootstrap[0]" in planned) == (transition == "start")
    assert ("module.workspace.module.openchamber[0].coder_app.web" in planned) == (
        transition == "start" and "openchamber" in VARIANTS[variant]["modules"]
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_docker_plan(variant: str, docker: Stack) -> None:
    docker.parameters = {"image_variant": variant}
    planned = docker.planned()
    container = planned["docker_container.workspace[0]"]
    assert container["image"] == f"ghcr.io/hakim/hakim-{variant}:latest"
    assert planned["docker_volume.home"]["name"].startswith("coder-6c1b8a0e")


def test_docker_stop_keeps_the_volume(docker: Stack) -> None:
    planned = docker.planned(CODER_WORKSPACE_TRANSITION="stop")
    assert "docker_volume.home" in planned
    assert not any(address.startswith("docker_container") for address in planned)


@pytest.mark.parametrize(
    ("variable", "ostype"),
    [("debian", "debian"), ("unmanaged", "unmanaged"), ("auto", "unmanaged")],
)
def test_ostype_can_be_chosen(variable: str, ostype: str, proxmox: Stack) -> None:
    planned = proxmox.planned(TF_VAR_container_ostype=variable)
    container = planned["proxmox_virtual_environment_container.workspace"]
    assert container["operating_system"][0]["type"] == ostype
    password = container["initialization"][0]["user_account"][0]["password"]
    assert (password == "password") == (ostype == "unmanaged")  # noqa: S105 - the image's own


def release(**image: str) -> str:
    known = {
        "variant": "base",
        "release": "trixie",
        "arch": "amd64",
        "sha256": TOKEN_SHA,
        "image": "",
    }
    url = "https://example.com/v1/hakim-base-trixie-amd64.tar.xz"
    return json.dumps({"version": "v1", "images": [{**known, "url": url, **image}]})


def test_release_gives_urls_with_their_checksum(bed: Bed, tmp_path: Path) -> None:
    folder = copy_template("hakim-proxmox", tmp_path)
    (folder / "release.json").write_text(release())
    stack = Stack(bed, folder, bed.environment(**workspace_environment(), **PROXMOX))
    stack.init()
    planned = stack.planned()
    container = planned["proxmox_virtual_environment_container.workspace"]
    name = f"hakim-base-trixie-amd64_{TOKEN_SHA[:16]}.tar.xz"
    assert container["operating_system"][0]["template_file_id"] == f"local:vztmpl/{name}"
    assert "terraform_data.template[0]" in planned
    # The default is for trixie; another release must not get its file.
    stack.parameters = {"template_release": "bookworm"}
    container = stack.planned()["proxmox_virtual_environment_container.workspace"]
    assert container["operating_system"][0]["template_file_id"].endswith("bookworm-amd64.tar.xz")


def test_docker_takes_the_image_of_the_release_by_digest(bed: Bed, tmp_path: Path) -> None:
    image = "ghcr.io/o/hakim-base@sha256:" + "b" * 64
    folder = copy_template("hakim", tmp_path)
    (folder / "release.json").write_text(release(image=image))
    stack = Stack(bed, folder, bed.environment(**workspace_environment()))
    stack.init()
    assert stack.planned()["docker_container.workspace[0]"]["image"] == image


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"rebuild_generation": "1"}, "a rebuild would delete /home/coder"),
        ({"image_variant": "custom"}, "needs a template file"),
        ({"proxmox_vm_id": "7"}, "100 and above"),
        ({"egress_mode": "airgapped"}, "proxmox_network_firewall"),
        ({"template_url_base": "https://example.com/a.tar.xz"}, "#sha256="),
        ({"user_env": "[1]"}, "must be JSON objects of texts"),
        ({"secret_env": '{"A B": "x"}'}, "must be JSON objects of texts"),
        ({"opencode_auth": "nonsense"}, "auth_json must be a JSON object"),
        ({"opencode_config": "[]"}, "config_json must be a JSON object"),
        ({"git_url": "ext::sh -c evil"}, "Expected a URL"),
        ({"proxmox_ssh_private_key": "KEY"}, "needs its public half"),
        ({"proxmox_extra_ssh_public_keys": "rm -rf"}, "Expected public keys"),
        (
            {"enable_home_disk": "true", "proxmox_home_volume_id": "/etc"},
            "Expected a volume such as",
        ),
        (
            {"enable_home_disk": "true", "proxmox_home_volume_id": "local-lvm:vm-1-disk-1,ro=0"},
            "Expected a volume such as",
        ),
        ({"container_disk_gb": "4"}, "less than the minimum"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_wrong_parameters_are_refused(
    parameters: dict[str, str], says: str, proxmox: Stack
) -> None:
    proxmox.parameters = parameters
    assert says in proxmox.refusal()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("proxmox_endpoint", "http://pve:8006/"),
        ("proxmox_api_token", "secret"),
        ("proxmox_vlan_id", "5000"),
        ("container_ostype", "ubuntu"),
        ("proxmox_egress_cidrs", '["10.0.0"]'),
    ],
)
def test_wrong_variables_are_refused(variable: str, value: str, proxmox: Stack) -> None:
    assert f"{variable} must" in proxmox.refusal(**{f"TF_VAR_{variable}": value})


def test_disk_never_shrinks(proxmox: Stack) -> None:
    proxmox.parameters, proxmox.previous = {"container_disk_gb": "20"}, {"container_disk_gb": "30"}
    assert "must be equal or greater than previous value: 30" in proxmox.refusal()


def test_modules_open_only_where_they_belong(proxmox: Stack) -> None:
    opened_by = {
        "git_url": "https://example.com/owner/repo.git",
        "enable_vault": "true",
        "enable_openclaw_node": "true",
        "openclaw_bridge_host": "gateway.example.com",
    }
    proxmox.parameters = {"image_variant": "php", **opened_by}
    planned = proxmox.planned()
    script = planned["module.workspace.module.opencode[0].coder_script.start"]["script"]
    assert "L2hvbWUvY29kZXIvcHJvamVjdC9yZXBv" in script, "OpenCode works in the clone"
    assert "module.workspace.module.openclaw_node[0].coder_script.start" in planned
    proxmox.parameters = {"image_variant": "base", **opened_by}
    assert not any("openclaw" in address for address in proxmox.planned())


def test_task_gets_both_prompts_and_its_app(docker: Stack) -> None:
    docker.parameters = {"system_prompt": "Be kind."}
    task = {"CODER_TASK_ID": "6c1b8a0e-0000-4000-8000-000000000009", "CODER_TASK_PROMPT": "Fix it."}
    planned = docker.planned(**task)
    assert "module.workspace.coder_ai_task.opencode[0]" in planned
    script = planned["module.workspace.module.opencode[0].coder_script.start"]["script"]
    assert "QmUga2luZC4KCkZpeCBpdC4=" in script


def test_secrets_are_in_no_script(docker: Stack) -> None:
    """A script stands in the arguments of a process, where every user can read it."""
    docker.parameters = {
        "image_variant": "php",
        "opencode_auth": '{"a": "s3cret-auth"}',
        "openchamber_ui_password": "s3cret-ui",
        "secret_env": '{"KEY": "s3cret-env"}',
        "enable_openclaw_node": "true",
        "openclaw_bridge_host": "gateway",
        "openclaw_gateway_token": "s3cret-token",
    }
    planned = docker.planned()
    scripts = "".join(
        values["script"] + str(values.get("command", ""))
        for address, values in planned.items()
        if ".coder_script." in address
    )
    assert scripts
    assert "s3cret" not in scripts
    assert "czNjcmV0" not in scripts, "not in base64 either"


def test_elixir_keeps_its_packages_at_home(docker: Stack) -> None:
    docker.parameters = {"image_variant": "elixir"}
    env = docker.planned()["module.workspace.coder_agent.main"]["env"]
    assert env["MIX_HOME"] == "/home/coder/.mix"
    assert env["HEX_HOME"] == "/home/coder/.hex"


def test_egress_is_filtered_outside_of_the_container(proxmox: Stack) -> None:
    proxmox.parameters = {"egress_mode": "restricted"}
    env = {
        "TF_VAR_proxmox_network_firewall": "true",
        "TF_VAR_proxmox_egress_cidrs": '["10.9.0.0/24"]',
    }
    planned = proxmox.planned(**env)
    options = planned["proxmox_virtual_environment_firewall_options.workspace[0]"]
    assert options["output_policy"] == "DROP"
    rules = planned["proxmox_virtual_environment_firewall_rules.workspace[0]"]["rule"]
    assert rules[0]["dest"] == "10.9.0.0/24"
    assert {rule["dport"] for rule in rules} >= {"53", "22,80,443"}


# -- the interface: names, types, defaults, and what can be changed --

#: Parameters of both templates: name → (type, default, mutable). The gitconfig is ours to write.
COMMON = {
    "image_variant": ("string", "base", False),
    "git_url": ("string", "", True),
    "opencode_auth": ("string", "{}", True),
    "opencode_config": ("string", "{}", True),
    "openchamber_ui_password": ("string", "", True),
    "system_prompt": ("string", "", True),
    "user_env": ("string", "{}", True),
    "secret_env": ("string", "{}", True),
    "enable_vault": ("bool", "false", False),
    "preview_port": ("number", "3000", True),
    "setup_script": ("string", "", False),
    "enable_openclaw_node": ("bool", "false", False),
    "git_user_name": ("string", "", True),
    "git_user_email": ("string", "", True),
    "git_credential_helper": ("string", "store", True),
}
#: Those that are only asked when they matter.
CONDITIONAL = {
    "vault_addr": ("string", "http://vault:8200", True),
    "vault_github_auth_id": ("string", "", True),
    "openclaw_bridge_host": ("string", "", True),
    "openclaw_bridge_port": ("number", "18790", True),
    "openclaw_bridge_tls": ("bool", "false", False),
    "openclaw_bridge_tls_fingerprint": ("string", "", True),
    "openclaw_gateway_ws_url": ("string", "", True),
    "openclaw_gateway_token": ("string", "", True),
}
PROXMOX_ONLY = {
    "proxmox_vm_id": ("number", "0", True),
    "container_memory_mb": ("number", "4096", True),
    "container_cores": ("number", "2", True),
    "container_disk_gb": ("number", "20", True),
    "enable_home_disk": ("bool", "false", False),
    "enable_nesting": ("bool", "false", False),
    "egress_mode": ("string", "open", False),
    "proxmox_ssh_private_key": ("string", "", True),
    "proxmox_extra_ssh_public_keys": ("string", "", True),
    "template_release": ("string", "trixie", True),
    "template_arch": ("string", "amd64", True),
    **{f"template_url_{variant}": ("string", "", True) for variant in VARIANTS},
}
PROXMOX_CONDITIONAL = {
    "home_disk_gb": ("number", "30", True),
    "proxmox_home_datastore_id": ("string", "", True),
    "proxmox_home_volume_id": ("string", "", True),
}
DOCKER_ONLY = {"enable_resource_limits": ("bool", "false", False)}
DOCKER_CONDITIONAL = {
    "container_memory": ("number", "0", True),
    "container_cpus": ("string", "0", True),
}
OURS = {"rebuild_generation", "git_global_gitconfig"}
OPENED = {"enable_vault": "true", "enable_openclaw_node": "true"}


def interface(stack: Stack) -> dict[str, tuple[str, str, bool]]:
    asked = stack.parameters_asked()
    assert all(v["optional"] for v in asked.values()), "nobody has to fill anything in"
    return {
        name: (values["type"], values["default"] or "", values["mutable"])
        for name, values in asked.items()
        if name not in OURS
    }


def test_interface_of_the_proxmox_template(proxmox: Stack) -> None:
    assert interface(proxmox) == {**COMMON, **PROXMOX_ONLY}
    proxmox.parameters = {**OPENED, "enable_home_disk": "true"}
    every = {**COMMON, **PROXMOX_ONLY, **CONDITIONAL, **PROXMOX_CONDITIONAL}
    assert interface(proxmox) == every


def test_interface_of_the_docker_template(docker: Stack) -> None:
    assert interface(docker) == {**COMMON, **DOCKER_ONLY}
    docker.parameters = {**OPENED, "enable_resource_limits": "true", "image_variant": "custom"}
    docker.parameters["image_url"] = "docker.io/library/debian:trixie"
    every = {**COMMON, **DOCKER_ONLY, **CONDITIONAL, **DOCKER_CONDITIONAL}
    assert interface(docker) == {**every, "image_url": ("string", "", True)}


def test_every_variant_is_an_option_and_a_preset(docker: Stack) -> None:
    options = [o["value"] for o in docker.parameters_asked()["image_variant"]["option"]]
    assert options == [*sorted(VARIANTS), "custom"]
    masked = {
        n for n, v in docker.parameters_asked().items() if "mask_input" in (v["styling"] or "")
    }
    assert masked == {"opencode_auth", "openchamber_ui_password", "secret_env"}
