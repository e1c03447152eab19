"""Every target, whichever there are: found by its file, documented, and careful with secrets."""

from pathlib import Path

import pytest

from hakim_actions.cli.main import main
from hakim_actions.errors import ConfigurationError
from hakim_actions.publish import base, targets
from hakim_actions.publish.base import Settings

DOCS = Path(__file__).parents[2] / "docs"
SECRET = "very-secret"  # noqa: S105 - nobody's
PLACES = {"registry": "ghcr.io/acme"}


def test_the_targets_are_the_files() -> None:
    (folder,) = targets.__path__
    assert set(base.target_names()) == {path.stem for path in Path(folder).glob("[!_]*.py")}
    assert base.DEFAULT_TARGET in base.target_names()


@pytest.mark.parametrize("name", base.target_names())
class TestEachTarget:
    def test_has_all_methods(self, name: str) -> None:
        target = base.open_target(name, Settings(to=PLACES.get(name, "acme/images"), token=SECRET))
        for method in ("plan", "publish", "previous", "base_url", "generated_notes"):
            assert callable(getattr(target, method))
        assert SECRET not in repr(target)

    @pytest.mark.parametrize("page", ["how-to/publish.md", "reference/publish.md"])
    def test_is_documented(self, name: str, page: str) -> None:
        known = {"github": "GitHub", "directory": "folder"}
        assert known.get(name, name) in (DOCS / page).read_text(encoding="utf-8")

    def test_is_offered(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["publish", "--help"], {}) == 0
        assert name in capsys.readouterr().out


def test_an_unknown_target_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", "--target", "ftp"], {}) == 2
    assert "ftp" in capsys.readouterr().err


def test_a_token_can_come_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    token = tmp_path / "token"
    token.write_text(f"{SECRET}\n")
    argv = ["publish", str(tmp_path), "--target", "github", "--to", "acme/images"]
    assert main([*argv, "--token-file", str(token)], {}) == 5, "the token is taken, the folder not"
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err


def test_no_secret_is_an_option() -> None:
    from hakim_actions.cli.publish import command  # noqa: PLC0415

    names = {parameter.name for parameter in command.params}
    assert not names & {"token", "password", "secret"}


@pytest.mark.parametrize("name", ["github", "registry"])
def test_no_place_at_all(name: str) -> None:
    with pytest.raises(ConfigurationError, match="No "):
        base.open_target(name, Settings())
