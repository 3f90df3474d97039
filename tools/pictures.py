"""Draw the course's pictures, in English and in Chinese: notebooks/pictures and its zh twin.

    python tools/pictures.py

Curves and numbers come from the autoscaler and the memory model themselves. A picture has its own
background, since a page cannot tell an image whether it is light or dark: the system does.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from qwenkit.autoscaling.annotations import ScalingSpec
from qwenkit.autoscaling.kpa import TICK_S, Decider
from qwenkit.capacity.memory import fit

ROOT = Path(__file__).parent.parent / "notebooks"
_STYLE = """
svg { --paper: #ffffff; --ink: #1f2328; --soft: #59636e; --line: #8c959f; --box: #f6f8fa;
 --blue: #0969da; --blues: #ddf4ff; --amber: #9a6700; --ambers: #fff8c5; --green: #1a7f37;
 --greens: #dafbe1; --red: #cf222e; --reds: #ffebe9; --violet: #8250df; --violets: #fbefff; }
@media (prefers-color-scheme: dark) {
 svg { --paper: #0d1117; --ink: #e6edf3; --soft: #9198a1; --line: #656c76; --box: #151b23;
 --blue: #4493f8; --blues: #0c2d6b; --amber: #d29922; --ambers: #3b2300; --green: #3fb950;
 --greens: #04260f; --red: #f85149; --reds: #490202; --violet: #ab7df8; --violets: #271052; } }
text { font-family: system-ui, "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif;
 fill: var(--ink); font-size: 14px; } .soft { fill: var(--soft); font-size: 12.5px; }
.bold { font-weight: 600; }
"""


class Picture:
    """An SVG that grows by boxes, arrows and texts; ``say`` puts the texts into a language."""

    def __init__(self, width: int, height: int, title: str, say: Callable[[str], str]) -> None:
        self.say, self.size, self.title, self.parts = say, (width, height), say(title), list[str]()

    def text(self, x: float, y: float, words: str, css: str = "", anchor: str = "middle") -> None:
        """Write lines, the first one's baseline at ``y``."""
        for line in self.say(words).split("\n"):
            self.parts.append(
                f'<text x="{x:g}" y="{y:g}" class="{css}" text-anchor="{anchor}">'
                f"{escape(line)}</text>"
            )
            y += 17

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        words: str,
        note: str = "",
        color: str = "",
        dashed: bool = False,
    ) -> None:
        """Draw a box with a name and a note under it."""
        fill, edge = (
            (f"var(--{color}s)", f"var(--{color})") if color else ("var(--box)", "var(--line)")
        )
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{fill}" '
            f'stroke="{edge}" stroke-width="1.5"{dash}/>'
        )
        lines = len(self.say(words).split("\n"))
        notes = len(self.say(note).split("\n")) if note else 0
        top = y + height / 2 - (lines + notes) * 8.5 + 13
        self.text(x + width / 2, top, words, "bold")
        if note:
            self.text(x + width / 2, top + 17 * lines, note, "soft")

    def arrow(
        self,
        points: Sequence[tuple[float, float]],
        words: str = "",
        at: tuple[float, float] | None = None,
        color: str = "ink",
        dashed: bool = False,
        anchor: str = "middle",
    ) -> None:
        """Draw an arrow along points, with words at ``at``."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="var(--{color})" stroke-width="1.8" '
            f'marker-end="url(#{color})"{dash}/>'
        )
        if words and at:
            self.text(*at, words, "soft", anchor)

    def line(self, points: Sequence[tuple[float, float]], color: str, width: float = 2) -> None:
        """Draw a line."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="var(--{color})" '
            f'stroke-width="{width:g}" stroke-linejoin="round"/>'
        )

    def area(self, x: float, y: float, width: float, height: float, color: str) -> None:
        """Fill a rectangle."""
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'fill="var(--{color})"/>'
        )

    def svg(self) -> str:
        """Return the picture."""
        width, height = self.size
        heads = "".join(
            f'<marker id="{color}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" '
            f'fill="var(--{color})"/></marker>'
            for color in ("ink", "blue", "amber", "green", "violet")
        )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" aria-label="{escape(self.title)}">\n'
            f"<title>{escape(self.title)}</title>\n<style>{_STYLE}</style>\n<defs>{heads}</defs>\n"
            f'<rect width="{width}" height="{height}" rx="10" fill="var(--paper)"/>\n'
            + "\n".join(self.parts)
            + "\n</svg>\n"
        )


