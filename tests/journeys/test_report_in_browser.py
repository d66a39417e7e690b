"""The report in headless Chromium: it fits wide and narrow screens, and every picture in it is drawn."""

import html
import json
import re
import shutil
import subprocess

import pytest
from PIL import Image

from edge_oneshot.report.report import render
from tests.samples import report as report_sample

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip

# The report itself has no script; it is measured from outside, in a frame of the width asked for.
MEASURE = """<!doctype html><meta charset="utf-8"><body style="margin:0">
<iframe id="frame" style="width:%(width)dpx;height:900px;border:0" srcdoc="%(page)s"></iframe><pre id="found"></pre>
<script>
document.getElementById("frame").onload = (event) => {
  const page = event.target.contentDocument, all = (what) => [...page.querySelectorAll(what)];
  const box = (element) => element.getBoundingClientRect();
  document.getElementById("found").textContent = JSON.stringify({
    width: page.documentElement.scrollWidth,
    sections: Object.fromEntries(all("header[id], section[id]").map((e) => [e.id, box(e).height])),
    undrawn: all("img").filter((e) => !e.complete || e.naturalWidth == 0 || box(e).width < 20).length,
    pictures: all("img").length,
    charts: all("svg").map((e) => box(e).width),
    outside: all("img, svg, h1, h2, p, pre, dd").filter((e) => box(e).right > page.documentElement.clientWidth + 1)
      .map((e) => e.outerHTML.slice(0, 80)),
    ink: getComputedStyle(page.querySelector("figure.chart svg path[style*='--first']")).stroke,
  });
};
</script>"""


def chromium(profile, *arguments):
    """Run headless Chromium with an empty profile; returns what it printed."""
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--virtual-time-budget=5000", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("width", "narrowest_chart"), [(420, 350), (1200, 400)])
def test_the_report_fits_the_screen_and_every_picture_is_drawn(tmp_path, width, narrowest_chart):
    page = tmp_path / "measure.html"
    page.write_text(MEASURE % {"width": width, "page": html.escape(render(report_sample.sample()))})
    printed = chromium(tmp_path / "profile", "--window-size=1300,1000", "--dump-dom", page.as_uri())
    found = json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', printed, re.DOTALL)[1]))
    assert found["width"] <= width
    assert found["outside"] == []
    assert found["sections"].keys() == set(report_sample.SECTIONS)
    assert min(found["sections"].values()) > 60
    assert found["pictures"] == 12
    assert found["undrawn"] == 0
    assert len(found["charts"]) == 7 + 3
    assert min(found["charts"]) >= narrowest_chart
    assert found["ink"] == "rgb(23, 105, 170)"  # the page's own colour reaches into the charts


def test_the_report_is_seen_in_both_colour_schemes(tmp_path):
    page = tmp_path / "report.html"
    page.write_text(render(report_sample.sample()))
    brightness = {}
    for scheme, number in (("dark", 0), ("light", 1)):
        shot = tmp_path / f"{scheme}.png"
        flags = (f"--blink-settings=preferredColorScheme={number}", "--window-size=1200,1600", f"--screenshot={shot}")
        chromium(tmp_path / scheme, *flags, page.as_uri())
        with Image.open(shot) as image:
            grey = image.convert("L")
            brightness[scheme] = grey.getpixel((5, 5))
            assert len(grey.getcolors()) > 50  # text and charts, not an empty page
    assert brightness["dark"] < 40
    assert brightness["light"] > 240
