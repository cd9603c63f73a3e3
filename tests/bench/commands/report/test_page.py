"""The report's page in a real browser, as its reader has it: narrow, wide, light, dark, by mouse and by keyboard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_core_python.selenium import Axe
from peft_update_bench.bench.__main__ import main
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate import baseline_file
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from tests.helpers.browser import browser, open_page
from tests.helpers.records import baseline_data, changed, extra_info, write

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[4]
BASELINE = baseline_file.find(REPOSITORY / "baselines", None, "no machine")

CUT_OFF = """
const edge = arguments[0].getBoundingClientRect();
return [...arguments[0].querySelectorAll("text")].filter((text) => {
    const its = text.getBoundingClientRect();
    return its.right > edge.right + 1 || its.left < edge.left - 1 || its.bottom > edge.bottom + 1;
}).map((text) => text.textContent);
"""
"""The words of a chart that reach beyond its edge, where nobody sees them."""

LATENCY, PEAK, FLOPS = "latency / fft", "peak memory", "FLOPs"


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with browser(tmp_path_factory.mktemp("profile")) as chrome:
        yield chrome


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed baseline's page, compared with itself but for one figure."""
    folder = tmp_path_factory.mktemp("page")
    before = json.loads(BASELINE.read_text())
    before["benchmarks"][0]["extra_info"]["memory"]["peak"] -= 4
    before["benchmarks"][0]["extra_info"]["memory"]["activations"] -= 4
    other = write(folder / "other.json", before)
    path = folder / "page.html"
    assert main(["report", str(BASELINE), "--compare", str(other), "--output", str(path), "--no-claims"]) == 0
    return path


@pytest.fixture(scope="module")
def records() -> dict[str, dict[str, Any]]:
    entries = json.loads(BASELINE.read_text())["benchmarks"]
    return {entry["param"]: entry["extra_info"] for entry in entries}


