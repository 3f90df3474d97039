"""The last error in a container's log, and the errors that it leads back to.

A log is a mixture: lines of vLLM with their level, tracebacks of several processes, what a shell or
a signal leaves behind. Only an error counts: an exception's own line, a line of level ERROR, or one
with the shape of a shell's or program's complaint. The last one decides. Some errors only say that
another one came before (``Engine core initialization failed. See root cause above.``), and a
chained exception names the one before as its cause: those lead back. What happened before the
server was up is over and does not count.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import NamedTuple

_LINE_CHARS, _ERROR_LINES, _LOG_CHARS, _TRIED = 1500, 12, 1_048_576, 8
_TAIL_LINES, _BEGIN_CHARS = 6, 300
_LEVELS = "TRACE|DEBUG|INFO|NOTICE|WARNING|WARN|ERROR|CRITICAL|FATAL"
_FAILURES = ("ERROR", "CRITICAL", "FATAL")

_ANSI = re.compile(r"(?:\x1b|ESC)\[[0-9;?]{0,12}[A-Za-z]")
_PREFIXES = re.compile(
    # The time stamp of kubelet or runtime; the name of a process, rank, pod or service.
    r"(?:\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d) (?:std(?:out|err) [FP] )?"
    r"|\([^()]{0,80}\bpid=\d+[^()]{0,80}\) ?|\[rank\d+\]: ?|\[pod/[^\]]{1,160}\] "
    r"|[\w.-]{1,60} +\| )+"
)
_STAMPS = (
    re.compile(  # vLLM: ERROR 11-20 05:40:55 [core.py:842] text
        rf"(?P<level>{_LEVELS}) +\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)? "
        r"(?P<tag>\[[^\]]{1,80}\]|\S+:\d+\]) ?"
    ),
    re.compile(rf"\[?(?P<level>{_LEVELS})(?::[\w.]*:?\s*|\]:? *)"),  # uvicorn, logging, [INFO] text
    re.compile(  # 2025-03-20 20:38:08,123 name ERROR text
        r"\[?\d{4}[-/]\d\d[-/]\d\d[ T]\d\d:\d\d:\d\d\S*[^A-Z]{0,3}"
        rf"[^A-Z]{{0,60}}(?P<level>{_LEVELS})\b[\]:|\s-]*(?:stderr \| ?)?"
    ),
    # glog and torch: [E1120 05:40:55.1 ProcessGroupNCCL.cpp:475], W0714 23:06:54.6 140 run.py:757]
    re.compile(r"\[(?P<letter>[IWEF])(?:\d{3,4} [\d:.]+)? [^\]]{1,120}\] ?"),
    re.compile(r"(?P<letter>[IWEF])\d{3,4} [\d:.]+ [^\]]{1,120}\] ?"),
)
_LETTERS = {"I": "INFO", "W": "WARNING", "E": "ERROR", "F": "FATAL"}

_NAME = re.compile(r"([\w.]{1,120})(?:\([\w.]{1,80}\))?(?:: |:?$)")
_EXCEPTION = re.compile(
    r"(?:[Ee]rror|Exception|Interrupt|SystemExit|OutOfResources|Failure|Failed|Again|Timeout|Expired|Missing|NotFound)"
    r"(?:_\w+)?$"
)
_COMPLAINT = re.compile(
    r"^[\w./ -]{1,60}: (?:\S+ )?error: |: (?:not found|command not found|cannot execute)\b"
    r"|\bexec\b.{0,200}(?:no such file|format error|not found|denied|bad interpreter|failed)"
    r"|: bad interpreter|can't open |: No module named|: cannot open shared object file"
    r"|^[\w./-]{1,60}: (?:line )?\d+: |^\S+: .{0,200}: (?:Permission denied|No such file)"
    r"|\(required by |^ *what\(\): |^Fatal Python error|^panic: |^\[?FATAL\b|^Error:? |^LLVM ERROR"
    r"|OCI runtime|failed to create \w+ task|^nvidia-container-cli|^(?:nvcc|ptxas) (?:fatal|error)"
    r"|^(?:.{0,60}\s)?(?:Killed|Bus error|Segmentation fault|Illegal instruction|Aborted)"
    r"(?: +\(core dumped\))?$|NVRM: Xid|/ld: cannot find",
    re.IGNORECASE,
)
_HARMLESS = re.compile(
    r"\w*Warning:|NCCL (?:INFO|WARN)|^warn|^note:|deprecated|fall(?:ing)? ?back", re.I
)
_LINK = re.compile("During handling of the above exception|The above exception was the direct")
# Python prints the first at its end, and the second of a request that failed: neither ends it.
_ASIDE = re.compile(r"Exception ignored in|Exception in ASGI application")
# What a request made the server say does not end it; advice says what might be.
_REQUEST = re.compile(r"\[?serving\w*\.py:")
_ADVICE = re.compile(r"\bif you\b", re.IGNORECASE)
_UP = re.compile(r"Application startup complete|Uvicorn running on|\"GET /health[^\"]{0,40}\" 200")
_LEADS_BACK = re.compile(
    r"root cause (?:above|issue)|stack trace|check the logs|Engine core init|failed due to an exc"
    r"|Engine process failed|EngineDead|failed to start|hit an exception|Exception in worker"
    r"|Got fatal signal|Application startup failed|failed to be inspected|inspecting model arch"
    r"|encountered (?:an issue|a fatal)|\bdied\b|KeyboardInterrupt|SystemExit|CancelledError"
    r"|Broken ?pipe|Connection(?:Reset| reset| closed| refused)|EOFError|remote process exited"
    r"|ncclRemoteError|has errored|ChildFailed|ActorDied|exited? (?:unexpectedly|with)|RPC call to"
    r"|Fatal Python error: Aborted|Failed to load the (?:model config|tokenizer)\b"
    r"|TCPStore|shutting down|ld returned|recvValue|core dumped|terminate called|terminated with"
    r"|^(?: *|\S+: line \d+: +\d+ )(?:Killed|Bus error|Segmentation fault|Aborted)",
    re.IGNORECASE,
)


class _Line(NamedTuple):
    source: str  # the process and the place in its code that wrote the line
    level: str  # empty if it states none
    text: str

    @property
    def is_error(self) -> bool:
        """Whether it has the shape of an error, whatever its level."""
        name = _NAME.match(self.text)
        if name and _EXCEPTION.search(name[1]):
            return True
        begin = self.text[:_BEGIN_CHARS]
        return bool(_COMPLAINT.search(begin)) and not _HARMLESS.search(begin)


@dataclass
class _Error:
    source: str
    lines: list[str]
    follows: bool  # the error before is its cause, or was being handled

    @property
    def leads_back(self) -> bool:
        """Whether it only says that there was another error."""
        return any(map(_LEADS_BACK.search, self.lines[:2]))

    def takes(self, line: _Line) -> bool:
        """Return whether a line belongs to this error's message."""
        return self.source == line.source and len(self.lines) < _ERROR_LINES


