// What is being listened to: outline, position, play and pause, files.

import { t } from "./i18n.js";
import { Waveform } from "./waveform.js";

const $ = (id) => document.getElementById(id);

export function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

export class Deck {
  #player;
  #makeMp3;
  #wave = new Waveform($("wave"));
  #clip = null;
  #phase = "idle";
  #isDrawn = false;

  /**
   * @param player plays clips
   * @param makeMp3 gives the file of a clip, or null after telling why not
   */
  constructor(player, makeMp3) {
    this.#player = player;
    this.#makeMp3 = makeMp3;
    player.addEventListener("change", () => this.#draw());
    $("play").addEventListener("click", () => this.#toggle());
    $("seek").addEventListener("input", () => this.#seek());
    $("save-wav").addEventListener("click", () => this.saveWav(this.#clip));
    $("save-mp3").addEventListener("click", (event) => this.saveMp3(this.#clip, event.target));
    new ResizeObserver(() => this.#draw()).observe($("wave"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
    document.addEventListener("mynah:theme", () => this.#draw());
  }

  get clip() {
    return this.#clip;
  }

  /** A speech was asked for; there is no audio yet. */
  prepare(text) {
    this.#clip = null;
    $("steps").hidden = true;
    $("deck").hidden = false;
    $("now").textContent = text.trim();
    this.#draw();
  }

  use(clip) {
    this.#clip = clip;
    $("steps").hidden = true;
    $("deck").hidden = false;
    $("now").textContent = clip.request.text.trim();
    this.#draw();
  }

  /** Listen to a clip of the history. */
  async replay(clip) {
    this.use(clip);
    await this.#player.open(clip);
  }

  /** A clip was removed: do not go on with it. */
  drop(clip) {
    if (clip !== this.#clip) return;
    this.#player.close();
    this.#clip = null;
    $("deck").hidden = true;
    $("steps").hidden = false;
  }

  grow(clip) {
    if (clip === this.#clip) this.#draw();
  }

  show(phase) {
    this.#phase = phase;
    this.#draw();
  }

  saveWav(clip) {
    if (clip) save(clip.toWav(), `${fileName(clip)}.wav`);
  }

  async saveMp3(clip, button) {
    if (!clip) return;
    button.disabled = true;
    button.setAttribute("aria-label", t("savingMp3"));
    button.classList.add("busy");
    const made = await this.#makeMp3(clip);
    button.classList.remove("busy");
    button.disabled = false;
    button.setAttribute("aria-label", t("saveMp3"));
    if (made) save(made, `${fileName(clip)}.mp3`);
  }

  #toggle() {
    const player = this.#player;
    if (!this.#clip) return;
    if (player.clip !== this.#clip) player.open(this.#clip);
    else if (player.isPlaying) player.pause();
    else player.play();
  }

  #seek() {
    if (!this.#clip) return;
    this.#player.seek(Math.min(Number($("seek").value), this.#clip.durationS));
  }

  /** Draw at most once a frame. */
  #draw() {
    if (this.#isDrawn) return;
    this.#isDrawn = true;
    requestAnimationFrame(() => {
      this.#isDrawn = false;
      this.#drawNow();
    });
  }

  #drawNow() {
    const clip = this.#clip;
    const isOurs = clip !== null && this.#player.clip === clip;
    const positionS = isOurs ? this.#player.positionS : 0;
    const isPlaying = isOurs && this.#player.isPlaying;
    const durationS = clip?.durationS ?? 0;
    this.#wave.draw(clip ?? EMPTY, positionS);
    $("seek").max = String(this.#wave.scaleS);
    $("seek").value = String(positionS);
    $("seek").setAttribute("aria-valuetext", `${clock(positionS)} / ${clock(durationS)}`);
    $("position").textContent = clock(positionS);
    $("duration").textContent = clock(durationS);
    $("play").classList.toggle("playing", isPlaying);
    $("play").setAttribute("aria-label", t(isPlaying ? "pause" : "play"));
    $("play").disabled = !clip;
    for (const id of ["save-wav", "save-mp3"]) {
      const name = id === "save-wav" ? "saveWav" : "saveMp3";
      if (!$(id).classList.contains("busy")) {
        // an MP3 is made by saying it all again, which is not what a stopped speech is
        $(id).disabled = !clip?.isComplete || (id === "save-mp3" && clip.wasStopped);
        $(id).setAttribute("aria-label", t(name));
      }
      $(id).title = t(name);
    }
    const text = this.describe();
    if ($("state").textContent !== text) $("state").textContent = text;
  }

  /** What is going on, in words. */
  describe() {
    const clip = this.#clip;
    const seconds = clip?.durationS.toFixed(1);
    if (!clip) return this.#phase === "waiting" ? t("waiting") : "";
    if (!clip.isComplete) {
      const isWaiting = this.#player.isStarved && this.#player.underruns > 0;
      return isWaiting ? t("catchingUp") : t("receiving", { seconds });
    }
    return t(clip.wasStopped ? "stopped" : "done", { seconds });
  }
}

const EMPTY = { isComplete: false, durationS: 0, peakBetween: () => 0 };

function fileName(clip) {
  const words = clip.request.text.trim().slice(0, 40).match(/[\p{L}\p{N}]+/gu) ?? [];
  return words.slice(0, 5).join("-") || "speech";
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
