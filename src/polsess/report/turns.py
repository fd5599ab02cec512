"""Who talks when in the recording of a player: the reference over each system's estimate, errors marked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from polsess.report.markup import Attribute, Markup, element
from polsess.timelines import Timeline, Turn

Kind = Literal["missed", "false", "confused"]

_SHORTEST_SECONDS = 0.1
"""Shorter errors are those of edges and are not drawn."""
_LANE_PIXELS = 13
_NAMES: dict[Kind, str] = {"missed": "missed", "false": "false alarm", "confused": "another speaker's"}


@dataclass(frozen=True)
class Conversation:
    """Who talks in one recording, in truth and by a system."""

    speakers: tuple[str, ...]
    """Those who talk."""
    tracks: tuple[str, ...]
    """The track that belongs to each of them."""
    reference: Timeline
    estimate: Timeline
    """Each turn is called as its track."""

    @property
    def lanes(self) -> tuple[tuple[str, str], ...]:
        """The speaker and the track of each row; tracks of nobody follow, if they are heard."""
        rest = dict.fromkeys(turn.speaker for turn in self.estimate if turn.speaker not in self.tracks)
        return (*zip(self.speakers, self.tracks, strict=True), *(("", track) for track in rest))


@dataclass(frozen=True)
class Error:
    """One stretch in which a row is wrong."""

    start: float
    end: float
    lane: int
    kind: Kind
    """``missed``: the speaker is not found; ``false``: the track is active though its speaker is silent;
    ``confused``: both at once, so that one speaker's talk is on another's track."""
    talks: bool
    """Whether the speaker of the row talks."""


def find_errors(conversation: Conversation) -> list[Error]:
    """The stretches in which the estimate differs from the reference, by start, those of 0.1 s and more."""
    lanes = conversation.lanes
    truth = [[turn for turn in conversation.reference if turn.speaker == name] for name, _ in lanes]
    found = [[turn for turn in conversation.estimate if turn.speaker == track] for _, track in lanes]
    edges = [
        (time, change, which, lane)
        for which, rows in enumerate((truth, found))
        for lane, turns in enumerate(rows)
        for turn in turns
        for time, change in ((turn.start, 1), (turn.end, -1))
    ]
    counts = [[0] * len(lanes), [0] * len(lanes)]
    spans: list[Error] = []
    before = 0.0
    for time, change, which, lane in sorted(edges):
        if time > before:
            spans += _span_errors(before, time, counts)
        counts[which][lane] += change
        before = time
    return [each for each in _joined(spans) if each.end - each.start >= _SHORTEST_SECONDS]


def _span_errors(start: float, end: float, counts: Sequence[Sequence[int]]) -> list[Error]:
    """The errors of a span in which nobody begins or ends."""
    active = [(real > 0, heard > 0) for real, heard in zip(*counts, strict=True)]
    missed, false = ((True, False) in active), ((False, True) in active)
    found: list[Error] = []
    for lane, (real, heard) in enumerate(active):
        if real != heard:
            kind: Kind = "confused" if missed and false else "missed" if real else "false"
            found.append(Error(start, end, lane, kind, real))
    return found


def _joined(errors: Iterable[Error]) -> list[Error]:
    """Errors of one lane and kind that follow each other, as one; by start."""
    last: dict[tuple[int, Kind, bool], Error] = {}
    done: list[Error] = []
    for each in errors:
        key = (each.lane, each.kind, each.talks)
        before = last.get(key)
        if before is not None and before.end == each.start:
            last[key] = replace(each, start=before.start)
            continue
        if before is not None:
            done.append(before)
        last[key] = each
    return sorted([*done, *last.values()], key=lambda each: (each.start, each.lane))


def show_turns(name: str, conversation: Conversation, seconds: float) -> tuple[Markup, list[float]]:
    """A row per speaker, the reference over the estimate, and where the errors begin.

    Args:
        name: The system.
        conversation: Who talks when.
        seconds: Length of what is shown, from the beginning of the recording.
    """
    errors = [each for each in find_errors(conversation) if each.start < seconds]
    rows = [
        _row(lane, pair, conversation, [each for each in errors if each.lane == lane], seconds)
        for lane, pair in enumerate(conversation.lanes)
    ]
    sums = dict.fromkeys(_NAMES, 0.0)
    for each in errors:
        if each.talks or each.kind == "false":  # a confusion is marked on both rows
            sums[each.kind] += min(each.end, seconds) - each.start
    said = ", ".join(f"{_NAMES[kind]} {total:.1f} s" for kind, total in sums.items() if total) or "no errors"
    caption = element("figcaption", f"{name}: {said}")
    return element("figure", caption, *rows, class_="turns"), sorted({each.start for each in errors})


def _row(
    lane: int, pair: tuple[str, str], conversation: Conversation, errors: Sequence[Error], seconds: float
) -> Markup:
    speaker, track = pair
    real = [turn for turn in conversation.reference if turn.speaker == speaker] if speaker else []
    heard = [turn for turn in conversation.estimate if turn.speaker == track]
    bars = [
        *(_bar(turn, seconds, 0, f"real s{lane % 6}", f"{speaker}, reference") for turn in real),
        *(
            _bar(turn, seconds, _LANE_PIXELS, f"heard s{lane % 6}", f"{track}, estimate{_sure(turn)}")
            for turn in heard
        ),
        *(_bar(each, seconds, 2 * _LANE_PIXELS, each.kind, _NAMES[each.kind]) for each in errors),
    ]
    label = f"{speaker or 'nobody'}: {len(real)} turns, {len(heard)} on {track}, {len(errors)} errors"
    picture = element("svg", *bars, width="100%", height=3 * _LANE_PIXELS, role="img", aria_label=label)
    head = element("span", class_="head", aria_hidden="true")
    title = element("span", speaker or "nobody", element("small", track), class_="who")
    return element("div", title, element("div", picture, head, class_="picture"), class_="lane")


def _sure(turn: Turn) -> str:
    return "" if turn.confidence is None else f", confidence {turn.confidence:.2f}"


def _bar(stretch: Turn | Error, seconds: float, y: int, style: str, what: str) -> Markup:
    start, end = max(0.0, stretch.start), min(stretch.end, seconds)
    if start >= end:
        return Markup()
    place: dict[str, Attribute] = {
        "x": f"{100 * start / seconds:.3f}%",
        "width": f"{100 * (end - start) / seconds:.3f}%",
        "y": y + 1,
        "height": _LANE_PIXELS - 2 if style != "false" else _LANE_PIXELS // 2 - 1,
    }
    title = element("title", f"{what}, {stretch.start:.2f} to {stretch.end:.2f} s")
    return element("rect", title, class_=style, **place)


def legend() -> Markup:
    """What the bars mean."""
    kinds: dict[str, str] = {"real": "reference", "heard": "estimate"}
    kinds |= {str(kind): name for kind, name in _NAMES.items()}
    items = []
    for style, name in kinds.items():
        swatch = element(
            "rect", class_=f"{style} s0", x=1, y=2, width=20, height=5 if style == "false" else 11
        )
        items.append(
            element(
                "li", element("svg", swatch, width=22, height=15, aria_hidden="true"), element("span", name)
            )
        )
    return element("ul", *items, class_="legend turns")
