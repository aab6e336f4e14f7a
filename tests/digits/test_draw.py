"""The page to draw on: in a browser, and what it answers to others."""

import http.client
import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import MNIST_ROOT, Project, Started
from PIL import Image, ImageDraw

from sweep.digits import config, draw
from sweep.digits.classifier import build_classifier

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHROMEDRIVER = shutil.which("chromedriver")

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1000,800"
)


class Page(NamedTuple):
    """draw.py as it runs."""

    project: Project
    program: Started
    port: int

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """The status and the answer, read as JSON where it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return response.status, json.loads(text) if "json" in response.headers["Content-Type"] else text


def started(project: Project, *arguments: str) -> Page:
    program = project.start("draw", "--port=0", *arguments)
    program.wait_for(lambda: "Ctrl-C" in program.out)
    address = re.search(r"draw on http://127\.0\.0\.1:(\d+) ", program.out)
    assert address
    return Page(project, program, int(address[1]))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, empty_record: Path) -> Iterator[Page]:
    """The page of a model of MNIST, the champion of its name."""
    if not (MNIST_ROOT / "MNIST").is_dir():
        pytest.skip("needs MNIST: set SWEEP_DATA_ROOT to a folder that has it")
    project = Project(tmp_path_factory.mktemp("draw"))
    shutil.copy(empty_record, project.folder / "mlflow.db")
    finished = project.train(
        f"data.root={MNIST_ROOT}", "epochs=1", "optimizer.lr=0.01", "model.widths=[128]", "data.batch_size=256"
    )
    assert finished.status == 0, finished.err
    client, (run,) = project.client(), project.runs("trial")
    client.create_registered_model("reader")
    version = client.create_model_version("reader", f"runs:/{run.info.run_id}/model", run.info.run_id)
    client.set_registered_model_alias("reader", "champion", version.version)
    client.create_registered_model("without a champion")
    page = started(project)
    yield page
    page.program.process.terminate()
    page.program.wait()


def png(*line: tuple[int, int], size: int = 200) -> bytes:
    image, file = Image.new("L", (size, size), 255), BytesIO()
    if line:
        ImageDraw.Draw(image).line(line, fill=0, width=15)
    image.save(file, "PNG")
    return file.getvalue()


def test_without_a_choice_the_only_champion_of_the_registry_reads(page: Page) -> None:
    assert "reading with reader@champion, " in page.program.out
    assert ", trained on mnist, test/accuracy 9" in page.program.out
    status, html = page.ask("GET", "/")
    assert status == 200
    assert "read by reader@champion, " in html
    assert re.search(r"read by reader@champion, .*, trained on mnist, test/accuracy 9\d\.\d\d%", html)
    assert 'id="note"' not in html
    assert not re.search(r"(src|href)=.?(https?:)?//", html)  # nothing from elsewhere


def test_a_drawing_is_answered_with_probabilities_and_what_the_model_saw(page: Page) -> None:
    status, answer = page.ask("POST", "/predict", png((100, 40), (100, 160)), Content_Type="image/png")
    assert status == 200
    assert answer["words"].startswith("1 (")
    assert max(range(10), key=answer["probabilities"].__getitem__) == 1
    assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-4)
    assert len(answer["seen"]) == 28 * 28
    assert (min(answer["seen"]), max(answer["seen"])) == (0, 255)


def test_what_is_no_drawing_is_refused_with_a_status_and_a_line(page: Page) -> None:
    is_png = {"Content_Type": "image/png"}
    for body, headers, expected in [
        (
            png(),
            is_png,
            (422, "the drawing: there is nothing in it; draw one digit, darker or lighter than its ground"),
        ),
        (b"hello", is_png, (400, "the drawing: it is no PNG or JPEG image; save it as one")),
        (png(), {"Content_Type": "text/plain"}, (415, "send a drawing as image/png")),
        (b"%!PS-Adobe-3.0 EPSF-3.0", is_png, (400, "the drawing: it is no PNG or JPEG image; save it as one")),
        (
            png(size=1025),
            is_png,
            (400, "the drawing: it has more than 1 million pixels; scale it down first"),
        ),
        (b"x" * (2**20 + 1), is_png, (413, "The data value transmitted exceeds the capacity limit.")),
    ]:
        status, answer = page.ask("POST", "/predict", body, **headers)
        assert (status, answer["error"]) == expected
    assert page.ask("GET", "/predict")[0] == 405
    assert page.ask("GET", "/draw.html")[0] == 404


def test_only_this_machine_under_its_own_name_is_answered(page: Page) -> None:
    assert page.ask("GET", "/", Host=f"localhost:{page.port}")[0] == 200
    for host in ("example.org", f"example.org:{page.port}", "127.0.0.1.example.org"):
        assert page.ask("GET", "/", Host=host)[0] == 400
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [local for _, local, _, state, *_ in sockets if state == "0A" and local.endswith(f":{page.port:04X}")]
    assert listening == [f"0100007F:{page.port:04X}"]  # 127.0.0.1, backwards


def test_a_port_that_is_taken_or_is_none_is_told_in_one_line(page: Page) -> None:
    for port, reason in {page.port: "Address already in use", 70_000: "there are ports up to 65535"}.items():
        finished = page.project.run("draw", f"--port={port}")
        message = f"error: --port={port}: cannot be listened on ({reason}); choose another, or 0 for any\n"
        assert (finished.status, finished.err) == (1, message)


def test_ctrl_c_ends_it_without_a_word(page: Page) -> None:
    (run,) = page.project.runs("trial")
    another = started(page.project, "--run", run.info.run_id)
    os.kill(another.program.process.pid, signal.SIGINT)
    finished = another.program.wait()
    assert (finished.status, finished.err) == (0, "")


@pytest.fixture
def browser(page: Page, tmp_path: Path) -> Iterator[Any]:
    if not (CHROMIUM and CHROMEDRIVER):
        pytest.skip("needs Chromium and chromedriver: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=Service(executable_path=CHROMEDRIVER))
    yield browser
    browser.quit()


def test_a_stroke_drawn_with_the_mouse_is_read_while_it_grows_and_clear_empties_the_sheet(
    page: Page, browser: Any
) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.wait import WebDriverWait

    browser.get(f"http://127.0.0.1:{page.port}/")
    sheet, words = (browser.find_element(By.ID, name) for name in ("sheet", "words"))

    def probabilities() -> list[str]:
        shown = browser.find_elements(By.CSS_SELECTOR, "#bars li > span:last-child")
        return [percent.text for percent in shown if percent.text]

    def wait_for(is_true: Any) -> None:
        WebDriverWait(browser, 20, poll_frequency=0.05).until(lambda _: is_true())

    assert words.text == "draw a digit"
    assert probabilities() == []
    mouse = ActionChains(browser, duration=50)
    mouse.move_to_element_with_offset(sheet, 0, -90).click_and_hold().move_by_offset(0, 90).move_by_offset(0, 90)
    mouse.perform()
    wait_for(lambda: words.text.startswith("1 ("))  # the button is still down
    one = probabilities()
    assert len(one) == 10
    ActionChains(browser, duration=50).move_by_offset(90, 0).release().perform()
    wait_for(lambda: probabilities() not in ([], one))
    browser.find_element(By.ID, "clear").click()
    assert words.text == "draw a digit"
    assert probabilities() == []
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_the_page_says_where_a_model_may_read_badly() -> None:
    classifier = build_classifier(config.compose(["data=digits"]))
    page = draw.make_app(classifier, "a model", "trained on <digits>").test_client().get("/").text
    assert "<p>read by a model</p>" in page
    assert '<p id="note">trained on &lt;digits&gt;</p>' in page
