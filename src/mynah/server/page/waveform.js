// The outline of a clip, with what was played in another colour.

const BAR_PX = 3;
const GAP_PX = 2;
const LEAST_S = 6; // a short beginning should not fill the whole width
const TAIL = 1.15; // room for what is still coming

export class Waveform {
  #canvas;
  #scaleS = LEAST_S;

  constructor(canvas) {
    this.#canvas = canvas;
  }

  /** Seconds that the width stands for. */
  get scaleS() {
    return this.#scaleS;
  }

  draw(clip, positionS) {
    const canvas = this.#canvas;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (!width || !height) return;
    const dense = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * dense) || canvas.height !== Math.round(height * dense)) {
      canvas.width = Math.round(width * dense);
      canvas.height = Math.round(height * dense);
    }
    const brush = canvas.getContext("2d");
    brush.setTransform(dense, 0, 0, dense, 0, 0);
    brush.clearRect(0, 0, width, height);
    const colours = getComputedStyle(canvas);
    const played = colours.getPropertyValue("--wave-played");
    const coming = colours.getPropertyValue("--wave-coming");
    const empty = colours.getPropertyValue("--wave-empty");
    this.#scaleS = clip.isComplete
      ? Math.max(clip.durationS, 0.1)
      : Math.max(TAIL * clip.durationS, LEAST_S);
    const stepS = (this.#scaleS * (BAR_PX + GAP_PX)) / width;
    for (let x = 0, startS = 0; x < width; x += BAR_PX + GAP_PX, startS += stepS) {
      const isThere = startS < clip.durationS;
      const peak = isThere ? clip.peakBetween(startS, startS + stepS) : 0;
      // the root shows quiet speech, too
      const tall = Math.max(3, Math.min(1, 1.25 * Math.sqrt(peak)) * (height - 6));
      brush.fillStyle = !isThere ? empty : startS < positionS ? played : coming;
      brush.beginPath();
      brush.roundRect(x, (height - tall) / 2, BAR_PX, tall, BAR_PX / 2);
      brush.fill();
    }
    const at = Math.min(width - 1, Math.max(1, (positionS / this.#scaleS) * width));
    brush.fillStyle = colours.getPropertyValue("--wave-head");
    brush.fillRect(at - 1, 2, 2, height - 4);
  }
}
