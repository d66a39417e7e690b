"""Draw docs/report.png: parts of a demo's report, by headless Chromium.

python tools/report_picture.py demo/report.html docs/report.png
"""

import argparse
import io
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from PIL import Image, ImageChops

_WIDTH: Final = 1128
_TALLEST: Final = 4000
_SCALE: Final = 1.1
_MARGIN: Final = 24
_COLOURS: Final = 64
_FLAGS: Final = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
    "--disable-background-networking", "--disable-sync", "--hide-scrollbars", "--virtual-time-budget=5000",
)  # fmt: skip
_PARTS: Final = """<style>
.note, details, #training, #tasks, #drift, #device, #made, #words, #accuracy .scroll, #scores .scroll { display: none; }
#scores .pair > :nth-child(2) { display: none; }
main { display: grid; grid-template-columns: 1fr 1fr; column-gap: 36px; }
main > * { grid-column: 1 / -1; } #map { grid-column: 1; } #scores { grid-column: 2; }
</style></head>"""


def main() -> None:
    """Draw and cut it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("report", type=Path, help="report.html of a demo")
    parser.add_argument("picture", type=Path, help="the .png")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page, shot = Path(folder, "page.html"), Path(folder, "shot.png")
        page.write_text(arguments.report.read_text().replace("</head>", _PARTS, 1))
        size = [f"--window-size={_WIDTH},{_TALLEST}", f"--force-device-scale-factor={_SCALE}"]
        command = [
            "chromium",
            *_FLAGS,
            *size,
            f"--user-data-dir={folder}/profile",
            f"--screenshot={shot}",
            page.as_uri(),
        ]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603 (a browser, by a developer)
        whole = Image.open(io.BytesIO(shot.read_bytes())).convert("RGB")
    drawn = ImageChops.difference(whole, Image.new("RGB", whole.size, whole.getpixel((0, 0)))).getbbox()
    if drawn is None:
        raise SystemExit(f"{arguments.report}: nothing was drawn")
    part = whole.crop((0, 0, whole.width, min(whole.height, drawn[3] + _MARGIN)))
    part.quantize(_COLOURS, dither=Image.Dither.NONE).save(arguments.picture, optimize=True)


if __name__ == "__main__":
    main()
