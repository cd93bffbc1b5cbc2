"""Draw the pictures of the documentation into ``docs/pictures``: ``python scripts/pictures.py``.

They are narrow, so that a phone need not shrink their text, and take the colours of the page that
they are part of; by themselves, as in a README, those of the reader's light or dark mode.
"""

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
WIDTH = 400
LINE = 17  # from one line of text to the next
STYLE = """
.hw-picture { --hw-text: #1b1f24; --hw-soft: #57606a; --hw-box: #f6f8fa; --hw-edge: #afb8c1;
  --hw-good: #2757dd; --hw-bad: #b42318; --hw-back: #ffffff; font: 14px system-ui, sans-serif; }
@media (prefers-color-scheme: dark) { .hw-picture { --hw-text: #e6edf3; --hw-soft: #9da7b1;
  --hw-box: #1c2128; --hw-edge: #57606a; --hw-good: #79a6ff; --hw-bad: #ff8a7a;
  --hw-back: #131416; } }
body[data-theme="light"] .hw-picture { --hw-text: #1b1f24; --hw-soft: #57606a; --hw-box: #f6f8fa;
  --hw-edge: #afb8c1; --hw-good: #2757dd; --hw-bad: #b42318; --hw-back: #ffffff; }
body[data-theme="dark"] .hw-picture { --hw-text: #e6edf3; --hw-soft: #9da7b1; --hw-box: #1c2128;
  --hw-edge: #57606a; --hw-good: #79a6ff; --hw-bad: #ff8a7a; --hw-back: #131416; }
.hw-picture text { fill: var(--hw-text); }
.hw-picture .soft { fill: var(--hw-soft); font-size: 13px; }
.hw-picture .over { paint-order: stroke; stroke: var(--hw-back); stroke-width: 5; }
.hw-picture .bold { font-weight: 600; }
.hw-picture .good-text { fill: var(--hw-good); }
.hw-picture .bad-text { fill: var(--hw-bad); }
.hw-picture rect { fill: var(--hw-box); stroke: var(--hw-edge); }
.hw-picture rect.good { stroke: var(--hw-good); stroke-width: 2; }
.hw-picture rect.bad { stroke: var(--hw-bad); stroke-width: 2; }
.hw-picture path { fill: none; stroke: var(--hw-soft); stroke-width: 1.5; }
.hw-picture path.good { stroke: var(--hw-good); }
.hw-picture path.bad { stroke: var(--hw-bad); }
.hw-picture path.lane { stroke: var(--hw-edge); stroke-dasharray: 3 4; }
.hw-picture path.head { fill: var(--hw-soft); stroke: none; }
.hw-picture path.head.good { fill: var(--hw-good); }
.hw-picture path.head.bad { fill: var(--hw-bad); }
"""


