"""Everything that goes wrong between here and the bucket: equal bytes, or a clear error.

Each test says how many parts may be sent twice for it: those that were on their way.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from transfer_world import (
    BUCKET,
    OPTIONS,
    PART,
    Fault,
    Handler,
    World,
    credentials,
    is_complete,
    is_part,
    is_put,
    proven,
    resumable,
)
from twelve_parts import ATTEMPTS, CRC, DATA, FILES, IN_FLIGHT, PARTS, send

from qwenkit.errors import Forbidden, Rejected, TransferError, Unreachable
from qwenkit.sandbox.faults import effects
from qwenkit.sandbox.faults.oss import refuse
from qwenkit.weights.oss.bucket import open_bucket

TRANSIENT: dict[str, Fault] = {
    "reset in the middle of the body": effects.reset,
    "reset after the work was done": effects.lose_answer,
    "no answer": effects.close,
    "500": refuse(500, "InternalError"),
    "503": refuse(503, "ServiceUnavailable"),
    "429": refuse(429, "TooManyRequests"),
    "RequestTimeout": refuse(400, "RequestTimeout"),
    "wrong CRC": effects.change_headers({CRC: "1"}),
}


@pytest.mark.parametrize("wants", [is_part, is_put, is_complete])
@pytest.mark.parametrize("fault", TRANSIENT.values(), ids=TRANSIENT.keys())
def test_what_passes_is_survived(
    place: World, fault: Fault, wants: Callable[[web.Request], bool]
) -> None:
    place.faults.add(wants, fault, times=3)
    report = send(place)
    proven(place, FILES, again=0 if wants is is_complete else 3)
    assert report.bytes_sent == len(DATA) + 2
    if wants is not is_complete:
        assert report.retries == 3


@pytest.mark.parametrize("fault", ["reset in the middle of the body", "500", "503", "wrong CRC"])
def test_what_does_not_pass_is_a_clear_error_and_resumes(place: World, fault: str) -> None:
    place.faults.add(lambda r: is_part(r) and r.query["partNumber"] == "9", TRANSIENT[fault])
    with pytest.raises((Unreachable, TransferError), match=r"m/w\.bin part 9") as caught:
        send(place)
    resumable(place, caught.value)
    assert send(place).bytes_skipped >= 7 * PART
    proven(place, FILES, again=ATTEMPTS + IN_FLIGHT - 1)


def test_a_refusal_without_words_is_put_into_some(place: World) -> None:
    async def blank(request: web.Request) -> web.Response:
        return web.Response(status=400, text="<html>Bad Request</html>")

    place.faults.add(is_part, effects.answer(lambda _: web.Response(status=500)))
    said = r"status 500 without an error document \(request id \w+\)"
    with pytest.raises(Unreachable, match=said) as caught:
        send(place)
    resumable(place, caught.value)
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", blank)
    proxy = open_bucket(place.servers.serve(app), BUCKET, credentials(), region="cn-hangzhou")
    with pytest.raises(Rejected, match=r"status 400 .* in front of OSS"):
        send(place, bucket=proxy)
    proxy.session.session.close()
    send(place)
    proven(place, FILES, again=IN_FLIGHT * ATTEMPTS)


def test_an_object_that_was_put_together_wrongly_is_sent_again(place: World) -> None:
    """Complete and HEAD agree that other bytes lie there: then the parts cannot help."""
    wrong = effects.change_headers({CRC: "1"})
    place.faults.add(is_complete, wrong, times=1)
    place.faults.add(lambda r: r.method == "HEAD" and "w.bin" in r.path, wrong, times=1)
    report = send(place)
    assert (report.bytes_sent, report.retries) == (2 * len(DATA) + 2, 1)
    proven(place, FILES, again=PARTS)


def test_nothing_is_sent_twice_when_nothing_fails(place: World) -> None:
    send(place)
    proven(place, FILES)
    sent = Counter(r.query["partNumber"] for r in place.faults.seen if is_part(r))
    assert sent == {str(number): 1 for number in range(1, PARTS + 1)}


def test_one_broken_part_costs_one_part(place: World) -> None:
    place.faults.add(lambda r: is_part(r) and r.query["partNumber"] == "5", effects.reset, 2)
    send(place)
    sent = Counter(r.query["partNumber"] for r in place.faults.seen if is_part(r))
    assert sent.pop("5") == 3
    assert set(sent.values()) == {1}
    proven(place, FILES, again=2)


def test_every_control_request_is_retried(place: World) -> None:
    place.faults.add(lambda r: r.method in ("GET", "HEAD", "POST"), refuse(503, "Busy"), times=4)
    send(place)
    place.faults.rules.clear()
    proven(place, FILES)


def test_a_byte_that_changes_on_the_way_is_noticed(place: World) -> None:
    place.faults.add(is_part, effects.change_sent_byte, times=2)
    assert send(place).retries == 2
    proven(place, FILES, again=2)


@pytest.mark.parametrize("wants", [is_part, is_put])
def test_bytes_that_never_arrive_whole_are_given_up(
    place: World, wants: Callable[[web.Request], bool]
) -> None:
    place.faults.add(wants, effects.change_sent_byte)
    with pytest.raises(TransferError, match=r"other bytes (arrived )?than were sent") as caught:
        send(place)
    resumable(place, caught.value)
    send(place)
    proven(place, FILES, again=IN_FLIGHT * ATTEMPTS)


@pytest.mark.parametrize("wants", [is_part, is_put, is_complete])
def test_a_missing_crc_is_refused(place: World, wants: Callable[[web.Request], bool]) -> None:
    place.faults.add(wants, effects.change_headers({CRC: None}))
    with pytest.raises(TransferError, match="no CRC-64") as caught:
        send(place)
    resumable(place, caught.value)
    send(place)
    proven(place, FILES, again=IN_FLIGHT)


def test_threads_stop_at_the_first_final_failure(place: World) -> None:
    place.faults.add(is_part, refuse(403, "AccessDenied"))
    with pytest.raises(Forbidden, match="OSS refused") as caught:
        send(place)
    assert sum(map(is_part, place.faults.seen)) <= IN_FLIGHT + 1
    resumable(place, caught.value)
    send(place)
    proven(place, FILES, again=IN_FLIGHT + 1)


def test_what_arrived_before_a_failure_is_not_sent_again(place: World) -> None:
    place.faults.add(lambda r: is_part(r) and r.query["partNumber"] == "9", effects.reset)
    with pytest.raises(Unreachable, match="does not answer") as caught:
        send(place)
    before = {r.query["partNumber"] for r in place.faults.seen if is_part(r)}
    resumable(place, caught.value)
    place.faults.seen.clear()
    report = send(place)
    again = {r.query["partNumber"] for r in place.faults.seen if is_part(r)}
    assert len(again & before) <= OPTIONS.workers
    assert [f.action for f in report.files if f.key.endswith("w.bin")] == ["resumed"]
    proven(place, FILES, again=ATTEMPTS + IN_FLIGHT - 1)


def test_a_complete_that_succeeded_unheard(place: World) -> None:
    """The server finishes, the answer is lost, and the repeated request finds no upload."""
    place.faults.add(is_complete, effects.lose_answer, times=1)
    send(place)
    assert sum(map(is_complete, place.faults.seen)) == 2
    assert sum(map(is_part, place.faults.seen)) == PARTS
    proven(place, FILES)


def test_an_upload_that_vanishes_is_begun_again(place: World) -> None:
    async def abort_first(request: web.Request, handler: Handler) -> web.StreamResponse:
        await asyncio.to_thread(
            place.bucket.abort_multipart_upload, "m/w.bin", request.query["uploadId"]
        )
        return await handler(request)

    place.faults.add(lambda r: is_part(r) and r.query["partNumber"] == "7", abort_first, times=1)
    send(place)
    proven(place, FILES, again=PARTS)


def test_a_server_that_stalls_is_left_and_asked_again(
    place: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stalled = threading.Event()

    async def stall(request: web.Request, _handler: Handler) -> web.StreamResponse:
        await request.content.readany()
        stalled.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr("qwenkit.weights.oss.bucket.TIMEOUT_S", (5.0, 0.5))
    bucket = open_bucket(place.url, BUCKET, credentials(), region="cn-hangzhou")
    place.faults.add(is_part, stall, times=2)
    send(place, bucket=bucket)
    assert stalled.is_set()
    proven(place, FILES, again=2)
    bucket.session.session.close()


@pytest.mark.parametrize("begins", [is_part, lambda r: True], ids=["in the middle", "at once"])
def test_skewed_clock_is_named_with_its_size(
    place: World, begins: Callable[[web.Request], bool]
) -> None:
    server_time = (datetime.now(UTC) + timedelta(seconds=4000)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    skewed = refuse(403, "RequestTimeTooSkewed", ServerTime=server_time)
    place.faults.add(begins, skewed)
    with pytest.raises(Forbidden, match=r"clock is (3999|4000|4001) s behind") as caught:
        send(place)
    assert abs(caught.value.context["skew_s"] + 4000) <= 1
    assert sum(map(begins, place.faults.seen)) <= (1 if begins is not is_part else IN_FLIGHT + 1)
    resumable(place, caught.value)
    send(place)
    proven(place, FILES, again=IN_FLIGHT + 1)


def test_a_token_that_stays_expired_says_what_to_do(place: World) -> None:
    place.faults.add(
        lambda r: is_part(r) and int(r.query["partNumber"]) > 6, refuse(403, "SecurityTokenExpired")
    )
    with pytest.raises(Forbidden) as caught:
        send(place)
    assert "new temporary keys" in caught.value.fix
    resumable(place, caught.value)
    assert send(place).bytes_skipped >= 5 * PART
    proven(place, FILES, again=2 * IN_FLIGHT)
