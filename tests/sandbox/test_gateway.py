"""From a Host header to a pod's tokens: routing, holding, balancing, limits, draining."""

from __future__ import annotations

import asyncio
from pathlib import Path

from node_world import HOST, client, lake, until, world


def test_the_documentations_request_is_answered_as_documented(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as made, client() as session:
            made.revision("qwen-00001")
            made.route(HOST, ("qwen-00001", 100))
            made.pod("one")
            await until(lambda: made.ready("one"))
            url = f"{made.gateway_url}/v1/chat/completions"
            async with session.post(url, json=lake(), headers={"Host": HOST}) as response:
                answer = await response.json()
                assert response.status == 200
        assert answer.pop("id").startswith("cmpl-")
        assert isinstance(answer.pop("created"), int)
        assert answer == {
            "object": "chat.completion",
            "model": "qwen",
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": "西湖位于中国浙江省杭州市,是中国著名的风景名",
                    },
                    "logprobs": None,
                    "finish_reason": "length",
                    "stop_reason": None,
                }
            ],
            "usage": {"prompt_tokens": 10, "total_tokens": 20, "completion_tokens": 10},
        }

    asyncio.run(run())