class Picture:
    """One picture that grows downwards."""

    def __init__(self, title: str, said: str) -> None:
        """Begin; ``said`` is told to who cannot see it."""
        self.title = title
        self.said = said
        self.parts: list[str] = []

    def text(self, x: float, y: float, words: str, style: str = "", anchor: str = "middle") -> None:
        """Write a line of text."""
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"'
            + (f' class="{style}"' if style else "")
            + f">{escape(words)}</text>"
        )

    def box(self, x: float, y: float, width: float, lines: Sequence[str], style: str = "") -> float:
        """Draw a box, its first line bold; return where it ends."""
        height = LINE * len(lines) + 13
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"'
            + (f' class="{style}"/>' if style else "/>")
        )
        for number, line in enumerate(lines):
            self.text(x + width / 2, y + 20 + LINE * number, line, "soft" if number else "bold")
        return y + height

    def arrow(self, x: float, y: float, to_x: float, to_y: float, style: str = "") -> None:
        """Draw an arrow, straight along one of the axes."""
        across = 1 if to_x > x else -1 if to_x < x else 0
        down = 1 if to_y > y else -1 if to_y < y else 0
        ends = f"M{x:g} {y:g}L{to_x - 7 * across:g} {to_y - 7 * down:g}"
        back_x, back_y = to_x - 9 * across, to_y - 9 * down
        head = (
            f"M{to_x:g} {to_y:g}"
            f"L{back_x - 5 * down:g} {back_y - 5 * across:g}"
            f"L{back_x + 5 * down:g} {back_y + 5 * across:g}Z"
        )
        self.parts.append(f'<path d="{ends}"' + (f' class="{style}"/>' if style else "/>"))
        self.parts.append(f'<path d="{head}" class="head {style}"/>'.replace(' "', '"'))

    def lanes(self, names: Sequence[str], xs: Sequence[float], until: float) -> None:
        """Draw who takes part, each with a line down."""
        for name, x in zip(names, xs, strict=True):
            self.parts.append(f'<path d="M{x:g} 40V{until:g}" class="lane"/>')
            self.box(x - 58, 8, 116, [name])

    def message(self, x: float, to_x: float, y: float, words: str, style: str = "") -> None:
        """Draw an arrow between two lanes with its words above."""
        self.text((x + to_x) / 2, y - 7, words, f"soft over {style}-text" if style else "soft over")
        self.arrow(x, y, to_x, y, style)

    def done(self, height: float) -> str:
        """Return the file."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="hw-picture" role="img" '
            f'viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}">\n'
            f"<title>{escape(self.title)}</title>\n<desc>{escape(self.said)}</desc>\n"
            f"<style>{STYLE}</style>\n" + "\n".join(self.parts) + "\n</svg>\n"
        )


def events() -> str:
    """Draw a log, and the state that it gives."""
    picture = Picture(
        "Events are what is stored; the state is made from them",
        "Five events of one account, each with the balance after it: opened 0, deposited 50 gives "
        "50, withdrawn 20 gives 30, deposited 5 gives 35, withdrawn 30 gives 5.",
    )
    picture.text(20, 24, "what is stored", "bold", "start")
    picture.text(380, 24, "balance", "bold", "end")
    log = [
        ("AccountOpened", "0"),
        ("MoneyDeposited 50", "50"),
        ("MoneyWithdrawn 20", "30"),
        ("MoneyDeposited 5", "35"),
        ("MoneyWithdrawn 30", "5"),
    ]
    for number, (event, balance) in enumerate(log, 1):
        y = 38 + 40 * (number - 1)
        last = number == len(log)
        picture.text(28, y + 20, str(number), "soft")
        picture.box(46, y, 218, [event], "good" if last else "")
        picture.arrow(270, y + 15, 330, y + 15, "good" if last else "")
        picture.text(380, y + 20, balance, "good-text bold" if last else "soft", "end")
    picture.text(200, 252, "nothing is overwritten: the past can be asked, too", "soft")
    return picture.done(264)


def command() -> str:
    """Draw the way of a command, and of what follows."""
    picture = Picture(
        "The way of a command",
        "A client sends a command to the command side. The aggregate decides on its state and "
        "gives an event. The event store keeps it, then the client is answered. A projection "
        "follows the store and changes a view. Queries read the view.",
    )
    y = picture.box(110, 8, 180, ["client"])
    picture.arrow(200, y, 200, y + 36)
    picture.text(210, y + 22, "POST …/withdrawals", "soft", "start")
    y = picture.box(70, y + 36, 260, ["command", "WithdrawMoney: what is wanted"])
    picture.arrow(200, y, 200, y + 26)
    y = picture.box(70, y + 26, 260, ["aggregate Account/7", "its state, and the rule: decides"])
    refused = y - 24
    picture.arrow(330, refused, 392, refused, "bad")
    picture.text(362, refused - 7, "or: no", "soft bad-text")
    picture.arrow(200, y, 200, y + 26)
    y = picture.box(70, y + 26, 260, ["event", "MoneyWithdrawn: what happened"], "good")
    picture.arrow(200, y, 200, y + 26)
    y = picture.box(70, y + 26, 260, ["event store", "on disk; now the client is answered"])
    picture.parts.append(f'<path d="M70 {y - 24:g}H30V23H101" class="good"/>')
    picture.parts.append('<path d="M110 23L101 18L101 28Z" class="head good"/>')
    picture.text(36, 200, "200", "soft good-text", "start")
    picture.arrow(200, y, 200, y + 30)
    picture.text(210, y + 20, "a moment later", "soft", "start")
    y = picture.box(70, y + 30, 260, ["projection", "one event after the other"])
    picture.arrow(200, y, 200, y + 26)
    y = picture.box(70, y + 26, 260, ["view", "AccountView 7: what is shown"])
    picture.arrow(200, y + 34, 200, y)
    picture.text(210, y + 24, "GET /accounts/7", "soft", "start")
    y = picture.box(110, y + 34, 180, ["query"])
    return picture.done(y + 10)


def token() -> str:
    """Draw how a query waits for what its caller has done."""
    picture = Picture(
        "A consistency token",
        "The client sends a command and is answered with token 5. Its query carries the token. The "
        "query side, whose view has seen event 4, waits for event 5 and then answers.",
    )
    client, writing, reading = 62.0, 200.0, 338.0
    picture.lanes(["client", "command side", "query side"], [client, writing, reading], 322)
    picture.message(client, writing, 72, "withdraw 30")
    picture.text(writing + 8, 92, "event 5 is stored", "soft", "start")
    picture.message(writing, client, 116, "200, token: 5", "good")
    picture.message(client, reading, 156, "balance? token: 5", "good")
    picture.box(reading - 52, 168, 104, ["waits", "view is at 4"])
    picture.message(writing, reading, 240, "event 5")
    picture.text(reading - 8, 262, "view is at 5", "soft", "end")
    picture.message(reading, client, 294, "balance 5")
    return picture.done(332)


def saga() -> str:
    """Draw a saga whose second step is refused."""
    picture = Picture(
        "A saga with compensation",
        "A transfer of 20 from account A to account B. The saga withdraws from A. Its deposit to B "
        "is refused, as B is closed. So it deposits the 20 to A again, and the transfer has "
        "failed.",
    )
    one, middle, other = 62.0, 200.0, 338.0
    picture.lanes(["account A", "saga", "account B"], [one, middle, other], 362)
    picture.text(middle + 8, 66, "TransferRequested", "soft", "start")
    picture.message(middle, one, 96, "WithdrawMoney 20")
    picture.message(one, middle, 128, "MoneyWithdrawn")
    picture.message(middle, other, 168, "DepositMoney 20")
    picture.message(other, middle, 200, "refused: closed", "bad")
    picture.message(middle, one, 248, "DepositMoney 20", "bad")
    picture.text(middle + 8, 252, "undo", "soft bad-text", "start")
    picture.message(one, middle, 280, "MoneyDeposited")
    picture.box(middle - 78, 304, 156, ["FailTransfer, End"])
    return picture.done(372)


def system() -> str:
    """Draw the parts of a system, and which way the data goes."""
    picture = Picture(
        "The way of the data",
        "Clients reach the gateway. It sends writes to the command side, reads to the query side. "
        "On the command side a command goes over the command bus to the repository, and the "
        "aggregate's command handler; its events go into the event store. Processors follow the "
        "store and keep views, which the query side reads. A relay follows the store, too, and "
        "publishes on the event bus, from which processors and sagas of other services read.",
    )
    left, right, wide = 8.0, 212.0, 180.0
    y = picture.box(110, 8, 180, ["client"])
    picture.arrow(200, y, 200, y + 24)
    y = picture.box(60, y + 24, 280, ["gateway", "Envoy; routes come from discovery"])
    top = y + 30
    picture.arrow(98, y, 98, top)
    picture.text(106, y + 20, "writes", "soft", "start")
    picture.arrow(302, y, 302, top)
    picture.text(294, y + 20, "reads", "soft", "end")
    steps = [
        (["command side", "JSON → command"], ["query side", "GET → query"]),
        (["command bus"], ["query bus", "waits for the token"]),
        (["repository", "the aggregate"], ["view store", "views and progress"]),
        (["command handler", "decides → events"], None),
    ]
    y = top
    store = 0.0
    for number, (write, read) in enumerate(steps):
        below = picture.box(left, y, wide, write)
        if read:
            ends = picture.box(right, y, wide, read)
            if number < 2:
                picture.arrow(302, ends, 302, y + 72)
        if number == 2:
            store = y + 47
        picture.arrow(98, below, 98, y + 72 if number < 3 else y + 78)
        y += 72
    y += 6
    picture.arrow(302, y - 26, 302, store, "good")
    picture.box(right, y - 26, wide, ["processors", "event handlers,", "in segments"])
    picture.box(left, y, wide, ["event store", "the only truth"], "good")
    picture.arrow(188, y + 23, 212, y + 23, "good")
    picture.arrow(98, y + 47, 98, y + 80)
    picture.text(106, y + 67, "relay", "soft", "start")
    picture.box(left, y + 80, wide, ["event bus", "to other services"])
    picture.arrow(188, y + 103, 212, y + 103)
    y = picture.box(right, y + 80, wide, ["processors, sagas", "of other services"])
    return picture.done(y + 10)


DRAWN: dict[str, Callable[[], str]] = {
    "events": events,
    "command": command,
    "token": token,
    "saga": saga,
    "system": system,
}


def main() -> None:
    """Draw all of them."""
    PICTURES.mkdir(exist_ok=True)
    for name, draw in DRAWN.items():
        (PICTURES / f"{name}.svg").write_text(draw())


if __name__ == "__main__":
    main()
