"""Headless Chromium, driven by selenium: opens pages, uploads files, says which hosts a page asked.

Run as a program it takes the picture of docs/demo.md of a page that is served:
python -m tests.browser http://127.0.0.1:8000/ docs/images/demo.png
"""

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
PATIENCE = 300
"""Seconds until something has to be on a page; the machine may be busy."""


class Browser:
    """A tab. What is asked of the page is asked again until it is there."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, address: str, width: int = 1280, height: int = 1000, dark: bool = False) -> None:
        """Load a page in a window of that size, in CSS pixels."""
        phone = width < 600
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        for place in ("about:blank", address):  # nothing of an earlier page is taken for one of this
            self.driver.get(place)
            self.wait(f"{place} is open", lambda place=place: self.driver.current_url == place)

    def wait(self, what: str, seen):
        """What `seen()` returns as soon as that is true; fails naming `what` otherwise."""
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        waiting = WebDriverWait(self.driver, PATIENCE, 0.2, [StaleElementReferenceException])
        return waiting.until(lambda _: seen(), what)

    def all(self, selector: str) -> list:
        return self.driver.find_elements("css selector", selector)

    def one(self, selector: str):
        """The first element that a selector names, when it is there."""
        return self.wait(f"{selector} is on the page", lambda: self.all(selector))[0]

    def text(self, selector: str) -> str:
        """The text of the first element that a selector names; empty where there is none."""
        return "\n".join(element.text for element in self.all(selector)[:1])

    def upload(self, selector: str, path) -> None:
        """Give a file to an input, which may be invisible."""
        self.one(selector).send_keys(str(path))

    def overflow(self) -> int:
        """CSS pixels by which the page is wider than the window."""
        return self.driver.execute_script("return document.documentElement.scrollWidth - window.innerWidth")

    def screenshot(self, path) -> None:
        """The whole page, however long."""
        size = self.driver.execute_script("return [window.innerWidth, document.documentElement.scrollHeight]")
        screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        self.driver.save_screenshot(str(path))

    def hosts(self) -> set[str]:
        """Hosts that were asked since the last call, also in vain; data: and blob: addresses ask none."""
        asked = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        addresses = [
            urlsplit(each["params"]["request"]["url"])
            for each in asked
            if each["method"] == "Network.requestWillBeSent"
        ]
        return {address.hostname for address in addresses if address.scheme not in ("data", "blob")}

    def refused(self) -> list[str]:
        """What the console says that was refused or failed since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser with a profile of its own, without a network of its own: what it starts by itself asks nobody."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.page_load_strategy = "none"  # the page waits for events of its server and is never "loaded"
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "disable-extensions"):
        options.add_argument(f"--{argument}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


if __name__ == "__main__":
    address, picture = sys.argv[1:]
    with browser() as tab:
        tab.open(address)
        tab.one("#flux-examples input[value=turns_clockwise]").click()
        tab.wait("both sides have answered", lambda: len(tab.all(".flux-frames")) == 2)
        tab.one(".flux-comparison")
        tab.screenshot(picture)
    Image.open(picture).convert("RGB").quantize(128).save(picture, optimize=True)
