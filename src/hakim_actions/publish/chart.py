"""Sizes over time as an SVG: a line a variant, drawn for a page that brings the colours."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from hakim_actions.debian import DEFAULT_ARCH, DEFAULT_RELEASE
from hakim_actions.index import Index
from hakim_actions.system import units

_WIDTH: Final = 960
_HEIGHT: Final = 340
_LEFT: Final = 70
_RIGHT: Final = 90
_TOP: Final = 16
_BOTTOM: Final = 36
_LABEL: Final = 17  # pixels between two labels, so that none covers another
_COLOURS: Final = 8
_DATES: Final = 8  # most labels below the axis

Pair = tuple[str, str]


@dataclass(frozen=True)
class _Scale:
    """From a release's number and a size to a place in the picture."""

    count: int
    top: int

    def x(self, number: int) -> float:
        room = _WIDTH - _LEFT - _RIGHT
        return _LEFT + (room * number / (self.count - 1) if self.count > 1 else room / 2)

    def y(self, size: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * size / self.top


def shown_pair(index: Index) -> Pair:
    """Return the (Debian release, architecture) with the most images: the one worth a line."""
    pairs = [(entry.release, entry.arch) for entry in index.entries]
    usual = (DEFAULT_RELEASE, DEFAULT_ARCH)
    return max(sorted(set(pairs)), key=lambda pair: (pairs.count(pair), pair == usual))


def figure(releases: Sequence[Index], *, pair: Pair) -> str:
    """Draw the sizes of all variants of *pair* over *releases*, the oldest first."""
    series = _series(releases, pair)
    largest = max((size for points in series.values() for _, size in points), default=1)
    step = _step(largest)
    scale = _Scale(count=len(releases), top=step * -(-largest // step))
    lines = [
        _line(number, name, series[name], releases, scale) for number, name in enumerate(series)
    ]
    latest = {name: points[-1] for name, points in series.items()}
    parts = [*_axis(step, scale), *_dates(releases, scale), *lines, *_names(latest, scale)]
    what = f"Archive sizes of {len(series)} variants over {len(releases)} releases"
    return (
        f'<figure><svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
        f' aria-label="{what}">{"".join(parts)}</svg></figure>'
    )


def _series(releases: Sequence[Index], pair: Pair) -> dict[str, list[tuple[int, int]]]:
    """Return for each variant its (number of the release, bytes), variants sorted by name."""
    found: dict[str, list[tuple[int, int]]] = {}
    for number, index in enumerate(releases):
        for entry in index.entries:
            if (entry.release, entry.arch) == pair:
                found.setdefault(entry.variant, []).append((number, entry.archive.size))
    return dict(sorted(found.items()))


def _step(largest: int) -> int:
    """Return a round distance between grid lines, so that there are three to six."""
    power = int(f"1{'0' * (len(str(largest)) - 1)}")
    for step in (power // 5, power // 2, power, power * 2):
        if step and largest / step <= 6:
            return step
    return max(power, 1)


def _axis(step: int, scale: _Scale) -> list[str]:
    parts = []
    for size in range(0, scale.top + 1, step):
        y = scale.y(size)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{_short(size)}</text>'
        )
    return parts


def _short(size: int) -> str:
    return units.size(size).replace(".0 ", " ") if size else "0"


def _dates(releases: Sequence[Index], scale: _Scale) -> list[str]:
    every = -(-len(releases) // _DATES)
    last = len(releases) - 1
    return [
        f'<text x="{scale.x(number):.1f}" y="{_HEIGHT - 12}" text-anchor="middle">'
        f"{escape(index.version)}</text>"
        for number, index in enumerate(releases)
        if (last - number) % every == 0
    ]


def _line(
    number: int,
    name: str,
    points: Sequence[tuple[int, int]],
    releases: Sequence[Index],
    scale: _Scale,
) -> str:
    places = [(scale.x(at), scale.y(size)) for at, size in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{escape(name)}'
        f" {escape(releases[at].version)}: {units.size(size)}</title></circle>"
        for (x, y), (at, size) in zip(places, points, strict=True)
    )
    return f'<g class="s{number % _COLOURS}"><polyline points="{path}"/>{dots}</g>'


def _names(latest: dict[str, tuple[int, int]], scale: _Scale) -> list[str]:
    """Write each variant's name beside its last point, moved apart where they would overlap."""
    number_of = {name: number for number, name in enumerate(latest)}
    parts, lowest = [], float("-inf")
    for name in sorted(latest, key=lambda name: scale.y(latest[name][1])):
        at, size = latest[name]
        lowest = max(scale.y(size) + 4, lowest + _LABEL)
        colour = number_of[name] % _COLOURS
        parts.append(
            f'<g class="s{colour}"><text class="name" x="{scale.x(at) + 12:.1f}"'
            f' y="{lowest:.1f}">{escape(name)}</text></g>'
        )
    return parts
