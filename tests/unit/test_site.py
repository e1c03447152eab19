"""The page: what is on it, that it stands alone, and that nothing in an index can take it over."""

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from fakes import publications
from fakes.publications import Made

from hakim_actions.cli.main import main
from hakim_actions.errors import ConfigurationError
from hakim_actions.index import Index
from hakim_actions.publish import chart, site
from hakim_actions.publish.consolidate import consolidate

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
_VOID = {"meta", "input", "br", "link", "img"}


class Page(HTMLParser):
    """Reads a page strictly: every element that is opened is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def index(tmp_path: Path, version: str, *variants: str, size: int = 1000) -> Index:
    made = Made(version=version, archive=b"x" * size)
    return consolidate([publications.write_all(tmp_path / version, *variants, base=made)]).index


@pytest.fixture
def releases(tmp_path: Path) -> list[Index]:
    return [
        index(tmp_path, "v1.0.0", "base", "php"),
        index(tmp_path, "v1.1.0", "base", "php", size=2000),
        index(tmp_path, "v1.2.0-rc.1", "base", "php", size=3000),
    ]


def test_every_release_image_and_package_is_on_it(releases: list[Index]) -> None:
    page = Page(site.render(releases))
    for word in ("v1.0.0", "v1.1.0", "v1.2.0-rc.1", "base", "php", "openssl", "3.5.1-1", "latest"):
        assert word in page.text


def test_the_latest_full_release_is_the_one_shown(releases: list[Index]) -> None:
    text = site.render(releases)
    assert "<b>v1.1.0</b><span>latest release</span>" in text
    assert 'href="v1.1.0/hakim-base-trixie-amd64.tar.xz"' in text
    assert "Since v1.0.0" in text


def test_without_a_full_release_the_newest_one_is_shown(releases: list[Index]) -> None:
    assert "<b>v1.2.0-rc.1</b>" in site.render(releases[2:])


def test_commands_have_the_url_and_the_checksum(releases: list[Index]) -> None:
    text = Page(site.render(releases, base_url="https://example.org/{version}")).text
    archive = releases[1].entries[0].archive
    assert f"--url https://example.org/v1.1.0/{archive.name}" in text
    assert f"--checksum-algorithm sha256 --checksum {archive.sha256}" in text


def test_it_needs_nothing_from_anywhere(releases: list[Index]) -> None:
    page = Page(site.render(releases))
    assert not page.all("link")
    assert not page.all("img")
    assert all("src" not in script for script in page.all("script"))
    policy = next(it["content"] or "" for it in page.all("meta") if "http-equiv" in it)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_without_scripts_only_what_needs_them_is_hidden(releases: list[Index]) -> None:
    page = Page(site.render(releases))
    assert [name for name, attributes in page.tags if "hidden" in attributes] == ["form"]
    assert not page.all("button"), "buttons that do nothing without scripts are made by the script"


def test_nothing_in_an_index_becomes_markup(releases: list[Index]) -> None:
    hostile = replace(
        releases[1],
        commit=EVIL,
        entries=tuple(
            replace(
                entry,
                variant=f"{EVIL}{entry.variant}",
                packages={EVIL: EVIL},
                tools={EVIL: EVIL},
                missing=(EVIL,),
            )
            for entry in releases[1].entries
        ),
    )
    page = Page(site.render([hostile, releases[0]], title=EVIL, base_url=f"https://x/{EVIL}/"))
    assert len(page.all("script")) == 1
    assert not page.all("img")


def test_it_is_the_same_whatever_the_order(releases: list[Index]) -> None:
    assert site.render(releases) == site.render(reversed(releases))


def test_no_release_is_no_page() -> None:
    with pytest.raises(ConfigurationError, match="no release"):
        site.render([])


class TestChart:
    def test_is_well_formed_and_has_a_line_a_variant(self, releases: list[Index]) -> None:
        svg = re.search(r"<svg.*</svg>", chart.figure(releases, pair=("trixie", "amd64")))
        assert svg is not None
        tree = ET.fromstring(svg[0])  # noqa: S314 - our own
        assert len(tree.findall(".//polyline")) == 2
        assert len(tree.findall(".//circle")) == 6

    def test_larger_is_higher_and_within_the_picture(self, releases: list[Index]) -> None:
        svg = chart.figure(releases, pair=("trixie", "amd64"))
        (points, _) = re.findall(r'points="([^"]*)"', svg)
        heights = [float(point.split(",")[1]) for point in points.split()]
        assert heights == sorted(heights, reverse=True)
        assert all(0 < height < 340 for height in heights)

    def test_names_at_the_end_do_not_cover_each_other(self, tmp_path: Path) -> None:
        many = index(tmp_path, "v1.0.0", "base", "php", "js", "rust", "elixir", "dotnet")
        svg = chart.figure([many, many], pair=("trixie", "amd64"))
        places = sorted(float(y) for y in re.findall(r'class="name" x="[^"]*" y="([^"]*)"', svg))
        assert len(places) == 6
        assert all(later - earlier >= 14 for earlier, later in pairwise(places))

    @pytest.mark.parametrize("size", [1, 9, 10, 123, 999_999, 262_000_000, 10_000_000_000])
    def test_any_size_has_a_readable_scale(self, tmp_path: Path, size: int) -> None:
        one = index(tmp_path, "v1.0.0")
        (entry,) = one.entries
        archive = replace(entry.archive, size=size)
        entry = replace(entry, files={**entry.files, "archive": archive})
        svg = chart.figure([replace(one, entries=(entry,))], pair=("trixie", "amd64"))
        assert 2 <= svg.count('class="grid"') <= 12

    def test_the_usual_pair_wins_a_tie(self, tmp_path: Path) -> None:
        for release, arch in (("bookworm", "arm64"), ("trixie", "amd64"), ("trixie", "arm64")):
            publications.write(tmp_path, Made(release=release, arch=arch))
        assert chart.shown_pair(consolidate([tmp_path]).index) == ("trixie", "amd64")


class TestCommand:
    def test_writes_the_page(
        self, tmp_path: Path, releases: list[Index], capsys: pytest.CaptureFixture[str]
    ) -> None:
        paths = []
        for release in releases:
            paths.append(tmp_path / f"{release.version}.json")
            paths[-1].write_text(release.to_json())
        output = tmp_path / "made/index.html"
        assert main(["site", *map(str, paths), "-o", str(output), "--title", "Ours"], {}) == 0
        assert "<title>Ours</title>" in output.read_text()
        assert "3 releases" in capsys.readouterr().out

    def test_refuses_what_is_no_index(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "a.json").write_text(json.dumps({"schema": 9}))
        assert main(["site", str(tmp_path / "a.json"), "-o", str(tmp_path / "p.html")], {}) == 5
        assert not (tmp_path / "p.html").exists()
        assert "a.json" in capsys.readouterr().err
