"""The report page in a browser: nothing overlaps, overflows or is cut off at any width; sorting,
dark mode, print, and a page without scripts.

Skipped where there is no Chromium: `pip install playwright` and `apt-get install chromium`.
"""

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image
from test_colours import contrast
from test_own_photos import album, fitted  # noqa: F401 - fixtures

from tools import launchers, plots, report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
TARGETS = tuple(f"shifted_data_set_{number}" for number in range(9))


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    installed = next(filter(None, map(shutil.which, BROWSERS)), None)
    with playwright.sync_playwright() as started:
        try:
            found = started.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium starts here: {str(error).splitlines()[0]}")
        yield found
        found.close()


def put(folder: Path, accuracy: float) -> None:
    folder.mkdir(parents=True)
    record = {"complete": True, "metrics": {"test": {"accuracy": accuracy}}, "config": {}}
    record |= {"epochs": 3, "versions": {"python": "3"}, "wall_time_s": 60}
    (folder / "results.json").write_text(json.dumps(record))


def curve(folder: Path, start: float) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard")) as board:
        for step in range(6):
            board.add_scalar("train/loss", start - 0.2 * step, step)
            board.add_scalar("train/acc", 40 + 5 * step, step)


@pytest.fixture(scope="module")
def page_file(tmp_path_factory) -> Path:
    """A page with everything: wide and long tables, verdicts, curves, failed jobs, long names."""
    output = tmp_path_factory.mktemp("page") / "output"
    cell = "base2new/{}/{}/shots_8/{}/{}/seed{}"
    for trainer, more in (("CoOp", 0.0), ("CraftCoOp", 6.0), ("ZeroshotCLIP", -9.0)):
        for name in ("emoji", "a_data_set_with_a_name_that_goes_on_and_on"):
            for seed in (1, 2, 3):
                for part, level in (("train_base", 80.0), ("test_new", 60.0)):
                    folder = output / cell.format(part, name, trainer, "drawings", seed)
                    put(folder, level + more + (0.3 * seed if more else 0.1 * seed**2))
                    if part == "train_base" and trainer != "ZeroshotCLIP":
                        curve(folder, 2.0 - 0.1 * more)
        for seed in (1, 2):
            for target in TARGETS:
                put(
                    output / f"ood/test_{target}/a_to_b/shots_8/{trainer}/cfg/seed{seed}", 50 + more
                )
    launchers.mark(
        output / cell.format("train_base", "emoji", "VPT", "c" * 90, 1),
        "failed",
        error="out of memory " * 12,
        attempts=2,
    )
    place = output.parent / "page.html"
    with pytest.MonkeyPatch.context() as changes:
        changes.setattr(plots, "DPI", 50)  # drawn sooner, shown in the same size
        assert report.main([str(output), "--out", str(place)]) == 0
    return place


# What a reader cannot reach or read, in words; an empty list is a good page.
MEASURE = """() => {
  const wrong = [], width = document.documentElement.clientWidth;
  const name = (one) => one.tagName + " '" + one.textContent.trim().slice(0, 40) + "'";
  if (document.documentElement.scrollWidth > width) wrong.push("the page scrolls sideways");
  for (const one of document.body.querySelectorAll("*")) {
    const box = one.getBoundingClientRect();
    const scrolls = one.parentElement.closest(".wide, pre");
    if (box.width && !scrolls && (box.right > width + 1 || box.left < -1))
      wrong.push("outside the window: " + name(one));
  }
  for (const box of document.querySelectorAll(".wide")) {
    const table = box.firstElementChild; // or a picture
    if (table.offsetWidth > box.clientWidth + 1) {
      if (getComputedStyle(box).overflowX !== "auto") wrong.push("does not scroll: " + name(box));
      box.scrollLeft = 1e6;
      if (table.getBoundingClientRect().right > box.getBoundingClientRect().right + 1)
        wrong.push("cannot be reached: " + name(box));
      box.scrollLeft = 0;
    }
  }
  for (const one of document.querySelectorAll("th, td"))
    if (one.scrollWidth > one.clientWidth + 1) wrong.push("cut off: " + name(one));
  for (const row of document.querySelectorAll("tr"))
    for (let place = 1; place < row.cells.length; place++) {
      const [left, right] = [row.cells[place - 1], row.cells[place]];
      if (left.getBoundingClientRect().right > right.getBoundingClientRect().left + 1)
        wrong.push("overlaps its neighbour: " + name(left));
    }
  const blocks = [...document.body.children].filter((one) => one.getBoundingClientRect().height);
  blocks.forEach((one, place) => {
    const next = blocks[place + 1];
    if (next && one.getBoundingClientRect().bottom > next.getBoundingClientRect().top + 1)
      wrong.push("overlaps what follows: " + name(one));
  });
  for (const one of document.querySelectorAll("img"))
    if (!one.complete || !one.naturalWidth) wrong.push("a picture is not shown: " + one.alt);
  return wrong;
}"""


