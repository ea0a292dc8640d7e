// Plays one clip on the audio clock while it is still arriving.
//
// All samples of the clip are kept, so that a jump back needs nothing from the page. They are
// brought to the rate of the sound card by a windowed sinc. When they run out the sound fades, and
// goes on when there is a reserve again, which grows with every time that this happens.

const PAGE_BITS = 16; // samples are kept in pages: growing never copies on the audio thread
const PAGE_SIZE = 1 << PAGE_BITS;
const HALF = 12; // taps on each side
const PHASES = 256;
const FADE_FRAMES = 240;
const FIRST_RESERVE_S = 0.2;
const LARGEST_RESERVE_S = 2;
const REPORT_BLOCKS = 12;

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

/** One row of 2 * HALF weights for each place between two samples. */
function makeKernel(step) {
  const cutoff = step > 1 ? 0.95 / step : 1;
  const kernel = new Float32Array((PHASES + 1) * 2 * HALF);
  for (let phase = 0; phase <= PHASES; phase++) {
    for (let tap = 0; tap < 2 * HALF; tap++) {
      const x = tap - HALF + 1 - phase / PHASES;
      const window = Math.abs(x) >= HALF ? 0 : Math.cos((Math.PI * x) / (2 * HALF)) ** 2;
      kernel[phase * 2 * HALF + tap] = cutoff * sinc(cutoff * x) * window;
    }
  }
  return kernel;
}

class ClipPlayer extends AudioWorkletProcessor {
  constructor() {
    super();
    this.command = 0; // number of the last one that was obeyed
    this.open({ id: 0, rate: sampleRate });
    this.port.onmessage = ({ data }) => {
      this.command = data.command ?? this.command;
      this[data.do](data);
    };
  }

  open({ id, rate }) {
    this.id = id;
    this.rate = rate;
    this.step = rate / sampleRate;
    this.kernel = makeKernel(this.step);
    this.pages = [];
    this.received = 0;
    this.isComplete = false;
    this.position = 0; // in samples of the clip
    this.jump = null;
    this.gain = 0;
    this.isPlaying = false;
    this.isStarved = true;
    this.reserve = FIRST_RESERVE_S * rate;
    this.underruns = 0;
    this.level = 0;
    this.blocks = 0;
  }

  feed({ id, samples }) {
    if (id !== this.id) return;
    let done = 0;
    while (done < samples.length) {
      const page = this.received >> PAGE_BITS;
      const at = this.received & (PAGE_SIZE - 1);
      if (page === this.pages.length) this.pages.push(new Int16Array(PAGE_SIZE));
      const count = Math.min(samples.length - done, PAGE_SIZE - at);
      this.pages[page].set(samples.subarray(done, done + count), at);
      this.received += count;
      done += count;
    }
  }

  complete({ id }) {
    if (id === this.id) this.isComplete = true;
  }

  play() {
    if (this.isComplete && this.position >= this.received) this.position = 0;
    this.isPlaying = true;
  }

  pause() {
    this.isPlaying = false;
  }

  seek({ sample }) {
    this.jump = Math.max(0, Math.min(sample, this.received));
  }

  process(inputs, outputs) {
    const output = outputs[0][0];
    const wasPlaying = this.isPlaying;
    this.refill();
    for (let frame = 0; frame < output.length; frame++) {
      const target = this.target();
      const change = 1 / FADE_FRAMES;
      this.gain += Math.max(-change, Math.min(change, target - this.gain));
      if (this.gain <= 0) {
        this.gain = 0;
        if (this.jump !== null) this.land();
        continue;
      }
      const value = this.gain * this.sample();
      output[frame] = value;
      this.level = Math.max(this.level, Math.abs(value));
      this.position += this.step;
      if (this.isComplete && this.position >= this.received) this.end();
    }
    for (const channel of outputs[0].slice(1)) channel.set(output);
    if (++this.blocks >= REPORT_BLOCKS || wasPlaying !== this.isPlaying) this.report();
    return true;
  }

  /** Start again after a gap once there is enough in reserve. */
  refill() {
    const ahead = this.received - this.position;
    if (this.isStarved && (this.isComplete || ahead >= this.reserve)) this.isStarved = false;
  }

  /** The gain to go to: 0 where nothing should be heard. */
  target() {
    if (!this.isPlaying || this.isStarved || this.jump !== null) return 0;
    const left = this.received - HALF - this.position;
    if (!this.isComplete && left <= FADE_FRAMES * this.step) {
      this.isStarved = true; // fades over what is left
      this.underruns++;
      this.reserve = Math.min(2 * this.reserve, LARGEST_RESERVE_S * this.rate);
      return 0;
    }
    return 1;
  }

  land() {
    this.position = this.jump;
    this.jump = null;
    this.isStarved = !this.isComplete;
  }

  end() {
    this.position = this.received;
    this.isPlaying = false;
    this.gain = 0;
  }

  sample() {
    const whole = Math.floor(this.position);
    const row = Math.round((this.position - whole) * PHASES) * 2 * HALF;
    let sum = 0;
    for (let tap = 0; tap < 2 * HALF; tap++) {
      const at = whole + tap - HALF + 1;
      if (at < 0 || at >= this.received) continue;
      sum += this.kernel[row + tap] * this.pages[at >> PAGE_BITS][at & (PAGE_SIZE - 1)];
    }
    return sum / 32768;
  }

  report() {
    this.port.postMessage({
      id: this.id,
      command: this.command,
      position: this.jump ?? this.position,
      isPlaying: this.isPlaying,
      isStarved: this.isPlaying && this.isStarved,
      underruns: this.underruns,
      level: this.level,
    });
    this.blocks = 0;
    this.level = 0;
  }
}

registerProcessor("clip-player", ClipPlayer);
