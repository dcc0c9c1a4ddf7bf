"""What a fit of somebody's photos found, as text and as a page that needs nothing else.

Used by tools.fit.
"""

import base64
import html
import io
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dassl.errors import UserError
from dassl.printable import escaped
from dassl.utils import read_image
from tools import outcomes, report
from tools.outcomes import Answers

SHOWN = 24  # worst mistakes with their pictures
SIDE = 160  # pixels of the longer side of a picture on the page
FULL = 25  # classes up to which the whole confusion matrix is shown
PAIRS = 10  # confusions that are listed
FEW = 30  # test photos below which a sentence says how little they tell

STYLE = (
    report.STYLE.read_text()
    + """
.big { font-size: 1.25rem; } .big b { font-size: 1.6rem; }
.photos { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: 1rem; }
.photos figure { margin: 0; font-size: 13px; overflow-wrap: anywhere; }
.photos img { width: 100%; min-width: 0; height: 10rem; object-fit: contain; background: #8882; }
.note, code { overflow-wrap: anywhere; } .matrix td, .matrix th { padding: .2rem .45rem; }
.matrix td, .matrix th.text { border: 0; } pre { white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 600px) {
  table:not(.matrix) th { white-space: normal; overflow-wrap: normal; }
  table:not(.matrix) th, table:not(.matrix) td { padding: .2rem .35rem; }
}
"""
)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Zero-shot CLIP and the learned model on the same N photos of C classes.

    trained, tested: (C,) numbers of photos. zero_shot, learned: (C, C) numbers of photos, by class
    and predicted class. gain: the difference of accuracies.
    """

    classes: tuple[str, ...]
    trained: NDArray
    tested: NDArray
    zero_shot: NDArray
    learned: NDArray
    gain: outcomes.Difference

    def accuracy(self, matrix: NDArray) -> float:
        """In percent."""
        return 100.0 * float(np.trace(matrix)) / max(1, int(matrix.sum()))

    def per_class(self, matrix: NDArray) -> list[float | None]:
        """Accuracy of each class in percent; None for a class without test photos."""
        rows = zip(matrix.diagonal().tolist(), self.tested.tolist(), strict=True)
        return [100.0 * right / count if count else None for right, count in rows]

    def confusions(self) -> list[tuple[str, str, int]]:
        """(class, what it was taken for, photos) of the learned model, the most frequent first."""
        wrong = self.learned - np.diag(self.learned.diagonal())
        pairs = [
            (self.classes[a], self.classes[b], int(wrong[a, b])) for a, b in np.argwhere(wrong > 0)
        ]
        return sorted(pairs, key=lambda pair: -pair[2])

    def numbers(self) -> dict:
        """All of it, as JSON."""
        return {
            "test_photos": int(self.tested.sum()),
            "accuracy": {
                "zero_shot": self.accuracy(self.zero_shot),
                "learned": self.accuracy(self.learned),
            },
            "gain": asdict(self.gain),
            "classes": [
                {
                    "name": name,
                    "train": int(self.trained[place]),
                    "test": int(self.tested[place]),
                    "zero_shot": self.per_class(self.zero_shot)[place],
                    "learned": self.per_class(self.learned)[place],
                }
                for place, name in enumerate(self.classes)
            ],
            "confusion": self.learned.tolist(),
        }


def compare(zero_shot: Answers, learned: Answers, trained: Mapping[str, int]) -> Comparison:
    """trained: {class: training photos}. Raises InputError for tests on different photos."""
    names = learned.saved.classnames
    matrix = outcomes.confusion(learned)
    return Comparison(
        names,
        np.array([trained.get(name, 0) for name in names]),
        matrix.sum(1),
        outcomes.confusion(zero_shot),
        matrix,
        outcomes.difference(learned, zero_shot),
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _taken_for(found: Comparison, place: int) -> str:
    """The class that photos of a class were most often taken for, with their number."""
    row = found.learned[place].copy()
    row[place] = 0
    return f"{found.classes[int(row.argmax())]} ({row.max()})" if row.any() else ""


def _lines(found: Comparison) -> list[list[str]]:
    """A line of the table for each class, the least accurate first."""
    zero_shot, learned = found.per_class(found.zero_shot), found.per_class(found.learned)
    places = sorted(range(len(found.classes)), key=lambda i: (learned[i] is None, learned[i]))
    return [
        [
            found.classes[i],
            _percent(zero_shot[i]),
            _percent(learned[i]),
            str(found.trained[i]),
            str(found.tested[i]),
            _taken_for(found, i),
        ]
        for i in places
    ]


HEAD = ["class", "zero-shot %", "learned %", "learned from", "tested on", "most often taken for"]


def verdict(found: Comparison) -> str:
    """One sentence on whether learning helped, and how much the test photos can tell."""
    gain, total = found.gain, int(found.tested.sum())
    interval = (
        f"{gain.mean:+.1f} points, 95% interval {gain.low:+.1f} to {gain.high:+.1f}{gain.chance()}"
    )
    if not gain.is_sure:
        words = f"Too few photos to tell whether learning helped ({interval})."
    elif gain.mean > 0:
        words = f"Learning helped ({interval})."
    else:
        words = f"Learning did harm ({interval}): use zero-shot CLIP, or add photos."
    return words + f" {total} test photos are few: add some for a firmer answer." * (total < FEW)


def _tested(found: Comparison) -> str:
    """ " of 1 of 2 classes" where some have no test photos: the accuracy says nothing of those."""
    tested = int((found.tested > 0).sum())
    return "" if tested == len(found.tested) else f" of {tested} of {len(found.tested)} classes"


def text(found: Comparison) -> str:
    """The same for the terminal."""
    lines = [[escaped(cell) for cell in line] for line in _lines(found)]
    head = outcomes.markdown(HEAD, lines)
    return (
        f"zero-shot CLIP  {found.accuracy(found.zero_shot):5.1f} % right\n"
        f"learned         {found.accuracy(found.learned):5.1f} % right, of "
        f"{int(found.tested.sum())} test photos{_tested(found)}\n{verdict(found)}\n\n{head}"
    )


# The page


def page(found: Comparison, learned: Answers, root: Path, about: Mapping) -> str:
    """The whole page.

    root: from where the paths of `learned` count. about: "photos", "clip", "trainer", "epochs",
    "command", "notes", and whether the CLIP is the "bundled" one.
    """
    title = f"Photos: {Path(about['photos']).name}"
    parts = [_head(found, about), _classes(found), _confusion(found), _mistakes(learned, root)]
    how = [f"<li>{_safe(note)}</li>" for note in about["notes"]]
    for what in ("photos", "clip", "trainer", "epochs"):
        how.append(f"<li>{'CLIP' if what == 'clip' else what}: {_safe(str(about[what]))}</li>")
    parts += [
        "<h2>New photos</h2>",
        f"<pre>{_safe(about['command'])}</pre>",
        f"<h2>How it was done</h2><ul class=note>{''.join(how)}</ul>",
        "<p class=note>photos.csv beside this page says which photo was learned from and which was "
        "tested; learned/log.txt has the log.</p>",
    ]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport "
        f"content='width=device-width, initial-scale=1'><title>{_safe(title)}</title>"
        f"<style>{STYLE}</style><h1>{_safe(title)}</h1>" + "\n".join(parts) + "</html>\n"
    )


def _safe(words: str) -> str:
    return html.escape(escaped(words).encode("utf-8", "backslashreplace").decode())


def _head(found: Comparison, about: Mapping) -> str:
    warning = (
        "<p class=down>The bundled CLIP knows drawings and no photos: take these numbers as a "
        "rehearsal.</p>"
        if about["bundled"]
        else ""
    )
    return (
        f"<p class=big>Right on {int(found.tested.sum())} photos{_tested(found)} that were not "
        "learned from: "
        f"<b>{found.accuracy(found.learned):.1f} %</b> learned, "
        f"<b>{found.accuracy(found.zero_shot):.1f} %</b> zero-shot.</p>"
        f"<p>{_safe(verdict(found))}</p>{warning}"
    )


def _table(head: list[str], lines: list[list[str]]) -> str:
    """A table whose first and last columns are text."""
    texts = {0, len(head) - 1}
    kinds = [" class=text" if place in texts else "" for place in range(len(head))]
    top = "".join(f"<th{k}>{_safe(name)}</th>" for k, name in zip(kinds, head, strict=True))
    rows = [
        "".join(f"<td{k}>{_safe(cell)}</td>" for k, cell in zip(kinds, line, strict=True))
        for line in lines
    ]
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{top}</tr>{body}</table></div>'


def _classes(found: Comparison) -> str:
    return "<h2>Classes</h2>" + _table(HEAD, _lines(found))


def _confusion(found: Comparison) -> str:
    """The matrix of the learned model, or for many classes its largest entries."""
    pairs = found.confusions()
    listed = _table(["class", "photos", "taken for"], [[a, str(n), b] for a, b, n in pairs[:PAIRS]])
    more = f"<p class=note>{len(pairs) - PAIRS} more.</p>" if len(pairs) > PAIRS else ""
    said = listed + more if pairs else "<p>Nothing was confused.</p>"
    if len(found.classes) > FULL:
        return f"<h2>What was confused</h2>{said}"
    top = "".join(f"<th>{_safe(name)}</th>" for name in found.classes)
    rows = [
        f"<tr><th class=text>{_safe(name)}</th>"
        + "".join(map(_shaded, row, [row.sum()] * len(row)))
        + "</tr>"
        for name, row in zip(found.classes, found.learned, strict=True)
    ]
    return (
        f"<h2>What was confused</h2>{said}<p class=note>Rows are classes, columns what the learned "
        "model said, numbers photos.</p>"
        f"<div class=wide><table class=matrix><tr><th></th>{top}</tr>{''.join(rows)}</table></div>"
    )


def _shaded(count: int, total: int) -> str:
    share = count / total if total else 0.0
    shade = f" style='background: rgba(40, 110, 200, {0.6 * share:.2f})'" if count else ""
    return f"<td{shade}>{count or ''}</td>"


def _mistakes(learned: Answers, root: Path) -> str:
    """The mistakes of which the model was surest, with their pictures."""
    wrong = np.flatnonzero(~learned.correct)
    worst = wrong[np.argsort(-learned.confidence[wrong], kind="stable")][:SHOWN]
    names, saved = learned.saved.classnames, learned.saved
    figures = [
        f"<figure>{_picture(root / saved.paths[i])}<figcaption>"
        f"<b>{_safe(names[saved.label[i]])}</b>, taken for "
        f"<b class=down>{_safe(names[learned.predicted[i]])}</b> ({learned.confidence[i]:.0%})"
        f"<br><span class=note>{_safe(Path(saved.paths[i]).name)}</span></figcaption></figure>"
        for i in worst
    ]
    if not figures:
        return "<h2>Mistakes</h2><p>None on the test photos.</p>"
    more = f"; {len(figures)} are shown" if len(figures) < len(wrong) else ""
    return (
        f"<h2>Mistakes</h2><p class=note>{len(wrong)} wrong answer(s), those first of which the "
        f"model was surest{more}. A photo in the wrong folder shows up here.</p>"
        f"<div class=photos>{''.join(figures)}</div>"
    )


def _picture(path: Path) -> str:
    """A small JPEG of a photo, in the page itself."""
    try:
        picture = read_image(str(path), (SIDE, SIDE), "white", True)
    except UserError as error:  # taken away since
        sys.stderr.write(f"note: {error}\n")
        return "<p class=note>(cannot be read)</p>"
    picture.thumbnail((SIDE * 2, SIDE * 2), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=80)
    code = base64.b64encode(data.getvalue()).decode()
    return f'<img alt="{_safe(path.name)}" src="data:image/jpeg;base64,{code}">'
