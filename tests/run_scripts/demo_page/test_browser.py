"""The page in a real browser: Chromium or Chrome with its driver, and the packages gradio and selenium."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m3se.run_scripts.publishing.space import write_space
from m3se.trainers.diagnostics.disagreement import Pair
from tests.run_scripts.demo_page.conftest import HOSTILE


BROWSERS = ("google-chrome", "chrome", "chromium", "chromium-browser")
SCRIPT = Path(__file__).parents[3] / "run_scripts" / "demo.py"
PATIENCE = 180  # seconds
# Without these Chromium asks for Google's hosts at every start.
SWITCHES = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --disable-dev-shm-usage --force-device-scale-factor=1"""

pytestmark = [pytest.mark.long, pytest.mark.linux]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    pytest.importorskip("gradio")
    webdriver = pytest.importorskip("selenium.webdriver")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None or shutil.which("chromedriver") is None:
        pytest.skip("no Chromium with its chromedriver is installed (Debian: chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for switch in [*SWITCHES.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(switch)
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_window_size(1500, 1000)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def serve():
    """Return a function that starts a command which serves a page, and gives the page's address."""
    processes = []

    def start(command, **environment):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [part.replace("PORT", str(port)) for part in command]
        environment = os.environ | {name: value.replace("PORT", str(port)) for name, value in environment.items()}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        processes.append(process)
        assert f"http://127.0.0.1:{port}" in process.stdout.readline()
        return f"http://127.0.0.1:{port}"

    yield start
    for process in processes:
        process.send_signal(signal.SIGINT)
    assert [process.wait(30) for process in processes] == [130] * len(processes)


def wait(browser, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, PATIENCE).until(lambda _: condition())


def element(browser, selector):
    return wait(browser, lambda: next(iter(browser.find_elements("css selector", selector)), None))


def value(browser, selector):
    return element(browser, f"{selector} textarea, {selector} input").get_property("value")


def cells(browser, table):
    """The texts of a table's cells, all in one step: an answer that arrives meanwhile replaces them."""
    script = "return Array.from(document.querySelectorAll(arguments[0]), cell => cell.textContent.trim())"
    return browser.execute_script(script, f"{table} [role=gridcell]")


def click(browser, words, role="button"):
    """Click the button, or what has another role, that these words stand on."""
    named = f"//button[normalize-space()='{words}']" + f"[@role='{role}']" * (role != "button")
    wait(browser, lambda: browser.find_elements("xpath", named))[0].click()


def search(browser, query):
    from selenium.webdriver.common.keys import Keys

    box = element(browser, "#query textarea, #query input")
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys(query, Keys.ENTER)


@pytest.fixture(scope="module")
def address(world, serve, tmp_path_factory):
    output = tmp_path_factory.mktemp("output")
    (output / "table.md").write_text("| system | nDCG@10 |\n| --- | ---: |\n| CA | .5 |\n", encoding="utf-8")
    pairs = [
        Pair("read file", "d6", "the matrix", 0.0, -1.0, 2.0, 3.0, 0.0),
        Pair("vector sum", "d8", HOSTILE, 0.0, -1.0, 1.0, 2.0, 0.5),
    ]
    pq.write_table(pa.Table.from_pylist(list(map(asdict, pairs))), output / "disagreements.parquet")
    command = [sys.executable, str(SCRIPT), "--model", world["student"], world["colbert"], "--start", world["start"]]
    command += ["--teacher", world["teacher"], "--data", world["data"], "--cache_dir", world["cache"]]
    return serve([*command, "--dtype", "float32", "--run", str(output), "--port", "PORT"])


def test_a_query_is_typed_and_every_system_answers(browser, address):
    browser.get(address)
    search(browser, "vector sum")
    wait(browser, lambda: "1 judged relevant" in value(browser, "#status"))
    wait(browser, lambda: "d1: sum of a vector" in cells(browser, "#system-0"))
    for number in range(5):
        assert any("d1: sum of a vector" in text for text in cells(browser, f"#system-{number}"))
    # a document that looks like markup stands there as text, and nothing of it has become an element or was run
    assert f"d8: {HOSTILE}" in cells(browser, "#system-0")
    assert browser.find_elements("css selector", "[role=gridcell] img, [role=gridcell] b") == []
    assert browser.title == "Searches side by side"
    assert browser.execute_script("return document.documentElement.innerHTML").count("cdn") == 0


def test_everything_is_reached_from_the_keyboard(browser, address):
    from selenium.webdriver.common.keys import Keys

    browser.get(address)
    search(browser, "read file")
    wait(browser, lambda: value(browser, "#text") != "")
    first, labels = value(browser, "#text"), []
    for _ in range(40):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        labels.append(browser.switch_to.active_element.get_attribute("aria-label"))
        if labels[-1] == "Look at a document":
            break
    assert "Look at a document" in labels
    browser.switch_to.active_element.send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ENTER)
    wait(browser, lambda: value(browser, "#text") != first)


@pytest.fixture
def narrow(browser):
    screen = {"width": 400, "height": 900, "deviceScaleFactor": 1, "mobile": False}  # a window has at least 500 pixels
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    yield browser
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_on_a_narrow_screen_tables_stand_below_each_other(narrow, address):
    narrow.get(address)
    search(narrow, "sort")
    wait(narrow, lambda: cells(narrow, "#system-1"))
    tops = [element(narrow, f"#system-{number}").rect["y"] for number in range(5)]
    assert tops == sorted(tops) and len(set(tops)) == 5
    assert narrow.execute_script("return window.innerWidth") == 400
    assert narrow.execute_script("return document.documentElement.scrollWidth") <= 400


def test_disagreements_are_clicked_through_and_searched_with(browser, address):
    browser.get(address)
    click(browser, "Largest disagreements", "tab")
    wait(browser, lambda: value(browser, "#pair-query") == "read file")
    assert value(browser, "#pair-text") == "the matrix"
    click(browser, "Next")
    wait(browser, lambda: value(browser, "#pair-query") == "vector sum")
    wait(browser, lambda: value(browser, "#pair-text") == HOSTILE)
    click(browser, "Search with this query")
    wait(browser, lambda: "d1: sum of a vector" in cells(browser, "#system-0"))
    assert value(browser, "#query") == "vector sum"


def test_the_program_of_a_space_starts_from_the_model_alone(browser, world, serve, tmp_path):
    write_space("org/page", "org/model", tmp_path / "space")
    program = [sys.executable, str(tmp_path / "space" / "app.py")]
    browser.get(serve(program, MODEL=world["colbert"], GRADIO_SERVER_PORT="PORT"))
    search(browser, "largest animals")
    wait(browser, lambda: any("Elephants are the largest" in text for text in cells(browser, "#system-1")))
    assert any(text == "largest, animals" for text in cells(browser, "#system-0"))
