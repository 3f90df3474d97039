"""Mounting a bucket: the driver's checks and words, and how a repair mends the pod."""

from __future__ import annotations

from pathlib import Path

import paced
import pytest
from node_world import BUCKET, COMMAND, FOLDER, KEY, SECRET, World, in_world, until, world

from qwenkit.errors import Forbidden, NotFound, TransferError, Unreachable
from qwenkit.sandbox.kubelet import mounted_folder
from qwenkit.sandbox.kubelet.mounted_folder import MountedFolder

SETUP = 'MountVolume.SetUp failed for volume "llm-model" : '
INVALID = f"{SETUP}rpc error: code = InvalidArgument desc = "


def failed(made: World) -> list[str]:
    return [message for reason, message in made.events("one") if reason == "FailedMount"]


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"bucket": ""}, f"{INVALID}OSS parameters error: Url/Bucket empty"),
        ({"url": ""}, f"{INVALID}OSS parameters error: Url/Bucket empty"),
        ({"authType": "rrsa"}, f"{INVALID}use RRSA but roleName is empty"),
        (
            {"authType": "rrsa", "roleName": "r"},
            f"{SETUP}rpc error: code = Internal desc = AssumeRoleWithOIDC failed for ",
        ),
        ({"fuseType": "s3fs"}, f"{INVALID}OSS parameters error: Unsupported fuseType s3fs"),
        ({"path": "Qwen"}, f"{INVALID}OSS path error: start with Qwen, should start with /"),
        (
            {"url": f"{BUCKET}.oss-cn-hangzhou.aliyuncs.com"},
            f"{INVALID}OSS url error: url is invalid, {BUCKET}.oss-cn-hangzhou.aliyuncs.com is a "
            "bucket domain name, please use endpoint instead",
        ),
        (
            {"url": "oss-cn-hangzhou-internal.aliyuncs.com"},
            f"{SETUP}rpc error: code = Internal desc = dial tcp: lookup "
            "oss-cn-hangzhou-internal.aliyuncs.com: no such host: the sandbox reaches only its own",
        ),
        (
            {"bucket": "other-bucket"},
            f"{SETUP}rpc error: code = Internal desc = failed to mount oss bucket: other-bucket/"
            f"{FOLDER}/: NoSuchBucket",
        ),
    ],
)
def test_a_wrong_volume_fails_with_the_drivers_words(
    tmp_path: Path, attributes: dict[str, str], words: str
) -> None:
    async def test(made: World) -> None:
        made.volume(**attributes)
        made.pod("one")
        await until(lambda: failed(made))
        assert failed(made)[0].startswith(words)
        assert SECRET not in failed(made)[0]

    in_world(tmp_path, test, volume=False)


def test_a_node_without_the_driver_mounts_no_bucket(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        none = {"metadata": {"name": made.node.name}, "spec": {"drivers": []}}
        made.store.create("CSINode", none)
        made.pod("one")
        await until(lambda: failed(made))
        assert (
            "ossplugin.csi.alibabacloud.com not found in the list of registered" in failed(made)[0]
        )

    in_world(tmp_path, test)


def test_a_repaired_secret_mends_the_pod(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        made.store.delete("Secret", "default", "oss-secret")
        made.pod("one")
        await until(lambda: failed(made))
        assert "fetching NodePublishSecretRef default/oss-secret failed" in failed(made)[0]
        assert 'secrets "oss-secret" not found' in failed(made)[0]
        made.secret(akId=KEY)
        missing = "OSS authorization error: ossfs: missing access key in node publish secret"
        await until(lambda: any(missing in one for one in failed(made)))
        made.secret(akId=KEY, akSecret="wrong")
        await until(lambda: any("SignatureDoesNotMatch" in one for one in failed(made)))
        assert made.status("one")["phase"] == "Pending"
        made.secret(AccessKeyID=KEY, accessKeySecret=f"{SECRET}\n")
        await until(lambda: made.ready("one"))

    in_world(tmp_path, test)


def test_an_empty_folder_mounts_and_the_server_says_what_it_misses(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        made.volume(path="/nothing-here")
        made.pod("one")
        await until(lambda: "terminated" in made.container("one").get("lastState", {}))
        log = made.node.logs("default", "one", "vllm-container", previous=True)
        assert "/Qwen-7B-Chat-Int8 does not appear to have a file named config.json" in log

    in_world(tmp_path, test, volume=False)


def test_the_whole_bucket_serves_a_model_in_a_folder(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        made.volume(path="/")
        folder = "/Qwen-7B-Chat-Int8/Qwen-7B-Chat-Int8"
        script = COMMAND.replace("--model /Qwen-7B-Chat-Int8", f"--model {folder}")
        made.pod("one", script=script)
        await until(lambda: made.ready("one"))

    in_world(tmp_path, test, volume=False)


def test_other_volumes_are_refused_by_name(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        made.volume()
        volume = made.store.get("PersistentVolume", None, "llm-model")
        volume["spec"] = {"nfs": {"server": "x", "path": "/"}}
        made.store.update("PersistentVolume", volume)
        made.pod("one")
        await until(lambda: failed(made))
        assert "mounts volumes of ossplugin" in failed(made)[0]
        assert failed(made)[0].endswith("not nfs")

    in_world(tmp_path, test, volume=False)


def test_an_absent_claim_fails(tmp_path: Path) -> None:
    async def test(made: World) -> None:
        made.pod("one")
        await until(lambda: failed(made))
        assert 'persistentvolumeclaim "llm-model" not found' in failed(made)[0]

    in_world(tmp_path, test, volume=False)


def test_a_bucket_is_read_with_odd_names_and_many_pages(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as made:
            names = {f"many/{n:04}.bin" for n in range(1005)} | {"odd/西湖 +&?.txt"}
            for name in names:
                path = made.folder / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(name.encode())
            good = MountedFolder(made.oss, BUCKET, f"{FOLDER}/", KEY, SECRET)
            assert set(await good.list()) >= names
            assert await good.read("odd/") == {"西湖 +&?.txt": "odd/西湖 +&?.txt".encode()}
            assert SECRET not in repr(good)
            with pytest.raises(Forbidden, match="InvalidAccessKeyId"):
                await MountedFolder(made.oss, BUCKET, "", "nobody", SECRET).list()
            with pytest.raises(NotFound, match="NoSuchBucket"):
                await MountedFolder(made.oss, "nothing", "", KEY, SECRET).list()
        with pytest.raises(Unreachable, match="cannot be reached"):
            await good.list()

    paced.run(run())


def test_a_volume_larger_than_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(made: World) -> None:
        monkeypatch.setattr(mounted_folder, "MAX_BYTES", 100)
        with pytest.raises(TransferError) as caught:
            await MountedFolder(made.oss, BUCKET, f"{FOLDER}/", KEY, SECRET).read()
        assert "at most 100 bytes" in caught.value.why

    in_world(tmp_path, test)
