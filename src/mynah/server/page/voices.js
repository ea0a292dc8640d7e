// The voices of a model and of the user, as radio buttons.

import { languageName, t } from "./i18n.js";

export class VoiceList {
  #box;
  #remove;
  #voices = null; // not known yet
  #chosen = null;

  /**
   * @param box where the list goes
   * @param remove called with the name of a voice that is to be deleted
   */
  constructor(box, remove) {
    this.#box = box;
    this.#remove = remove;
  }

  /** Name of the chosen voice, or null. */
  get chosen() {
    return this.#chosen;
  }

  /**
   * @param voices as the server lists them
   * @param chosen name of the one to choose, if it is there
   * @param fallback name of the one to choose else
   */
  show(voices, chosen, fallback) {
    this.#voices = voices;
    const usable = voices.filter((voice) => !voice.problem).map((voice) => voice.name);
    this.#chosen = [chosen, fallback, usable[0]].find((name) => usable.includes(name)) ?? null;
    this.render();
  }

  render() {
    const focused = this.#box.contains(document.activeElement);
    if (!this.#voices?.length) {
      const empty = document.createElement("p");
      empty.className = "empty";
      empty.textContent = t(this.#voices ? "noVoices" : "voicesComing");
      this.#box.replaceChildren(empty);
      return;
    }
    this.#box.replaceChildren(...this.#voices.map((voice) => this.#row(voice)));
    const checked = this.#box.querySelector("input:checked");
    const row = checked?.closest(".voice"); // scrolls the list, and never the page
    if (row) this.#box.scrollTop = row.offsetTop - this.#box.offsetTop - row.offsetHeight;
    if (focused) checked?.focus();
  }

  #row(voice) {
    const row = document.createElement("div");
    row.className = "voice";
    const radio = document.createElement("input");
    Object.assign(radio, { type: "radio", name: "voice", value: voice.name });
    radio.id = `voice-${voice.name}`;
    radio.checked = voice.name === this.#chosen;
    radio.disabled = Boolean(voice.problem);
    radio.addEventListener("change", () => {
      this.#chosen = voice.name;
    });
    const label = document.createElement("label");
    label.htmlFor = radio.id;
    label.append(line("voice-name", voice.name), line("facts", factsOf(voice)));
    row.append(radio, label);
    if (!voice.builtin) row.append(this.#bin(voice.name));
    return row;
  }

  #bin(name) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet symbol";
    button.textContent = "✕";
    button.title = t("deleteVoice", { name });
    button.setAttribute("aria-label", button.title);
    button.addEventListener("click", () => {
      if (window.confirm(t("deleteVoiceAsk", { name }))) this.#remove(name);
    });
    return button;
  }
}

function factsOf(voice) {
  if (voice.problem) return voice.problem;
  const language = voice.language ? languageName(voice.language) : "";
  return [language, t(voice.builtin ? "builtin" : "own")].filter(Boolean).join(" · ");
}

function line(kind, text) {
  const made = document.createElement("span");
  made.className = kind;
  made.textContent = text;
  return made;
}