def last_errors(log: str) -> tuple[list[str], list[str]]:
    """Return the error that decides, then its causes; and those that only point to another.

    Each is given as its lines.
    """
    own: list[str] = []
    pointing: list[str] = []
    for error in reversed(_errors(log[-_LOG_CHARS:])):
        (pointing if error.leads_back else own).append("\n".join(error.lines))
        if not error.leads_back and not error.follows:
            break
    return own[:_TRIED], pointing[:_TRIED]


def last_lines(log: str) -> list[str]:
    """Return the last lines that state no level, the last first: for a log without an error."""
    lines = [line for raw in log[-_LOG_CHARS:].splitlines()[-_TAIL_LINES:] for line in _read(raw)]
    own = [line.text for line in lines if not line.level and not line.is_error]
    said = [text for text in own if not (_HARMLESS.search(text) or _ADVICE.search(text))]
    return [text for text in reversed(said) if text[:1].strip()]


def _errors(log: str) -> list[_Error]:
    """Return the errors of a log in their order, those before the server was up left out."""
    found: list[_Error] = []
    now: _Error | None = None
    follows = aside = was_aside = False
    for line in (line for raw in log.splitlines() for line in _read(raw)):
        text = line.text
        if _UP.search(text):
            found.clear()
        if _ASIDE.match(text):
            now, aside = None, True
        elif line.level and (line.level not in _FAILURES or _REQUEST.search(line.source)):
            now = None
        elif _LINK.match(text):
            now, follows, aside = None, True, was_aside
        elif text.lstrip().startswith(("Traceback", 'File "')):
            now = None
        elif line.is_error or (line.level and text[:1].strip() and not (now and now.takes(line))):
            wrapped = bool(now and now.lines[-1].endswith("raised:"))
            now = None if aside else _Error(line.source, [text], follows or wrapped)
            found += [now] if now else []
            follows, aside, was_aside = False, False, aside
        elif now and text.strip() and now.takes(line) and not _HARMLESS.search(text):
            now.lines.append(text)
    return found


def _read(raw: str) -> list[_Line]:
    """Strip what others wrote around a line: colours, time stamps, names of processes, levels."""
    line = _ANSI.sub("", raw[: 4 * _LINE_CHARS]).rstrip("\r").rpartition("\r")[2]
    process = _PREFIXES.match(line)
    source, text = (process[0], line[process.end() :]) if process else ("", line)
    source = source.partition("(")[2]
    if text.startswith("{") and (lines := _json(raw[raw.find("{") :])):
        return lines
    for stamp in _STAMPS:
        if found := stamp.match(text):
            parts = found.groupdict()
            level = parts.get("level") or _LETTERS[parts["letter"]]
            rest = text[found.end() :][:_LINE_CHARS]
            return [_Line(f"{source}{level}{parts.get('tag')}", level, rest)]
    return [_Line(source, "", text[:_LINE_CHARS])]


def _json(text: str) -> list[_Line]:
    """Read a line of JSON: its level, and its message with the exception's lines."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return []
    words = [found.get(key) for key in ("message", "msg", "log", "exception", "exc_info", "error")]
    level = next((found[key] for key in ("level", "levelname", "severity") if found.get(key)), "")
    lines = "\n".join(str(word) for word in words if word).splitlines()
    return [_Line("json", str(level).upper(), line[:_LINE_CHARS]) for line in lines]
