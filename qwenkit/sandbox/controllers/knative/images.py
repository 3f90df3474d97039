"""Image tags resolved in the background, as Knative does before it deploys a revision."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from qwenkit.sandbox.controllers.loop import Delays, ImageResolver, Key

_RETRY_FIRST_S, _RETRY_LAST_S = 1.0, 1000.0


class ImageDigests:
    """Asks a resolver about the images of each revision and tells when it knows.

    Args:
        resolve: returns why an image cannot be resolved, or None when it can.
        wake: called with the revision's key when its answer is there.
        delays: how long a registry takes to answer.
        real: turns sandbox seconds into real ones.
    """

    def __init__(
        self,
        resolve: ImageResolver,
        wake: Callable[[Key], None],
        *,
        delays: Delays,
        real: Callable[[float], float],
    ) -> None:
        self._resolve, self._wake = resolve, wake
        self._delays, self._real = delays, real
        self._answers: dict[Key, str] = {}
        self._asked: dict[Key, asyncio.TimerHandle] = {}
        self._tries: dict[Key, int] = {}

    def ask(self, key: Key, images: Iterable[str]) -> str | None:
        """Return None while asking, "" when every image resolves, else why one does not.

        An error is told once; asking again then asks the registry again, later each time.
        """
        if key in self._answers:
            error = self._answers.pop(key)
            if not error:
                self.forget(key)
            return error
        if key not in self._asked:
            tries = self._tries[key] = self._tries.get(key, -1) + 1
            wait = self._delays.resolve_image
            if tries:
                wait += self._real(min(_RETRY_FIRST_S * 2 ** (tries - 1), _RETRY_LAST_S))
            loop = asyncio.get_running_loop()
            self._asked[key] = loop.call_later(wait, self._answer, key, tuple(images))
        return None

    def forget(self, key: Key) -> None:
        """Drop what is known and asked about a revision."""
        self._answers.pop(key, None)
        self._tries.pop(key, None)
        if timer := self._asked.pop(key, None):
            timer.cancel()

    def close(self) -> None:
        """Stop asking."""
        for key in list(self._asked):
            self.forget(key)

    def _answer(self, key: Key, images: tuple[str, ...]) -> None:
        self._asked.pop(key, None)
        problems = ((image, self._resolve(image)) for image in images)
        self._answers[key] = next(
            (
                f'Unable to fetch image "{image}": failed to resolve image to digest: {why}'
                for image, why in problems
                if why
            ),
            "",
        )
        self._wake(key)
