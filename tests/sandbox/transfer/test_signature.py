"""A signature beside the weights (``model_signing sign key``), and pickles among them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from transfer_world import BUCKET, World, write

from qwenkit.errors import Rejected
from qwenkit.settings import Settings
from qwenkit.weights.integrity import require_signed, verify
from qwenkit.weights.store import BucketWeights
from qwenkit.weights.transfer import upload

DATA = Path(__file__).parents[2] / "data" / "signed"
SIGNER = str(DATA / "signer.pub")
FILES = {
    "config.json": b"{}",
    "model.safetensors": b"\2\0\0\0\0\0\0\0{}",
    "sub/a.txt": b"a",
    "model.sig": (DATA / "model.sig").read_bytes(),
}
INSTALLED = importlib.util.find_spec("model_signing") is not None


def send(place: World, folder: Path, files: dict[str, bytes]) -> None:
    upload(str(write(folder, files)), place.bucket, "m", run="t", state_dir=place.state)


def test_signed_weights_are_what_was_signed(place: World, tmp_path: Path) -> None:
    send(place, tmp_path / "signed", FILES | {".gitattributes": b"x"})
    report = verify(place.bucket, "m")
    assert report.ok
    assert "who signed is not verified" in str(report)
    assert "pip install model-signing" in str(report)
    require_signed(place.bucket, "m", "")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sub/a.txt": b"b"}, "sub/a.txt has other bytes than model.sig lists"),
        ({"code.py": b"b"}, "code.py is not signed"),
        ({"sub/a.txt": None}, "sub/a.txt is missing, and model.sig lists it"),
        ({"model.sig": b"{}"}, "model.sig cannot be compared"),
        ({"model.sig": b"-----BEGIN PGP SIGNATURE-----"}, "model.sig cannot be compared"),
    ],
)
def test_other_weights_are_refused(
    place: World, tmp_path: Path, changed: dict[str, bytes | None], said: str
) -> None:
    files = {name: data for name, data in (FILES | changed).items() if data is not None}
    send(place, tmp_path / "changed", files)
    assert said in str(verify(place.bucket, "m"))
    with pytest.raises(Rejected, match=r"m: .*model\.sig") as caught:
        require_signed(place.bucket, "m", "")
    assert said in caught.value.what
    assert "upload" in caught.value.fix


def test_a_signature_may_be_put_beside_later(place: World, tmp_path: Path) -> None:
    send(place, tmp_path / "plain", {n: data for n, data in FILES.items() if n != "model.sig"})
    require_signed(place.bucket, "m", "")
    assert "model.sig is missing" in str(verify(place.bucket, "m", SIGNER))
    with pytest.raises(Rejected, match="is not signed"):
        require_signed(place.bucket, "m", SIGNER)
    place.bucket.put_object("m/model.sig", FILES["model.sig"])
    require_signed(place.bucket, "m", "")
    place.bucket.put_object("m/code.py", b"late")
    place.bucket.put_object("m/sub/a.txt", b"b")
    with pytest.raises(Rejected, match=r"sub/a\.txt has other bytes") as caught:
        require_signed(place.bucket, "m", "")
    assert "code.py is not signed" in caught.value.context["problems"][1]
    assert "code.py is not signed" in str(verify(place.bucket, "m"))
    place.bucket.put_object("m/model.sig", b"{}")
    with pytest.raises(Rejected, match="cannot be compared"):
        require_signed(place.bucket, "m", "")


def test_deploy_need_not_reach_the_bucket() -> None:
    place = {"bucket": BUCKET, "oss_endpoint": "http://127.0.0.1:9", "oss_region": "cn-x"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OSS_ACCESS_KEY_ID", "a")
        patch.setenv("OSS_ACCESS_KEY_SECRET", "b")
        BucketWeights.of(Settings(**place)).require_signed()


def test_who_signed_is_verified_by_the_package(place: World, tmp_path: Path) -> None:
    send(place, tmp_path / "signed", FILES)
    if not INSTALLED:
        with pytest.raises(Rejected, match="cannot be verified") as caught:
            require_signed(place.bucket, "m", SIGNER)
        assert "pip install model-signing" in caught.value.fix
        return
    require_signed(place.bucket, "m", SIGNER)
    assert "signed by" in str(verify(place.bucket, "m", SIGNER))
    place.bucket.put_object("m/model.sig", FILES["model.sig"].replace(b'"sig":"ME', b'"sig":"MF'))
    with pytest.raises(Rejected, match="not verified as that of"):
        require_signed(place.bucket, "m", SIGNER)


def test_pickles_are_named(place: World, tmp_path: Path) -> None:
    files = {"a.BIN": b"", "b.safetensors": FILES["model.safetensors"], "c/d.pkl": b"", "e.pt": b""}
    folder = write(tmp_path / "pickles", files)
    sent = upload(str(folder), place.bucket, "m", run="t", state_dir=place.state)
    for report in (str(sent), str(verify(place.bucket, "m"))):
        assert "may run code when they are loaded" in report
        assert report.endswith("a.BIN, c/d.pkl, e.pt")
