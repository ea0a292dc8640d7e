"""One task on a DashScope socket: its sentences, each with its audio."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from mynah.audio.process import amplify
from mynah.server.context import request_id
from mynah.server.dashscope import (
    FINISHED,
    GENERATED,
    HOSTED_MODEL,
    HOSTED_VOICE,
    STARTED,
    Parameters,
    SsmlGuard,
    count_characters,
    event,
)
from mynah.server.fed import FedSpeech
from mynah.server.frames import EncodedPieces
from mynah.server.hosted import own_model, own_voice
from mynah.server.pieces import Piece, words
from mynah.server.runtime import Runtime
from mynah.server.sockets.link import Link
from mynah.server.speech import find_voice
from mynah.text.lexicons import UserLexicon
from mynah.types import FloatArray


class Task:
    """Feed it with ``add``, and run ``speak`` beside."""

    def __init__(self, link: Link, runtime: Runtime, task_id: str, parameters: Parameters) -> None:
        """Do nothing before ``open``."""
        self.task_id = task_id
        self.is_over = False
        """Whether nothing more will be sent for it."""
        self._link, self._runtime, self._parameters = link, runtime, parameters
        self._guard = SsmlGuard(parameters)
        self._speech: FedSpeech
        self._output: EncodedPieces
        self._sentence = _Sentence(0)
        self._num_characters = 0

    @property
    def is_ended(self) -> bool:
        """Whether all of its text came."""
        return self._speech.is_ended

    async def open(self, model: str) -> None:
        """Check all that can be checked before there is text, and tell the client.

        Raises:
            SynthesisError: if something is wrong with the parameters.
        """
        runtime, parameters = self._runtime, self._parameters
        name = own_model(runtime, model, HOSTED_MODEL)
        tts = await runtime.tts(name)
        voice: str | None = None
        if parameters.voice:
            wanted = parameters.voice
            voice = await runtime.in_speaking_thread(
                lambda: own_voice(runtime, tts, wanted, HOSTED_VOICE)
            )
        manner = parameters.manner(name, voice)
        UserLexicon(manner.lexicon)
        found = await find_voice(runtime, tts, manner)
        encoding = parameters.encoding
        # What is higher is played faster, see ``Parameters.manner``.
        encoder = encoding.open(round(tts.sample_rate * parameters.pitch))
        self._output = EncodedPieces(runtime, encoder, encoding.format)
        self._speech = FedSpeech(runtime, manner, protocol="dashscope")
        facts = {"model": name, "voice": found.name, "sample_rate": encoder.sample_rate}
        await self._link.send(event(STARTED, self.task_id, attributes=facts))

    def add(self, text: str, *, flush: bool = False) -> None:
        """Append text.

        Raises:
            InvalidRequestError: if it becomes too long, or has ended.
            UnsupportedFeatureError: if it is SSML.
        """
        self._speech.feed(self._guard.feed(text))
        if flush:
            self._speech.feed(self._guard.rest())
            self._speech.flush()

    def end(self) -> None:
        """Say that no more text comes.

        Raises:
            InvalidRequestError: if the text is too long.
        """
        if rest := self._guard.rest():
            self._speech.feed(rest)
        self._speech.end()

    async def speak(self) -> None:
        """Send the audio of all that is fed, then that it was the last.

        Raises:
            SynthesisError: whatever went wrong.
        """
        async with aclosing(self._speech.pieces()) as pieces:
            async for piece in pieces:
                if piece.text or len(piece.samples):
                    await self._play(piece)
        if self._sentence.is_begun:
            await self._send_audio(await self._output.finish())
            await self._end_sentence()
        await self.send_finished()

    async def send_finished(self) -> None:
        """Tell the client that nothing more comes."""
        self.is_over = True
        payload = {
            "output": {"sentence": self._sentence.described(self._parameters)},
            "usage": {"characters": self._num_characters},
        }
        attributes = {"request_uuid": request_id.get()}
        await self._link.send(event(FINISHED, self.task_id, payload, attributes))

    async def _play(self, piece: Piece) -> None:
        if self._sentence.is_begun and piece.utterance != self._sentence.utterance:
            await self._end_sentence()
            self._sentence = _Sentence(self._sentence.index + 1)
        if not self._sentence.is_begun:
            await self._send("sentence-begin", {"index": self._sentence.index, "words": []})
        self._sentence.add(piece, self._parameters.pitch)
        self._num_characters += count_characters(piece.text)
        samples: FloatArray = amplify(piece.samples, self._parameters.gain)
        await self._send_audio(await self._output.encode(samples))

    async def _send_audio(self, data: list[bytes]) -> None:
        audio = b"".join(data)
        if audio:
            sentence = self._sentence.described(self._parameters)
            await self._send("sentence-synthesis", sentence)
            await self._link.send(audio)

    async def _end_sentence(self) -> None:
        await self._send(
            "sentence-end",
            self._sentence.described(self._parameters),
            original_text=self._sentence.text.strip(),
            usage={"characters": self._num_characters},
        )

    async def _send(
        self,
        kind: str,
        sentence: dict[str, Any],
        *,
        original_text: str | None = None,
        usage: dict[str, int] | None = None,
    ) -> None:
        output: dict[str, Any] = {"type": kind, "sentence": sentence}
        if original_text is not None:
            output["original_text"] = original_text
        payload = {"output": output} if usage is None else {"output": output, "usage": usage}
        await self._link.send(event(GENERATED, self.task_id, payload))


class _Sentence:
    """What was said of one utterance."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.utterance = 0
        self.is_begun = False
        self.text = ""
        self._words: list[dict[str, Any]] = []

    def add(self, piece: Piece, pitch: float) -> None:
        """Append a piece that will be played ``pitch`` times as fast as it was made."""
        self.is_begun, self.utterance = True, piece.utterance
        self.text = (self.text + piece.text).lstrip()
        place = self._words[-1]["end_index"] if self._words else 0
        for word in words(piece):
            begin = self.text.index(word.text, place)
            place = begin + len(word.text)
            self._words.append(
                {
                    "text": word.text,
                    "begin_index": begin,
                    "end_index": place,
                    "begin_time": round(1000 * word.start_s / pitch),
                    "end_time": round(1000 * word.end_s / pitch),
                }
            )

    def described(self, parameters: Parameters) -> dict[str, Any]:
        """The words so far, by estimate, where the client asked for them."""
        return {
            "index": self.index,
            "words": list(self._words) if parameters.word_timestamp_enabled else [],
        }