@pytest.fixture(scope="module")
def moved_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of 12 cells that do not hold their baseline, with where their work is done."""
    folder = tmp_path_factory.mktemp("moved")
    blocks = {f"features.{n}": [10**6 * (n + 1), 2 * 10**6 * (n + 1), 10**5, 1] for n in range(12)}
    where = {"blocks": blocks, "operators": {"convolution": [12, 234 * 10**6], "relu": [12, 0]}}
    dearer = {**blocks, "features.3": [9 * 10**6, 8 * 10**6, 10**5, 2], "features.4": [4 * 10**6, 9 * 10**6, 10**5, 1]}
    cells = [Cell(name, "dora", rank) for name in ("resnet18", "mobilenet_v3_large") for rank in (1, 2, 4, 8, 16, 32)]
    before = [extra_info(cell, where=where) for cell in cells]
    moved = [changed("flops", forward=1500 + n, backward=2600, total=4100 + n) for n in range(12)]
    now = [extra_info(c, where={**where, "blocks": dearer}, **flops) for c, flops in zip(cells, moved, strict=True)]
    run, other = (write(folder / name, baseline_data(*of)) for name, of in (("run.json", now), ("other.json", before)))
    path = folder / "page.html"
    assert main(["report", str(run), "--compare", str(other), "--output", str(path), "--no-claims"]) == 0
    return path


def column(chrome: Chrome, title: str) -> dict[str, str]:
    """The raw figures of a column of the matrix by cell, in the order shown, hidden rows left out."""
    found: list[tuple[str, str]] = chrome.execute_script(
        """
        const titles = [...document.querySelectorAll("#cells thead th")].map((th) => th.textContent.trim());
        const index = titles.indexOf(arguments[0]);
        const rows = [...document.querySelectorAll("#cells tbody tr")].filter((row) => !row.hidden);
        return rows.map((row) => [row.cells[0].textContent, row.cells[index].dataset.value]);
        """,
        title,
    )
    return dict(found)


def heading(chrome: Chrome, title: str) -> Any:
    return next(b for b in chrome.find_elements(By.CSS_SELECTOR, "#cells thead button") if b.text.startswith(title))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_opens_without_a_word_from_the_console_and_fits(chrome: Chrome, page: Path, width: int, dark: bool) -> None:
    assert open_page(chrome, page, width, dark) == []
    assert chrome.execute_script("return document.body.dataset.charts") == "drawn"
    assert chrome.execute_script("return document.documentElement.scrollWidth") <= width
    drawn = chrome.find_elements(By.CSS_SELECTOR, "figure .chart svg")
    assert len(drawn) == 16
    for chart in drawn:
        assert 0 < chart.size["width"] <= width
        assert chrome.execute_script(CUT_OFF, chart) == []
    # Nothing was loaded, from this machine or another.
    assert chrome.execute_script("return performance.getEntriesByType('resource').length") == 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out_from_its_ground_in_charts_too(chrome: Chrome, page: Path, dark: bool) -> None:
    """WCAG's contrast of 4.5 to 1, between what the browser computed for text and for the page."""
    open_page(chrome, page, dark=dark)
    colours = chrome.execute_script(
        """
        const computed = (selector, property) => getComputedStyle(document.querySelector(selector))[property];
        return [computed("body", "backgroundColor"), computed("body", "color"), computed(".conditions", "color"),
                computed("figure svg .role-axis-label text", "fill"), computed(".headline strong", "color")];
        """
    )

    def luminance(colour: str) -> float:
        parts = [int(word) / 255 for word in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    ground, *texts = map(luminance, colours)
    assert (ground < 0.1) == dark
    for text in texts:
        assert (max(ground, text) + 0.05) / (min(ground, text) + 0.05) >= 4.5


def test_paper_has_every_column_in_dark_on_white(chrome: Chrome, moved_page: Path) -> None:
    """Chromium cuts off what is wider than the sheet, the verdicts among it: 720 pixels of a Letter or an A4."""
    open_page(chrome, moved_page, 720, dark=True)
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": dark})
    try:
        cells = "[...document.querySelectorAll(arguments[0])]"
        right = f"return Math.max(...{cells}.map(cell => cell.getBoundingClientRect().right))"
        for name in ("cells", "moved", "all-moved"):
            assert 0 < chrome.execute_script(right, f"#{name} th, #{name} td") <= 720, name
        assert chrome.execute_script("return getComputedStyle(document.body).color") == "rgb(28, 30, 33)"
    finally:
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


def test_the_figures_are_the_records(chrome: Chrome, page: Path, records: dict[str, dict[str, Any]]) -> None:
    open_page(chrome, page)
    for title, section, key in [
        (FLOPS, "flops", "total"),
        (PEAK, "memory", "peak"),
        ("trainable parameters", "parameters", "trainable"),
        ("RSS peak", "measured_memory", "rss_peak"),
    ]:
        assert {c: int(v) for c, v in column(chrome, title).items()} == {c: r[section][key] for c, r in records.items()}
    latencies = {cell: float(value) for cell, value in column(chrome, LATENCY).items()}
    references = {cell: r["latency"]["reference"] for cell, r in records.items()}
    assert latencies == {
        cell: 1 if references[cell] != "fft" else record["latency"]["relative"] for cell, record in records.items()
    }
    refreshes = {cell: value for cell, value in column(chrome, "FLOPs, mean with refreshes").items() if value}
    assert set(refreshes) == {cell for cell in records if "galore" in cell}


def test_charts_draw_the_records_figures(chrome: Chrome, page: Path, records: dict[str, dict[str, Any]]) -> None:
    """What the stacked bars are drawn from adds up to the record's peak."""
    open_page(chrome, page)
    specifications = chrome.execute_script(
        """
        return [...document.querySelectorAll("figure")].map((figure) => [
          figure.querySelector(".chart").dataset.name,
          JSON.parse(figure.querySelector(".specification").textContent),
          figure.querySelector(".conditions").textContent,
        ]);
        """
    )
    for name, specification, conditions in specifications:
        architecture = name.partition("-")[0]
        for said in ("batch 1 of 3×224×224", "torch 2.", "peft 0.", "2 cores", architecture):
            assert said in conditions
        if name.endswith("memory-by-category"):
            rows = [row for data in specification["datasets"].values() for row in data if "category" in row]
            total = sum(row["MiB"] for row in rows if row["cell"] == "lora r=4")
            assert total * 2**20 == pytest.approx(records[f"{architecture}-lora-r4"]["memory"]["peak"])


def test_a_heading_sorts_its_numbers_as_numbers(chrome: Chrome, page: Path) -> None:
    open_page(chrome, page)
    heading(chrome, FLOPS).click()
    rising = [int(value) for value in column(chrome, FLOPS).values()]
    assert rising == sorted(rising)
    assert rising != sorted(rising, key=str), "these figures cannot tell numbers from text"
    shown = chrome.find_element(By.CSS_SELECTOR, "#cells th[aria-sort]")
    assert (shown.get_attribute("aria-sort"), shown.text.split()[0]) == ("ascending", FLOPS)
    heading(chrome, FLOPS).click()
    assert [int(value) for value in column(chrome, FLOPS).values()] == rising[::-1]
    # Decimals, which a comparison that only knows runs of digits gets wrong.
    heading(chrome, LATENCY).click()
    latencies = [float(value) for value in column(chrome, LATENCY).values()]
    assert latencies == sorted(latencies)
    heading(chrome, PEAK).click()
    assert len(chrome.find_elements(By.CSS_SELECTOR, "#cells th[aria-sort]")) == 1


def test_what_was_not_measured_sorts_last_either_way(chrome: Chrome, page: Path) -> None:
    open_page(chrome, page)
    for _ in range(2):
        heading(chrome, "peak of a refreshing step").click()
        figures = list(column(chrome, "peak of a refreshing step").values())
        assert all(figures[:12])
        assert not any(figures[12:])


def test_the_keyboard_reaches_and_sorts(chrome: Chrome, page: Path) -> None:
    open_page(chrome, page)
    chrome.find_element(By.ID, "filter-method").send_keys("")  # focus
    keys = ActionChains(chrome)
    keys.send_keys(Keys.TAB).send_keys(Keys.TAB).perform()  # the matrix, which scrolls, then its first heading
    assert chrome.switch_to.active_element.text.startswith("cell")
    ActionChains(chrome).send_keys(Keys.TAB).send_keys(Keys.ENTER).perform()
    trained = [int(value) for value in column(chrome, "trainable parameters").values()]
    assert trained == sorted(trained)
    outline = chrome.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "focus must be seen"


def test_filters_narrow_the_matrix(chrome: Chrome, page: Path) -> None:
    open_page(chrome, page)
    box = chrome.find_element(By.ID, "filter-text")
    box.send_keys("LoRA-r4")
    assert list(column(chrome, FLOPS)) == [
        f"{name}-lora-r4" for name in ("resnet18", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")
    ]
    Select(chrome.find_element(By.ID, "filter-architecture")).select_by_visible_text("mobilenet_v2")
    assert list(column(chrome, FLOPS)) == ["mobilenet_v2-lora-r4"]
    assert chrome.find_element(By.ID, "shown").text == "1 of 48 cells"
    Select(chrome.find_element(By.ID, "filter-method")).select_by_visible_text("dora")
    assert column(chrome, FLOPS) == {}
    assert chrome.find_element(By.ID, "none-shown").is_displayed()
    box.clear()
    box.send_keys(Keys.ENTER)  # which must not load the page anew
    assert len(column(chrome, FLOPS)) == 3


def test_the_verdict_comes_first(chrome: Chrome, page: Path) -> None:
    open_page(chrome, page)
    assert chrome.find_element(By.CSS_SELECTOR, "main > section").get_attribute("id") == "verdict"
    headline = chrome.find_element(By.CSS_SELECTOR, ".headline").text
    assert headline.startswith("Does not hold its baseline. 48 cells, against other.json: ")
    assert ", 1 regressed" in headline
    moved = chrome.find_element(By.CSS_SELECTOR, "#moved tbody").text
    assert moved.startswith("resnet18-fft memory.peak regressed 189.23 MiB 189.23 MiB +2e-06 %, +4 Bytes")


@pytest.mark.parametrize("width", [1280, 400])
def test_before_now_and_change_are_on_the_screen(chrome: Chrome, moved_page: Path, width: int) -> None:
    open_page(chrome, moved_page, width)
    rows = chrome.find_elements(By.CSS_SELECTOR, "#moved tbody tr")
    assert len(rows) == 5
    for row in rows:
        shown = row.find_elements(By.TAG_NAME, "td")[2:]
        assert [cell.get_attribute("data-label") for cell in shown] == ["before", "now", "change"]
        for cell in shown:
            assert cell.rect["x"] >= 0
            assert cell.rect["x"] + cell.rect["width"] <= width
            assert cell.text.strip()


@pytest.mark.parametrize("width", [1280, 400])
def test_the_matrix_stands_before_the_many_that_moved(chrome: Chrome, moved_page: Path, width: int) -> None:
    open_page(chrome, moved_page, width)
    matrix, moved = (chrome.find_element(By.ID, name).rect["y"] for name in ("matrix", "all-moved"))
    assert matrix < moved
    assert len(chrome.find_elements(By.CSS_SELECTOR, "#all-moved tbody tr")) == 24
    assert "features.3" in chrome.find_element(By.ID, "verdict").text, "the cause is told once, before the figures"


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, True)], ids=["wide-light", "narrow-dark"])
def test_axe_finds_nothing(chrome: Chrome, moved_page: Path, width: int, dark: bool) -> None:
    """Keyboard, names, structure and contrast, of the whole page with everything unfolded."""
    assert open_page(chrome, moved_page, width, dark) == []
    chrome.execute_script("document.querySelectorAll('details').forEach((details) => { details.open = true; });")
    found = Axe().run(chrome)
    assert len(found["passes"]) > 15, "it looked at something"
    told = [(v["id"], v["help"], [node["html"][:200] for node in v["nodes"]][:3]) for v in found["violations"]]
    assert told == []


