#!/usr/bin/env python3
"""Compare our builds with plain ``distrobuilder build-lxc`` of the same definition, in one run.

    benchmarks/build.py [--variants base,php] [--ways plain,cold,warm,changed,alone] [--level 6]

Ways, in this order:

plain    distrobuilder alone, for each variant: bootstrap, packages, scripts, ``xz -T0``. It gets
         the tools of tools.lock as a tar that is ready, and proves nothing.
cold     ``hakim-actions build --all --cached`` with an empty cache: fetches the tools, too, and
         verifies and boots every image.
warm     the same again, with nothing changed. The matrix would not build at all.
changed  the same with one more package in the base, as after an update of one of its packages.
alone    the base by itself, with an empty cache; what the model says of one image is held to it.

Root, several GB and about an hour. What was measured is kept in --results as it comes, so a run
that was stopped goes on; remove the file to start over. The report, a table and a chart, is made
from that file.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src")]

from hakim_actions.artifact import ArtifactName, Manifest  # noqa: E402 - from this very tree
from hakim_actions.errors import HakimError  # noqa: E402 - likewise
from hakim_actions.image import tools  # noqa: E402 - likewise
from hakim_actions.system import process, units  # noqa: E402 - likewise

VARIANTS: Final = ("base", "php", "dotnet", "js", "rust", "elixir")
OURS: Final = ("cold", "warm", "changed")
WAYS: Final = ("plain", *OURS, "alone")
RELEASE: Final = "trixie"
#: Small, without dependencies, and in no image.
ADDED_PACKAGE: Final = "hello"
#: A line through fewer points says nothing about what was not measured.
_ENOUGH: Final = 2
CHROMIUM: Final = (
    *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--hide-scrollbars"),
)

Result = dict[str, Any]


def measure(argv: Sequence[str], *, cwd: Path, log: Path) -> Result:
    """Run *argv* and return its wall-clock and processor seconds, with those of its children."""
    began = time.monotonic()
    with log.open("wb") as stream:
        child = subprocess.Popen(argv, cwd=cwd, stdout=stream, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{argv[0]} ended with {child.returncode}; its output is in {log}")
    cpu = usage.ru_utime + usage.ru_stime
    return {"seconds": round(time.monotonic() - began, 1), "cpu": round(cpu, 1)}


class Bench:
    """The ways to build *variants*, each of which adds to *results*."""

    def __init__(
        self,
        variants: Sequence[str],
        *,
        level: int,
        allow_missing: str,
        folder: Path,
        results: Path,
    ) -> None:
        """Work below *folder*; go on with what *results* has."""
        self.variants = variants
        self.level = level
        self.allow_missing = allow_missing
        self.folder = folder
        self._path = results
        self.results: dict[str, Result] = (
            json.loads(results.read_text()) if results.exists() else {}
        )

    def run(self, ways: Sequence[str]) -> None:
        """Run those of *ways* that were not measured yet."""
        for way in ways:
            if way == "plain":
                for variant in self.variants:
                    self._once(f"plain {variant}", lambda variant=variant: self._plain(variant))
            else:
                self._once(way, lambda way=way: self._ours(way))

    def _once(self, key: str, work: Any) -> None:
        if key in self.results:
            return
        print(f"{time.strftime('%H:%M')} {key}", file=sys.stderr, flush=True)
        self.results[key] = work()
        self._path.write_text(json.dumps(self.results, indent=1) + "\n")

    def _plain(self, variant: str) -> Result:
        work = self.folder / "plain"
        shutil.rmtree(work, ignore_errors=True)
        (work / "tools").mkdir(parents=True)
        staged = tools.stage(
            tools.load(ROOT / "distrobuilder/tools.lock").for_target(
                ArtifactName(variant, RELEASE, "amd64")
            ),
            into=work / "tools",
            cache=self.folder / "downloads",
            env=process.child_environment(os.environ),
            allow_missing=self.allow_missing.split(","),
        )
        argv = [
            *("distrobuilder", "build-lxc", "distrobuilder/hakim.yaml", str(work / "out")),
            *("--cache-dir", str(work / "rootfs"), f"--compression=xz-{self.level}"),
            *("-o", f"image.variant={variant}", "-o", f"files.0.source={staged.tar}"),
        ]
        result = measure(argv, cwd=ROOT, log=self.folder / f"plain-{variant}.log")
        result["size"] = (work / "out/rootfs.tar.xz").stat().st_size
        shutil.rmtree(work)
        return result

    def _ours(self, way: str) -> Result:
        out, cache = self.folder / "out", self.folder / "cache"
        which = ["--all"]
        if way == "alone":
            which, cache = ["--variant", "base"], self.folder / "cache-alone"
        if way in {"cold", "alone"}:
            shutil.rmtree(cache, ignore_errors=True)
        shutil.rmtree(out, ignore_errors=True)
        project = self._changed_project() if way == "changed" else ROOT
        argv = [
            *(sys.executable, "-I", "-m", "hakim_actions", "build", *which, "--cached", "--json"),
            *("--cache-dir", str(cache), "--out", str(out)),
            *("--compression-level", str(self.level), "--allow-missing", self.allow_missing),
        ]
        result = measure(argv, cwd=project, log=self.folder / f"{way}.log")
        manifests = [
            Manifest.from_json(path.read_text(), source=path.name)
            for path in sorted(out.rglob("*.manifest.json"))
        ]
        result["images"] = {manifest.variant: _facts(manifest) for manifest in manifests}
        result["compressed"] = _compressed(self.folder / f"{way}.log", result["images"])
        return result

    def _changed_project(self) -> Path:
        project = self.folder / "project"
        shutil.rmtree(project, ignore_errors=True)
        subprocess.run(("git", "clone", "--quiet", str(ROOT), str(project)), check=True)
        definition = project / "distrobuilder/hakim.yaml"
        text = definition.read_text()
        mark = "        - bind9-dnsutils\n"
        assert mark in text
        definition.write_text(text.replace(mark, f"{mark}        - {ADDED_PACKAGE}\n", 1))
        return project


def _compressed(log: Path, images: Mapping[str, Result]) -> int:
    """Return how many raw bytes the build that left *log* compressed; its JSON ends the log."""
    text = log.read_text()
    built = json.loads(text[text.index("\n[\n") :])
    reused = sum(int(image["cache"]["bytes_reused"]) for image in built)
    return sum(int(image["unpacked"]) for image in images.values()) - reused


def _facts(manifest: Manifest) -> Result:
    return {
        "size": manifest.files[0].size,
        "sha256": manifest.files[0].sha256,
        "unpacked": manifest.unpacked_bytes,
        "packages": len(manifest.packages),
        "checks": len(manifest.checks),
        "phases": dict(manifest.phases),
        "missing": list(manifest.missing),
        "archive": dict(manifest.archive.digests) if manifest.archive else {},
    }


def report(results: Mapping[str, Result]) -> str:
    """Return what was measured as Markdown; every ratio is against plain distrobuilder.

    Plain builds that were not measured are modelled from those that were, and said to be.
    """
    images: Mapping[str, Result] = next(
        (results[way]["images"] for way in OURS if way in results), {}
    )
    plain = {key.split()[1]: value for key, value in results.items() if key.startswith("plain ")}
    if len(plain) < _ENOUGH:
        return "\n".join(_sizes(images, plain))
    wall, cpu = (
        sum(value[what] for value in plain.values())
        + sum(_modelled(plain, images, what, variant) for variant in images if variant not in plain)
        for what in ("seconds", "cpu")
    )
    lines = ["| way | images | wall s | of one image | CPU s | faster, wall | faster, CPU |"]
    lines += ["|---|---|---|---|---|---|---|"]
    how = f"{len(plain)} measured, {len(images) - len(plain)} modelled"
    each = _spread([result["seconds"] for result in plain.values()])
    lines.append(f"| plain distrobuilder | {how} | {wall:.0f} | {each} | {cpu:.0f} | 1 | 1 |")
    for way in OURS:
        if way in results:
            ours = results[way]
            each = _spread([sum(image["phases"].values()) for image in ours["images"].values()])
            lines.append(
                f"| ours, {way} | {len(ours['images'])} | {ours['seconds']:.0f} | {each}"
                f" | {ours['cpu']:.0f} | {wall / ours['seconds']:.1f} | {cpu / ours['cpu']:.1f} |"
            )
    lines += ["", "Of one image: minimum / median / maximum; ours are built side by side.", ""]
    for variant in plain:
        others = {name: value for name, value in plain.items() if name != variant}
        if len(others) > 1:
            told = _modelled(others, images, "seconds", variant)
            lines.append(f"{variant}: {plain[variant]['seconds']:.0f} s, modelled {told:.0f} s.")
    if "cold" in results and "warm" in results:
        lines += ["", _same_bytes(results["cold"]["images"], results["warm"]["images"])]
    if all(way in results for way in OURS):
        lines += ["", *_rows(results, wall)]
    return "\n".join([*lines, "", *_sizes(images, plain)])


def _spread(seconds: Sequence[float]) -> str:
    return f"{min(seconds):.0f} / {statistics.median(seconds):.0f} / {max(seconds):.0f}"


def _same_bytes(first: Mapping[str, Result], second: Mapping[str, Result]) -> str:
    differ = [variant for variant in first if first[variant]["sha256"] != second[variant]["sha256"]]
    same = len(first) - len(differ)
    line = f"Built twice, *cold* and *warm*: {same} of {len(first)} had the same bytes."
    if not differ:
        return line
    states = [
        {pair for image in way.values() for pair in image["archive"].items()}
        for way in (first, second)
    ]
    suites = sorted({suite for suite, _ in states[0] ^ states[1]})
    why = f" Debian's archive changed in the meantime: {', '.join(suites)}." if suites else ""
    return f"{line} Not: {', '.join(differ)}.{why}"


def _modelled(
    plain: Mapping[str, Result], images: Mapping[str, Result], what: str, variant: str
) -> float:
    """Return what a plain build of *variant* costs: a constant, and so much for each byte."""
    sizes = [images[name]["unpacked"] for name in plain]
    line = statistics.linear_regression(sizes, [value[what] for value in plain.values()])
    return line.intercept + line.slope * float(images[variant]["unpacked"])


def _rows(results: Mapping[str, Result], plain: float) -> list[str]:
    """Return what 1 to 24 images take, *plain* being the seconds of six plain builds.

    Ours cost so much an image and so much a compressed byte. Both follow from `cold` and `warm`,
    and `changed` tells how good they are. Each release and architecture has bytes of its own.
    """
    cold, warm, changed = (results[way] for way in OURS)
    a_byte = (cold["seconds"] - warm["seconds"]) / (cold["compressed"] - warm["compressed"])
    count = len(cold["images"])
    an_image = (warm["seconds"] - a_byte * warm["compressed"]) / count
    told = count * an_image + a_byte * changed["compressed"]
    lines = ["| images | plain s | ours, cold s | ours, warm s | how |", "|---|---|---|---|---|"]
    alone = an_image + a_byte * cold["images"]["base"]["unpacked"]
    base = results["plain base"]["seconds"]
    lines.append(f"| 1 (base) | {base:.0f} | {alone:.0f} | {an_image:.0f} | ours modelled |")
    if "alone" in results:
        lines.append(f"| 1 (base) | {base:.0f} | {results['alone']['seconds']:.0f} | | measured |")
    for groups in (1, 2, 3, 4):
        seconds = (groups * value for value in (plain, cold["seconds"], warm["seconds"]))
        how = "measured" if groups == 1 else "modelled"
        cells = " | ".join(f"{value:.0f}" for value in seconds)
        lines.append(f"| {groups * count} | {cells} | {how} |")
    lines.append("")
    lines.append(
        f"An image: {an_image:.0f} s, a compressed GB: {1e9 * a_byte:.0f} s. "
        f"changed: {changed['seconds']:.0f} s, modelled {told:.0f} s."
    )
    return lines


def _sizes(images: Mapping[str, Result], plain: Mapping[str, Result]) -> list[str]:
    lines = ["| image | size | against plain | unpacked | packages | checks |"]
    lines += ["|---|---|---|---|---|---|"]
    for variant, image in images.items():
        same = plain.get(variant, image)  # against itself where there is none
        ratio = f"{100 * (image['size'] / same['size'] - 1):+.1f} %"
        lines.append(
            f"| {variant} | {units.size(image['size'])} | {ratio if variant in plain else ''}"
            f" | {units.size(image['unpacked'])} | {image['packages']} | {image['checks']} |"
        )
    return lines


def chart(results: Mapping[str, Result], path: Path) -> None:
    """Draw the wall-clock seconds of each way as bars, as a PNG at *path*."""
    ways = {"plain": sum(r["seconds"] for key, r in results.items() if key.startswith("plain "))}
    ways |= {way: results[way]["seconds"] for way in OURS if way in results}
    longest = max(ways.values())
    bars = "".join(
        f"<tr><th>{way}</th><td><i style='width:{600 * seconds / longest:.0f}px'></i>"
        f"{seconds / 60:.0f} min</td></tr>"
        for way, seconds in ways.items()
    )
    page = (
        "<style>body{font:16px sans-serif;margin:16px;background:#fff;color:#1c2733}"
        "th{text-align:right;padding:6px 12px;font-weight:500}td{white-space:nowrap}"
        "i{display:inline-block;height:20px;background:#3d7a9e;margin-right:8px;vertical-align:middle}"
        f"</style><table>{bars}</table>"
    )
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "chart.html"
        source.write_text(page)
        options = (
            f"--user-data-dir={folder}/profile",
            f"--screenshot={path}",
            "--window-size=860,200",
        )
        subprocess.run((*CHROMIUM, *options, source.as_uri()), check=True, capture_output=True)


def main() -> None:
    """Read the command line, run what is wanted, print the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", default=",".join(VARIANTS), help="of the plain builds (all)")
    parser.add_argument("--ways", default=",".join(WAYS), help="what to measure (all)")
    parser.add_argument("--level", type=int, default=6, help="of xz (6)")
    parser.add_argument("--allow-missing", default="", help="tools that both ways go without")
    parser.add_argument("--folder", type=Path, default=ROOT / ".cache/benchmark", help="to work in")
    parser.add_argument("--results", type=Path, help="JSON (<folder>/build.json)")
    parser.add_argument("--chart", type=Path, help="draw the bars as this PNG")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(
        options.variants.split(","),
        level=options.level,
        allow_missing=options.allow_missing,
        folder=options.folder.resolve(),
        results=options.results or options.folder / "build.json",
    )
    try:
        bench.run([way for way in options.ways.split(",") if way])
    except HakimError as error:
        sys.exit(str(error))
    print(report(bench.results))
    if options.chart:
        chart(bench.results, options.chart)


if __name__ == "__main__":
    main()