def data_path(say: Callable[[str], str]) -> Picture:
    """From the hub to the pod, and from a client to the pod."""
    p = Picture(860, 330, "The way of the weights and the way of a request", say)
    p.text(20, 32, "The weights, once", "bold", "start")
    p.box(20, 50, 112, 64, "ModelScope", "model hub")
    p.arrow([(132, 82), (240, 82)], "upload:\nparts, CRC-64", (185, 58), "blue")
    p.box(240, 50, 112, 64, "OSS bucket", "9.13 GB, kept", "blue")
    p.arrow([(352, 82), (460, 82)], "mounted by\nthe CSI driver", (405, 58), "blue")
    p.box(460, 50, 130, 64, "PV and PVC", "read-only")
    p.area(655, 30, 190, 280, "greens")
    p.arrow([(590, 82), (668, 82)], color="blue")
    p.text(750, 52, "Pod on a GPU node", "bold")
    p.box(670, 64, 160, 62, "vLLM", "weights in GPU memory", "green")
    p.box(670, 226, 160, 62, "queue-proxy", "counts what is in flight", "amber")
    p.arrow([(750, 226), (750, 128)], "one by one\nto port 8000", (742, 172), anchor="end")
    p.text(20, 204, "A request, each time", "bold", "start")
    p.box(20, 226, 112, 62, "client", "curl, openai")
    p.arrow([(132, 257), (240, 257)], "Host: …", (186, 248))
    p.box(240, 226, 112, 62, "gateway", "routes by Host")
    p.arrow([(352, 257), (440, 257)])
    p.box(440, 226, 150, 62, "activator", "holds it while\nno pod is ready")
    p.arrow([(590, 257), (668, 257)])
    p.box(440, 148, 150, 46, "autoscaler (KPA)", "", "amber")
    p.arrow([(668, 240), (612, 240), (612, 180), (592, 180)], color="amber", dashed=True)
    p.arrow([(515, 226), (515, 196)], color="amber", dashed=True)
    p.arrow([(590, 158), (653, 158)], "pods: 0 … 3", (648, 140), "amber", anchor="end")
    p.text(642, 306, "dashed: numbers that the autoscaler gets", "soft", "end")
    return p


def request_path(say: Callable[[str], str]) -> Picture:
    """Through the gateway, with no pod and with some."""
    p = Picture(860, 400, "The path of a request: no pod, and pods that are ready", say)
    for y, head, color in ((16, "Scaled to zero", "amber"), (216, "Pods are ready", "green")):
        p.parts.append(
            f'<rect x="12" y="{y}" width="836" height="168" rx="10" fill="none" '
            f'stroke="var(--{color})"/>'
        )
        p.text(28, y + 26, head, "bold", "start")
        p.box(28, y + 58, 100, 56, "client")
        p.arrow([(128, y + 86), (188, y + 86)], "Host", (158, y + 78))
        p.box(188, y + 58, 120, 56, "gateway", "Kourier or ALB")
    p.arrow([(308, 102), (370, 102)])
    p.box(370, 74, 150, 56, "activator", "holds the request", "amber")
    p.arrow([(445, 132), (445, 150)], color="amber")
    p.text(466, 168, "1  “one is waiting”  →  autoscaler: 0 → 1 pod", "soft")
    p.arrow([(520, 102), (628, 102)], "3  sends it on", (574, 94), "ink", dashed=True)
    p.box(630, 64, 202, 78, "Pod", "2  cold start: node, image,\nweights, engine", "", dashed=True)
    p.arrow([(308, 302), (370, 302)])
    p.box(370, 268, 170, 68, "activator", "stays while there is\nlittle spare capacity")
    p.area(620, 256, 212, 92, "greens")
    p.arrow([(540, 302), (628, 302)])
    p.box(630, 274, 92, 56, "queue-\nproxy", "", "amber")
    p.arrow([(722, 302), (746, 302)])
    p.box(746, 274, 76, 56, "vLLM", "", "green")
    p.arrow([(248, 274), (248, 248), (676, 248), (676, 272)], color="green", dashed=True)
    p.text(390, 242, "directly, once spare capacity exceeds target-burst-capacity (211)", "soft")
    p.arrow([(676, 330), (676, 366), (600, 366)], color="amber", dashed=True)
    p.text(594, 370, "requests in flight → autoscaler, each second", "soft", "end")
    return p


