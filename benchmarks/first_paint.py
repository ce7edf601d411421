"""When a browser that has never been here paints the page: `python -m benchmarks.first_paint`.

Asks a service that runs already, each time with a new profile, so that nothing is cached. Reports
the browser's own first contentful paint (https://www.w3.org/TR/paint-timing/), and the moment at
which the view with its heading was there.
"""

import argparse
import os
import shutil
import statistics
from dataclasses import dataclass

from playwright.sync_api import Browser, sync_playwright

PAGES = {"start page": "/", "live view": "/#/live", "API documentation": "/docs"}
READY = {"API documentation": ".opblock"}
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"

_PAINTS = """
() => ({
  paint: performance.getEntriesByName("first-contentful-paint")[0].startTime,
  requests: performance.getEntriesByType("resource").length + 1,
  bytes: performance.getEntriesByType("resource").reduce((sum, each) => sum + each.transferSize, 0),
})
"""


@dataclass(frozen=True)
class Visit:
    """One first visit: milliseconds since the navigation began."""

    paint_ms: float
    view_ms: float
    requests: int
    kilobytes: float


def visit(browser: Browser, url: str, ready: str) -> Visit:
    """Open `url` in a profile of its own and wait for what `ready` selects."""
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector(ready)
    view_ms = page.evaluate("performance.now()")
    # The paint is reported by the frame after it.
    page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
    found = page.evaluate(_PAINTS)
    context.close()
    return Visit(found["paint"], view_ms, found["requests"], found["bytes"] / 1000)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the first paint of each page.")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of the running service")
    options = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for name, path in PAGES.items():
            report(name, browser, options.url + path, options.runs)
        browser.close()


def report(name: str, browser: Browser, url: str, runs: int) -> None:
    visits = [visit(browser, url, READY.get(name, "main h1")) for _ in range(runs)]
    paints = sorted(each.paint_ms for each in visits)
    views = sorted(each.view_ms for each in visits)
    print(
        f"{name}: first contentful paint {statistics.median(paints):.0f} ms "
        f"({paints[0]:.0f} to {paints[-1]:.0f}), view after {statistics.median(views):.0f} ms "
        f"({views[0]:.0f} to {views[-1]:.0f}); {visits[0].requests} requests, "
        f"{visits[0].kilobytes:.0f} kB"
    )


if __name__ == "__main__":
    main()
