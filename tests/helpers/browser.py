"""A headless Chromium for tests of pages: Debian's, or whatever Chrome is there with its driver."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

BROWSERS = ("google-chrome", "chromium", "chromium-browser")
"""Chrome first: where both are installed, the driver is Chrome's."""

ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-default-apps", "--no-first-run",
)  # fmt: skip


@contextmanager
def browser(profile: Path) -> Iterator[webdriver.Chrome]:
    """A browser whose profile is the empty folder `profile`; skips the test where none is installed."""
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no Chromium with its driver is installed; on Debian: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # Both paths are named, so that selenium looks for neither on the network.
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    chrome.set_script_timeout(300)  # axe takes 10 s of a page on an idle core
    try:
        yield chrome
    finally:
        chrome.quit()


def open_page(chrome: webdriver.Chrome, page: Path, width: int = 1280, dark: bool = False) -> list[dict[str, Any]]:
    """Open a file at a width in CSS pixels, wait for its charts, and return what the console said meanwhile."""
    chrome.get_log("browser")
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    chrome.get(page.resolve().as_uri())
    WebDriverWait(chrome, 60).until(lambda c: c.execute_script("return document.body.dataset.charts"))
    log: list[dict[str, Any]] = chrome.get_log("browser")
    return log
