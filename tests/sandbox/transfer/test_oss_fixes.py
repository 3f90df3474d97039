"""Every error that OSS is known to answer says what to do next."""

from __future__ import annotations

from functools import partial

import pytest
from aiohttp import web
from transfer_world import World, credentials

from qwenkit.errors import QwenkitError, Unreachable
from qwenkit.sandbox.faults.effects import answer
from qwenkit.sandbox.faults.oss import refuse
from qwenkit.weights.oss.bucket import open_bucket
from qwenkit.weights.oss.errors import call_oss
from qwenkit.weights.retry import RetryPolicy, Stop

ELSEWHERE = "The bucket you are attempting to access must be addressed using the specified endpoint"


def ask(place: World, attempts: int = 1) -> QwenkitError:
    policy = RetryPolicy(attempts=attempts, base_s=0.01)
    with pytest.raises(QwenkitError) as caught:
        call_oss(place.bucket, "read", partial(place.bucket.get_object, "m/a"), policy)
    return caught.value


@pytest.mark.parametrize(
    ("status", "code", "message", "fix"),
    [
        (404, "NoSuchBucket", "", "OSS_BUCKET"),
        (403, "AccessDenied", "The bucket you access does not belong to you.", "grant the key"),
        (403, "AccessDenied", "Access denied by bucket policy.", "Bucket Policy"),
        (403, "AccessDenied", "Access denied by authorizer's policy.", "AssumeRole"),
        (403, "AccessDenied", "Access denied by VPC endpoint policy.", "VPC"),
        (403, "AccessDenied", "You are denied by bucket referer policy.", "Referer"),
        (403, "AccessDenied", "This request is forbidden by kms", "KMS"),
        (403, "KmsServiceNotEnabled", "", "KMS"),
        (409, "KeyDisabled", "", "KMS"),
        (403, "InvalidAccessKeyId", "", "OSS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "", "OSS_ACCESS_KEY_SECRET"),
        (400, "InvalidArgument", "Invalid signing region in Authorization header.", "OSS_REGION"),
        (400, "InvalidRequest", "Please use OSS4-HMAC-SHA256.", "V4"),
        (403, "SecurityTokenExpired", "", "resumes"),
        (403, "InvalidSecurityToken", "", "OSS_SESSION_TOKEN"),
        (403, "AccessKeyIdAndSecurityTokenNotMatch", "", "OSS_SESSION_TOKEN"),
        (403, "PublicEndpointForbidden", "", "oss_cname"),
        (403, "SecondLevelDomainForbidden", "", "domain"),
        (403, "InvalidObjectState", "", "upload it again"),
        (403, "UserDisable", "", "pay"),
        (403, "InDebt", "", "pay"),
        (403, "AccountNotRealName", "", "real name"),
        (409, "FileImmutable", "", "WORM"),
        (409, "FileAlreadyExists", "", "another prefix"),
        (503, "DownloadTrafficRateLimitExceeded", "", "higher limit"),
        (403, "QosLimitExceeded", "", "higher limit"),
    ],
)
def test_a_known_error_has_a_fix(
    place: World, status: int, code: str, message: str, fix: str
) -> None:
    place.faults.add(lambda _: True, refuse(status, code, message))
    error = ask(place)
    assert fix in error.fix
    assert code in error.why


def test_a_domain_that_does_not_answer_may_be_the_buckets_own() -> None:
    bucket = open_bucket("http://weights.invalid", "weights", credentials(), region="cn-x")
    with pytest.raises(Unreachable) as caught:
        call_oss(bucket, "read", partial(bucket.get_object, "a"), RetryPolicy(attempts=1))
    assert "oss_cname=true" in caught.value.fix
    bucket.session.session.close()


def test_an_unknown_error_has_its_message_and_no_guess(place: World) -> None:
    place.faults.add(lambda _: True, refuse(403, "NewThing", "Something new."))
    assert (ask(place).fix, "Something new." in ask(place).why) == ("", True)


def test_the_answer_names_the_endpoint_and_the_action(place: World) -> None:
    refusal = refuse(403, "AccessDenied", ELSEWHERE, Endpoint="oss-cn-beijing.aliyuncs.com")
    place.faults.add(lambda _: True, refusal, times=1)
    assert "OSS_ENDPOINT=oss-cn-beijing.aliyuncs.com" in ask(place).fix
    detail = "<NoPermissionType>ExplicitDeny</NoPermissionType><AuthAction>oss:GetObject<"
    text = f"<Error><Code>AccessDenied</Code><D>{detail}/AuthAction></D></Error>"
    place.faults.add(lambda _: True, answer(lambda _: web.Response(status=403, text=text)))
    assert ask(place).fix.startswith("a policy denies oss:GetObject: ")


def test_a_busy_bucket_gets_the_pause_that_it_asks_for(
    place: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(Stop, "wait", lambda _, seconds: waits.append(seconds))
    asked = ["40", "86400"]

    def busy(_: web.Request) -> web.Response:
        text = "<Error><Code>TotalQpsLimitExceeded</Code></Error>"
        return web.Response(status=403, text=text, headers={"Retry-After": asked.pop(0)})

    place.faults.add(lambda _: True, answer(busy))
    error = ask(place, attempts=5)
    assert (max(waits), asked) == (40, [])
    assert "waiting 40 s" in caplog.text
    assert "higher limit" in error.fix
    assert not isinstance(error, Unreachable)