def test_a_cells_work_is_folded_and_unfolded_by_keyboard(chrome: Chrome, moved_page: Path) -> None:
    open_page(chrome, moved_page, 400)
    first, second = chrome.find_elements(By.CSS_SELECTOR, "#where details.work")[:2]
    assert (first.get_attribute("open"), second.get_attribute("open")) == ("true", None)
    assert "features.3 +" in second.find_element(By.TAG_NAME, "summary").text
    second.find_element(By.TAG_NAME, "summary").send_keys(Keys.ENTER)
    assert second.get_attribute("open") == "true"
    before, now = second.find_elements(By.CSS_SELECTOR, ".treemap")[:2]
    assert before.size["width"] < now.size["width"] <= 400
    dearer = second.find_element(By.CSS_SELECTOR, ".treemap .more-2, .treemap .more-3")
    assert dearer.is_displayed()


def test_a_name_that_looks_like_markup_is_text(chrome: Chrome, tmp_path: Path) -> None:
    evil = '</script><script>document.title="run"</script><b>|x'
    info = [extra_info(Cell(evil, "lora", 4)), extra_info(Cell(evil, "fft"), latency=None)]
    info.append(extra_info(Cell(evil, "my<i>method", 4), **changed("flops", elementwise=1)))
    run = write(tmp_path / "run.json", baseline_data(*info, is_filtered=True))
    page = tmp_path / "page.html"
    assert main(["report", str(run), "--compare", str(run), "--output", str(page), "--no-claims"]) == 0
    assert open_page(chrome, page) == []
    assert chrome.title == "Update benchmark: run.json"
    assert f"{evil}-lora-r4" in column(chrome, FLOPS)
    assert chrome.find_elements(By.CSS_SELECTOR, "b, i") == []
    chart = chrome.find_element(By.CSS_SELECTOR, "figure svg")
    assert "my<i>method r=4" in (chart.get_attribute("textContent") or "")


@pytest.mark.parametrize("width", [1280, 390])
def test_a_long_name_leaves_room_for_its_figures(chrome: Chrome, tmp_path: Path, width: int) -> None:
    """As a user's test of many parameters has: it widened the page, by the filter's list, and hid the figures."""
    run = write(tmp_path / "run.json", baseline_data(extra_info(Cell("x" * 220, "fft")), is_filtered=True))
    page = tmp_path / "page.html"
    assert main(["report", str(run), "--output", str(page), "--no-claims"]) == 0
    open_page(chrome, page, width)
    assert chrome.execute_script("return document.documentElement.scrollWidth") <= width
    assert chrome.find_element(By.CSS_SELECTOR, "#cells tbody th").size["width"] < 0.5 * width
