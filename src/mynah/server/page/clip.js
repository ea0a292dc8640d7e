// Audio that is arriving or has arrived: samples, their outline, and files made of them.

const PEAKS_PER_S = 50;
const WAV_HEADER_BYTES = 44;

/** One spoken text. */
export class Clip {
  chunks = []; // Int16Array
  numSamples = 0;
  peaks = []; // loudest sample of each 1 / PEAKS_PER_S, 0 to 1
  isComplete = false;
  wasStopped = false;
  number = 0; // in the history
  #peak = 0;
  #inPeak = 0;

  /**
   * @param request what was asked, to ask again
   * @param facts rate in Hz; seed, voice and model that the server chose
   */
  constructor(request, { rate, seed, voice, model }) {
    Object.assign(this, { request, rate, seed, voice, model });
  }

  get durationS() {
    return this.numSamples / this.rate;
  }

  append(samples) {
    this.chunks.push(samples);
    this.numSamples += samples.length;
    const length = this.rate / PEAKS_PER_S;
    for (const sample of samples) {
      this.#peak = Math.max(this.#peak, Math.abs(sample));
      if (++this.#inPeak < length) continue;
      this.peaks.push(this.#peak / 32768);
      this.#inPeak -= length;
      this.#peak = 0;
    }
  }

  /** The loudest sample between two times in seconds. */
  peakBetween(startS, endS) {
    const start = Math.floor(startS * PEAKS_PER_S);
    const end = Math.max(start + 1, Math.floor(endS * PEAKS_PER_S));
    let peak = 0;
    for (let index = start; index < Math.min(end, this.peaks.length); index++) {
      peak = Math.max(peak, this.peaks[index]);
    }
    return peak;
  }

  toWav() {
    return wavFile(this.chunks, this.rate);
  }
}

/** A mono 16-bit WAV file of chunks of samples. */
export function wavFile(chunks, rate) {
  const bytes = chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0);
  const header = new DataView(new ArrayBuffer(WAV_HEADER_BYTES));
  const write = (offset, text) => {
    for (let i = 0; i < text.length; i++) header.setUint8(offset + i, text.charCodeAt(i));
  };
  write(0, "RIFF");
  header.setUint32(4, WAV_HEADER_BYTES - 8 + bytes, true);
  write(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, 1, true); // integers
  header.setUint16(22, 1, true); // mono
  header.setUint32(24, rate, true);
  header.setUint32(28, 2 * rate, true);
  header.setUint16(32, 2, true);
  header.setUint16(34, 16, true);
  write(36, "data");
  header.setUint32(40, bytes, true);
  return new Blob([header, ...chunks], { type: "audio/wav" });
}

/** Whole little-endian samples out of pieces of bytes that may be cut anywhere. */
export class SampleReader {
  #rest = new Uint8Array(0);

  read(bytes) {
    const joined = new Uint8Array(this.#rest.length + bytes.length);
    joined.set(this.#rest);
    joined.set(bytes, this.#rest.length);
    const count = joined.length >> 1;
    this.#rest = joined.slice(2 * count);
    const view = new DataView(joined.buffer);
    const samples = new Int16Array(count);
    for (let i = 0; i < count; i++) samples[i] = view.getInt16(2 * i, true);
    return samples;
  }
}
