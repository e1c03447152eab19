"""The page in a real browser: it renders, its search works, and it reads without scripts."""

import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from fakes import publications
from fakes.publications import Made

from hakim_actions.publish import site
from hakim_actions.publish.consolidate import consolidate

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
_QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=2000",
]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    indexes = []
    for number, version in enumerate(["v1.0.0", "v1.1.0", "v1.2.0"]):
        made = Made(version=version, archive=b"x" * 1000 * (number + 1))
        out = publications.write_all(tmp_path / version, "base", "php", "rust", base=made)
        indexes.append(consolidate([out]).index)
    path = tmp_path / "index.html"
    path.write_text(site.render(indexes))
    return path


def browse(page: Path, *options: str, fragment: str = "") -> str:
    """Open *page* and return the document as it is after its script ran."""
    argv = [str(CHROMIUM), *_QUIET, f"--user-data-dir={page.parent / 'profile'}", *options]
    done = subprocess.run(
        [*argv, f"file://{page}{fragment}"], capture_output=True, text=True, timeout=120, check=True
    )
    assert "Refused to" not in done.stderr, "the page breaks its own policy"
    return done.stdout


def rows(document: str) -> dict[str, bool]:
    """Return the packages with whether they are shown."""
    section = document.partition('id="packages"')[2].partition("</section>")[0]
    found = re.findall(r"<tr( hidden[^>]*)?><td>([^<]+)</td>", section)
    return {name: not hidden for hidden, name in found}


def test_the_search_shows_what_matches(page: Path) -> None:
    document = browse(page, "--dump-dom", fragment="#q=openssl")
    assert rows(document) == {"bash": False, "libc6": False, "openssl": True}
    assert "1 of 3" in document
    assert not re.search(r"<form[^>]* hidden", document)


def test_a_version_finds_its_package(page: Path) -> None:
    assert rows(browse(page, "--dump-dom", fragment="#q=5.2.37"))["bash"]


def test_without_scripts_everything_is_readable(page: Path) -> None:
    without = page.with_name("without.html")
    without.write_text(re.sub(r"<script>.*?</script>", "", page.read_text(), flags=re.DOTALL))
    document = browse(without, "--dump-dom")
    assert all(rows(document).values())
    assert re.search(r"<form[^>]* hidden", document)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_it_is_painted_in_both_modes(page: Path, mode: str) -> None:
    picture = page.with_name(f"{mode}.png")
    dark = ["--force-dark-mode"] if mode == "dark" else []
    browse(page, f"--screenshot={picture}", "--window-size=800,500", *dark)
    colours = _colours(picture)
    assert len(colours) > 50, "the picture is empty"
    background = max(colours, key=lambda colour: colours[colour])
    assert (sum(background) < 3 * 128) == (mode == "dark")


def _colours(picture: Path) -> dict[tuple[int, ...], int]:
    """Count the colours in every tenth line of a PNG (8 bits, RGB or RGBA, filters 0 to 4)."""
    data = picture.read_bytes()
    width, _height, _depth, kind = struct.unpack(">IIBB", data[16:26])
    packed, place = b"", 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        if data[place + 4 : place + 8] == b"IDAT":
            packed += data[place + 8 : place + 8 + length]
        place += length + 12
    channels = 4 if kind == 6 else 3
    return _count(zlib.decompress(packed), width * channels, channels)


def _count(raw: bytes, stride: int, channels: int) -> dict[tuple[int, ...], int]:
    found: dict[tuple[int, ...], int] = {}
    before = bytearray(stride)
    for number, start in enumerate(range(0, len(raw), stride + 1)):
        line = _unfiltered(
            raw[start], bytearray(raw[start + 1 : start + 1 + stride]), before, channels
        )
        if number % 10 == 0:
            for place in range(0, stride, channels):
                colour = tuple(line[place : place + 3])
                found[colour] = found.get(colour, 0) + 1
        before = line
    return found


def _unfiltered(kind: int, line: bytearray, before: bytearray, step: int) -> bytearray:
    for place in range(len(line)):
        left = line[place - step] if place >= step else 0
        up, corner = before[place], before[place - step] if place >= step else 0
        guess = {0: 0, 1: left, 2: up, 3: (left + up) // 2, 4: _paeth(left, up, corner)}[kind]
        line[place] = (line[place] + guess) & 255
    return line


def _paeth(left: int, up: int, corner: int) -> int:
    guess = left + up - corner
    return min((left, up, corner), key=lambda value: abs(guess - value))
