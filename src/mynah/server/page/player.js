// The page's side of player-worklet.js: one clip at a time.

export class Player extends EventTarget {
  #context = null;
  #node = null;
  #opening = null;
  #numOpened = 0;
  #numCommands = 0;

  clip = null;
  isPlaying = false;
  isStarved = false;
  positionS = 0;
  underruns = 0;
  level = 0;
  loudest = 0; // of what was played of this clip

  /** Ask for the sound card. Called in a click, because browsers allow it only there. */
  wake() {
    this.#opening ??= this.#start().catch((error) => {
      this.#opening = null;
      throw error;
    });
    this.#context?.resume();
    return this.#opening;
  }

  async #start() {
    // On phones the switch that silences ringing should not silence speech that was asked for.
    if (navigator.audioSession) navigator.audioSession.type = "playback";
    this.#context = new AudioContext({ latencyHint: "interactive" });
    this.#context.resume();
    await this.#context.audioWorklet.addModule(new URL("player-worklet.js", import.meta.url));
    this.#node = new AudioWorkletNode(this.#context, "clip-player", {
      numberOfInputs: 0,
      outputChannelCount: [1],
    });
    this.#node.port.onmessage = ({ data }) => this.#hear(data);
    this.#node.connect(this.#context.destination);
  }

  /** Play a clip from its beginning; what arrives later is passed on by ``feed``. */
  async open(clip) {
    await this.wake();
    this.clip = clip;
    this.#numOpened++;
    this.positionS = this.underruns = this.level = this.loudest = 0;
    this.isPlaying = true;
    this.#tell({ do: "open", rate: clip.rate });
    for (const samples of clip.chunks) this.#pass(samples);
    if (clip.isComplete) this.#tell({ do: "complete" });
    this.#tell({ do: "play" });
    this.#changed();
  }

  feed(clip, samples) {
    if (clip === this.clip) this.#pass(samples);
  }

  complete(clip) {
    if (clip === this.clip) this.#tell({ do: "complete" });
  }

  close() {
    this.pause();
    this.clip = null;
    this.#changed();
  }

  play() {
    this.#context?.resume();
    this.isPlaying = true;
    this.#tell({ do: "play" });
    this.#changed();
  }

  pause() {
    this.isPlaying = false;
    this.#tell({ do: "pause" });
    this.#changed();
  }

  seek(seconds) {
    if (!this.clip) return;
    this.positionS = Math.max(0, Math.min(seconds, this.clip.durationS));
    this.#tell({ do: "seek", sample: Math.round(this.positionS * this.clip.rate) });
    this.#changed();
  }

  #pass(samples) {
    const copy = samples.slice();
    this.#node?.port.postMessage({ do: "feed", id: this.#numOpened, samples: copy }, [copy.buffer]);
  }

  #tell(message) {
    const command = ++this.#numCommands;
    this.#node?.port.postMessage({ id: this.#numOpened, command, ...message });
  }

  #hear(report) {
    if (report.id !== this.#numOpened || !this.clip) return; // of the clip before
    this.loudest = Math.max(this.loudest, report.level);
    if (report.command !== this.#numCommands) return; // from before the last click
    this.positionS = report.position / this.clip.rate;
    this.isPlaying = report.isPlaying;
    this.isStarved = report.isStarved;
    this.underruns = report.underruns;
    this.level = report.level;
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
