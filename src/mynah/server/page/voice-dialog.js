// Makes a voice from a file or a recording, and shows what the server's checks say about it.

import { checkRecording, createVoice } from "./api.js";
import { languageName, t } from "./i18n.js";
import { fill } from "./manner.js";
import { wordsOf } from "./problem.js";
import { Recorder, canRecord } from "./recorder.js";

const $ = (id) => document.getElementById(id);

export class VoiceDialog {
  #onMade;
  #file = null;
  #recorder = null;
  #model = null;
  #languages = [];
  #isBusy = false;

  /** @param onMade called with the name of a new voice */
  constructor(onMade) {
    this.#onMade = onMade;
    $("clip-file").addEventListener("change", () => this.#choose());
    $("record").addEventListener("click", () => this.#record());
    $("voice-cancel").addEventListener("click", () => $("voice-dialog").close());
    $("voice-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#make();
    });
    $("voice-dialog").addEventListener("close", () => this.#reset());
  }

  /** The languages of the model, to choose from. */
  learn(languages) {
    this.#languages = languages;
  }

  open(model) {
    this.#model = model;
    this.#reset();
    const options = this.#languages.map((code) => [code, languageName(code)]);
    fill($("voice-language"), [["", t("unknown")], ...options], "");
    $("voice-dialog").showModal();
  }

  #reset() {
    this.#recorder?.stop();
    this.#recorder = null;
    $("voice-form").reset();
    this.#take(null, t("noClip"));
    this.#showRecording(false);
  }

  #choose() {
    const [file] = $("clip-file").files;
    if (!file) return;
    this.#take(file, t("chosen", { name: file.name }));
    if (!$("voice-name").value) $("voice-name").value = nameFrom(file.name);
  }

  #take(file, text) {
    this.#file = file;
    $("clip-state").textContent = text;
    const audio = $("clip-audio");
    if (audio.src) URL.revokeObjectURL(audio.src);
    audio.removeAttribute("src");
    audio.hidden = !file;
    this.#judge("", null);
    if (!file) return;
    audio.src = URL.createObjectURL(file);
    this.#check(file);
  }

  /** Show what the server's checks say, before anything else is filled in. */
  async #check(file) {
    this.#judge("busy", t("checking"));
    try {
      const report = await checkRecording(file);
      if (this.#file !== file) return;
      this.#judge("good", t("checked"), t("checkedFacts", {
        seconds: report.sound_s.toFixed(1),
        level: Math.round(report.level_db),
        noise: Math.round(report.snr_db),
      }));
    } catch (error) {
      if (this.#file === file) this.#refuse(error);
    }
  }

  async #record() {
    if (this.#recorder) {
      await this.#finish();
      return;
    }
    if (!canRecord()) {
      this.#judge("bad", t("noMicrophone"));
      return;
    }
    const recorder = new Recorder();
    this.#recorder = recorder;
    this.#take(null, t("recording", { seconds: 0 }));
    this.#showRecording(true);
    let shownS = 0;
    try {
      await recorder.start(
        (seconds, level) => {
          $("clip-level").value = level;
          if (Math.floor(seconds) === shownS) return;
          shownS = Math.floor(seconds);
          $("clip-state").textContent = t("recording", { seconds: shownS });
        },
        () => this.#finish(),
      );
      if (this.#recorder !== recorder) await recorder.stop(); // closed meanwhile
    } catch {
      await recorder.stop();
      if (this.#recorder !== recorder) return;
      this.#recorder = null;
      this.#showRecording(false);
      this.#take(null, t("noClip"));
      this.#judge("bad", t("microphoneRefused"));
    }
  }

  async #finish() {
    const recorder = this.#recorder;
    if (!recorder) return;
    this.#recorder = null;
    this.#showRecording(false);
    const { file, seconds } = await recorder.stop();
    if (seconds > 0) this.#take(file, t("recorded", { seconds: seconds.toFixed(1) }));
    else this.#take(null, t("noClip"));
  }

  #showRecording(isOn) {
    $("record").classList.toggle("on", isOn);
    $("record-text").textContent = t(isOn ? "recordStop" : "record");
    $("clip-level").hidden = !isOn;
    $("clip-level").value = 0;
  }

  async #make() {
    if (this.#isBusy) return;
    await this.#finish();
    const name = $("voice-name").value.trim();
    const missing =
      (!this.#file && "clipMissing") ||
      (!name && "nameMissing") ||
      (!$("voice-consent").checked && "consentMissing");
    if (missing) {
      this.#judge("bad", t(missing));
      const place = { nameMissing: "voice-name", consentMissing: "voice-consent" }[missing];
      $(place ?? "clip-file").focus();
      return;
    }
    this.#setBusy(true);
    this.#judge("busy", t("makingVoice"));
    const note = $("consent-note").value.trim();
    const fields = {
      name,
      model: this.#model,
      transcript: $("voice-transcript").value.trim(),
      language: $("voice-language").value,
      consent: ["the speaker agrees, said who made this on the web page", note]
        .filter(Boolean)
        .join("; "),
    };
    try {
      await createVoice(fields, this.#file);
      $("voice-dialog").close();
      await this.#onMade(name);
    } catch (error) {
      this.#refuse(error);
    } finally {
      this.#setBusy(false);
    }
  }

  #refuse(error) {
    const { title, message, solution } = wordsOf(error);
    this.#judge("bad", title, message, solution && t("whatToDo", { solution }));
  }

  #setBusy(isBusy) {
    this.#isBusy = isBusy;
    $("voice-save").disabled = isBusy;
  }

  #judge(kind, ...lines) {
    const box = $("verdict");
    box.className = `verdict ${kind}`;
    box.hidden = !lines[0];
    const shown = lines.filter(Boolean).map((text) => {
      const line = document.createElement("p");
      line.textContent = text;
      return line;
    });
    box.replaceChildren(...shown);
    if (shown.length) box.scrollIntoView({ block: "nearest" });
  }
}

/** A name that a voice may have, from that of a file. */
function nameFrom(fileName) {
  const stem = fileName.replace(/\.[^.]*$/, "").replace(/[^A-Za-z0-9_-]+/g, "-");
  return stem.replace(/^[^A-Za-z0-9]+|-+$/g, "").slice(0, 64);
}