_TERMS = tomllib.loads(Path(__file__).with_name("pictures.zh.toml").read_text("utf-8"))


def _chinese(words: str) -> str:
    """Return the words in Chinese; numbers stay."""
    if words in _TERMS or not words.strip("0123456789 s"):
        return str(_TERMS.get(words, words))
    for english, chinese in sorted(_TERMS.items(), key=lambda item: -len(item[0])):
        if words.startswith(english) or words.endswith(english):
            return words.replace(english, chinese)
    raise SystemExit(f"no Chinese for {words!r}: add it to tools/pictures.zh.toml")


_SECONDS = 190


def _windows() -> list[tuple[int, float, float, float, int, int, bool]]:
    """Return second, load, both averages, desired, ready and panic of a burst of 20 s."""
    spec, cold_s = ScalingSpec(target=1.4, total=2.0, max_scale=3), 40
    decider, ready, due = Decider(spec, ready=1, now=0.0), 1, list[int]()
    rows = []
    for second in range(-60, _SECONDS):
        load = 6.0 if 20 <= second < 40 else 1.0
        decider.record(second + 60, load, 0.0)
        while due and due[0] <= second:
            due.pop(0)
            ready += 1
        if second % TICK_S == 0 and (made := decider.decide(second + 60, ready)):
            desired = min(3, made.desired)
            if desired > ready + len(due):
                due += [second + cold_s] * (desired - ready - len(due))
            elif desired < ready:
                ready, due = desired, []
            last = made
        rows.append((second, load, last.stable, last.panic, desired, ready, last.panicking))
    return [row for row in rows if row[0] >= 0]


def windows(say: Callable[[str], str]) -> Picture:
    """Both averages of a burst, and what they make of it."""
    p = Picture(860, 430, "A burst, the stable and the panic window, and the replicas", say)
    rows = _windows()

    def x(second: float) -> float:
        return 60 + second * 770 / _SECONDS

    def y(value: float) -> float:
        return 240 - value * 30

    panic = [row[0] for row in rows if row[6]]
    p.area(x(panic[0]), 44, x(panic[-1]) - x(panic[0]), 346, "ambers")
    p.text(
        (x(panic[0]) + x(panic[-1])) / 2,
        38,
        "panic: it follows the short window, and never scales down",
        "soft",
    )
    p.text(20, 24, "requests in flight", "soft", "start")
    for value in (0, 2, 4, 6):
        p.line([(60, y(value)), (830, y(value))], "box", 1)
        p.text(50, y(value) + 5, str(value), "soft", "end")
    p.line([(x(r[0]), y(r[1])) for r in rows], "line", 1.2)
    p.line([(x(r[0]), y(r[2])) for r in rows], "blue", 2.5)
    p.line([(x(r[0]), y(r[3])) for r in rows], "violet", 2.5)
    p.text(x(64), y(3.4), "panic window, 6 s: sees the burst at once", "soft", "start")
    p.line([(x(42.5), y(3.6)), (x(62.5), y(3.6))], "violet", 1.2)
    p.text(x(92), y(2.2) - 6, "stable window, 60 s: slow on purpose", "soft", "start")
    p.line([(x(83), y(2.2) - 10), (x(90.5), y(2.2) - 10)], "blue", 1.2)
    p.text(20, 282, "replicas", "soft", "start")

    def z(value: float) -> float:
        return 380 - value * 28

    for value in (0, 1, 2, 3):
        p.line([(60, z(value)), (830, z(value))], "box", 1)
        p.text(50, z(value) + 5, str(value), "soft", "end")
    p.line([(x(r[0]), z(r[4]) - 1.5) for r in rows], "amber", 2.5)
    p.line([(x(r[0]), z(r[5]) + 1.5) for r in rows], "green", 2.5)
    asked = next(r[0] for r in rows if r[4] == 3)
    came = next(r[0] for r in rows if r[5] == 3)
    p.text(x((asked + came) / 2), z(2) - 4, "cold start", "soft")
    p.text(x(came + 3), z(3) - 10, "desired", "soft", "start")
    p.line([(x(came + 3) - 18, z(3) - 14), (x(came + 3) - 4, z(3) - 14)], "amber", 2.5)
    p.text(x(came + 30), z(3) - 10, "ready", "soft", "start")
    p.line([(x(came + 30) - 18, z(3) - 14), (x(came + 30) - 4, z(3) - 14)], "green", 2.5)
    for second in range(0, _SECONDS, 20):
        p.text(x(second), 408, f"{second} s", "soft")
    p.text(
        430,
        425,
        "target 2, so 1.4 for each replica; max-scale 3; here a cold start takes 40 s",
        "soft",
    )
    return p