def opened(browser, page_file: Path, width: int, **options):
    page = browser.new_page(viewport={"width": width, "height": 900}, **options)
    page.goto(page_file.as_uri())
    return page


@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_of_photos_fits_its_window(browser, fitted, width):  # noqa: F811
    page = opened(browser, fitted[0] / "report.html", width)
    assert page.evaluate(MEASURE) == []
    widths = page.evaluate("[...document.images].map((one) => one.getBoundingClientRect().width)")
    assert widths and max(widths) < 300  # beside each other, not the report's large pictures
    page.close()


@pytest.mark.parametrize("width", [400, 800, 1400])
def test_nothing_overlaps_overflows_or_is_cut_off(browser, page_file, width, tmp_path):
    page = opened(browser, page_file, width)
    said = []
    page.on("console", lambda message: said.append(message.text))
    assert page.evaluate(MEASURE) == []
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    assert page.evaluate(MEASURE) == [] and not said
    page.screenshot(path=str(tmp_path / "page.png"), full_page=True)
    with Image.open(tmp_path / "page.png") as taken:
        assert taken.size[0] == width and taken.size[1] > 900
    page.close()


@pytest.mark.parametrize(
    ("style", "word"),
    [
        (".wide { overflow: visible !important }", "scrolls sideways"),
        (".wide { overflow: hidden !important }", "does not scroll"),
        ("h2 { margin-top: -60px !important }", "overlaps what follows"),
        ("td { display: block; width: 2px; overflow: hidden }", "cut off"),
        (".headline { width: 1600px }", "outside the window"),
    ],
)
def test_what_is_measured_can_fail(browser, page_file, style, word):
    page = opened(browser, page_file, 400)
    page.add_style_tag(content=style)
    assert any(word in sentence for sentence in page.evaluate(MEASURE))
    page.close()


def test_a_heading_sorts_its_table_up_down_and_back(browser, page_file):
    page = opened(browser, page_file, 1400)
    table = page.locator("h2#base2new ~ .wide table").nth(1)  # of accuracies
    heads = table.locator("th").all_inner_texts()
    place = heads.index("base") + 1

    def column() -> list[str]:
        return table.locator(f"tbody tr td:nth-child({place})").all_inner_texts()

    def numbers() -> list[float]:
        return [float(text.split()[0]) for text in column()]

    before = column()
    assert len(before) == 9 and numbers() != sorted(numbers())
    button = table.get_by_role("button", name="base", exact=True)
    button.click()
    assert numbers() == sorted(numbers())
    assert table.locator("th[aria-sort=ascending]").all_inner_texts() == ["base"]
    button.click()
    assert numbers() == sorted(numbers(), reverse=True)
    button.click()
    assert column() == before and table.locator("th[aria-sort]").count() == 0
    table.get_by_role("button", name="trainer").click()
    names = table.locator("tbody tr td:nth-child(2)").all_inner_texts()
    assert names == sorted(names)
    page.close()


def rgb(text: str) -> str:
    return "#" + "".join(f"{int(part):02x}" for part in re.findall(r"\d+", text)[:3])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_read_in_light_and_dark(browser, page_file, scheme):
    page = opened(browser, page_file, 1400, color_scheme=scheme)

    def style(selector: str, name: str) -> str:
        found = page.locator(selector).first
        return rgb(found.evaluate(f"(one) => getComputedStyle(one).{name}"))

    paper, tint = style("body", "backgroundColor"), style(".headline", "backgroundColor")
    assert (contrast(paper) < 1.5) == (scheme == "light")
    for selector in ("body", ".note", "nav a", "td.up", "td.best", "th"):
        for ground in (paper, tint):
            assert contrast(style(selector, "color"), ground) >= 4.5, selector
    assert style("img", "backgroundColor") == "#ffffff"  # pictures are drawn for white
    page.close()


def test_on_paper_all_is_unfolded_and_inside_the_page(browser, page_file, tmp_path):
    page = opened(browser, page_file, 680, color_scheme="dark")  # A4 less its margins
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not page.locator("nav").is_visible()
    assert page.locator("details:not([open])").count() == 0 < page.locator("details").count()
    assert page.evaluate("document.documentElement.scrollWidth") <= 680
    ground = page.locator("body").evaluate("(one) => getComputedStyle(one).backgroundColor")
    assert rgb(ground) == "#ffffff"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0
    assert page.pdf(path=str(tmp_path / "page.pdf")).startswith(b"%PDF")
    page.close()


def test_without_scripts_all_is_there_but_sorting(browser, page_file):
    page = opened(browser, page_file, 1400, java_script_enabled=False)
    assert page.locator("th button").count() == 0 < page.locator("tbody tr").count()
    assert "1 job failed" in page.locator(".headline").inner_text()
    page.close()
