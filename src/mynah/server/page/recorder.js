// Records the microphone to a WAV file, without the changes that are meant for telephone calls.

import { wavFile } from "./clip.js";

const LONGEST_S = 30;

export function canRecord() {
  return Boolean(navigator.mediaDevices?.getUserMedia && window.AudioWorkletNode);
}

export class Recorder {
  #context = null;
  #stream = null;
  #chunks = [];
  #numSamples = 0;

  /**
   * Begin to record.
   * @param onSound called with the seconds so far and the level, 0 to 1
   * @param onFull called when the recording is as long as one may be
   */
  async start(onSound, onFull) {
    this.#stream = await navigator.mediaDevices.getUserMedia({
      audio: {
        channelCount: 1,
        echoCancellation: false,
        noiseSuppression: false,
        autoGainControl: false,
      },
    });
    this.#context = new AudioContext();
    await this.#context.audioWorklet.addModule(new URL("recorder-worklet.js", import.meta.url));
    const node = new AudioWorkletNode(this.#context, "recorder", { numberOfOutputs: 0 });
    node.port.onmessage = ({ data }) => {
      this.#chunks.push(toIntegers(data));
      this.#numSamples += data.length;
      const seconds = this.#numSamples / this.#context.sampleRate;
      onSound(
        seconds,
        data.reduce((peak, sample) => Math.max(peak, Math.abs(sample)), 0),
      );
      if (seconds >= LONGEST_S - 0.1) onFull();
    };
    this.#context.createMediaStreamSource(this.#stream).connect(node);
  }

  /** End, and return the file and its length in seconds. */
  async stop() {
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    const rate = this.#context?.sampleRate ?? 48000;
    await this.#context?.close();
    return { file: wavFile(this.#chunks, rate), seconds: this.#numSamples / rate };
  }
}

function toIntegers(samples) {
  return Int16Array.from(samples, (sample) =>
    Math.round(32767 * Math.max(-1, Math.min(1, sample))),
  );
}