def rollout(say: Callable[[str], str]) -> Picture:
    """Two revisions: with a spare GPU, and without."""
    p = Picture(860, 380, "A rollout with a spare GPU, and one without", say)
    for y, head, second in (
        (20, "surge: the new revision needs a GPU of its own, and nobody waits", True),
        (
            206,
            "replace: no GPU is spare; the old revision ends first, and nobody answers for a while",
            False,
        ),
    ):
        p.text(20, y + 14, head, "bold", "start")
        lanes = ("GPU 1", "GPU 2") if second else ("GPU 1",)
        for i, lane in enumerate(lanes):
            p.text(28, y + 58 + 56 * i, lane, "", "start")
        if second:
            p.box(90, y + 32, 470, 42, "revision 1 answers", "", "blue")
            p.box(300, y + 88, 200, 42, "revision 2: cold start", "", "amber", True)
            p.box(500, y + 88, 340, 42, "revision 2 answers", "", "green")
            p.arrow([(500, y + 76), (500, y + 86)], color="green")
            p.text(508, y + 148, "ready: now the traffic moves", "soft", "start")
        else:
            p.box(90, y + 32, 210, 42, "revision 1 answers", "", "blue")
            p.box(300, y + 32, 200, 42, "revision 2: cold start", "", "amber", True)
            p.box(500, y + 32, 340, 42, "revision 2 answers", "", "green")
            p.line([(302, y + 88), (498, y + 88)], "red", 3)
            p.text(400, y + 108, "the gap: predicted before, measured after", "soft")
    p.arrow([(90, 352), (838, 352)], "time", (464, 370))
    return p


def gpu_memory(say: Callable[[str], str]) -> Picture:
    """What the memory of a V100 is used for."""
    found = fit("V100-16", "Qwen-7B-Chat-Int8")
    p = Picture(860, 230, "The memory of a GPU: weights, activations, KV cache", say)
    p.text(20, 32, f"V100-16: {found.usable_gib:.2f} GiB that a program can use", "bold", "start")
    rest = found.usable_gib * 0.05
    x, scale = 20.0, 820 / found.usable_gib
    for gib, name, note, color in (
        (found.weights_gib, "weights", "read once, from the volume", "blue"),
        (found.activation_gib, "activation", "one step", "violet"),
        (found.kv_gib, "KV cache", f"{found.kv_tokens} tokens: all requests share it", "green"),
        (rest, "", "", "amber"),
    ):
        label = f"{name}\n{gib:.1f} GiB" if name else ""
        p.box(round(x), 52, round(gib * scale), 84, label, color=color)
        if note:
            p.text(x + gib * scale / 2, 160, note, "soft")
        x += gib * scale
    p.text(840, 182, "5 %: left free by --gpu-memory-utilization 0.95", "soft", "end")
    p.arrow([(824, 168), (824, 140)], color="amber")
    p.text(
        20,
        212,
        "A request of 1,000 tokens in and 32 out takes 1,032 of these tokens. "
        "When they are all taken, the next request waits.",
        "soft",
        "start",
    )
    return p


PICTURES = {
    "data-path": data_path,
    "request-path": request_path,
    "windows": windows,
    "rollout": rollout,
    "gpu-memory": gpu_memory,
}


def draw() -> dict[Path, str]:
    """Return each file and its content."""
    made = {}
    for name, picture in PICTURES.items():
        made[ROOT / "pictures" / f"{name}.svg"] = picture(lambda words: words).svg()
        made[ROOT / "zh" / "pictures" / f"{name}.svg"] = picture(_chinese).svg()
    return made


def main() -> None:
    """Write all pictures."""
    for path, content in draw().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    print(f"wrote {2 * len(PICTURES)} pictures")


if __name__ == "__main__":
    main()
