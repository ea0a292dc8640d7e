// What was made since the page was opened. Lives in the page's memory only.

import { clock } from "./deck.js";
import { shortened } from "./examples.js";
import { t } from "./i18n.js";

const LONGEST_TITLE = 90;

export class History {
  #clips = [];
  #numAdded = 0;
  #deck;
  #useAgain;

  /**
   * @param deck plays and saves clips
   * @param useAgain called with the text of a clip
   */
  constructor(deck, useAgain) {
    this.#deck = deck;
    this.#useAgain = useAgain;
  }

  get length() {
    return this.#clips.length;
  }

  add(clip) {
    clip.number = ++this.#numAdded;
    this.#clips.unshift(clip);
    this.show();
  }

  remove(clip) {
    const hadFocus = document.getElementById("history").contains(document.activeElement);
    const at = this.#clips.indexOf(clip);
    this.#clips = this.#clips.filter((other) => other !== clip);
    this.#deck.drop(clip);
    this.show();
    if (!hadFocus) return;
    // it would be lost with the button that had it
    const rows = document.querySelectorAll("#history .replay");
    (rows[Math.min(at, rows.length - 1)] ?? document.getElementById("text")).focus();
  }

  show() {
    document.getElementById("history-empty").hidden = this.#clips.length > 0;
    const list = document.getElementById("history");
    const { number, use } = document.activeElement?.dataset ?? {};
    list.replaceChildren(...this.#clips.map((clip) => this.#row(clip)));
    if (number) list.querySelector(`[data-number="${number}"][data-use="${use}"]`)?.focus();
  }

  #row(clip) {
    const row = document.createElement("li");
    const title = shortened(clip.request.text, LONGEST_TITLE);
    const facts = [clip.voice, clip.isComplete ? clock(clip.durationS) : "…"];
    if (clip.wasStopped) facts.push("■");
    const replay = button("replay", title, t("replay", { text: title }), () =>
      this.#deck.replay(clip),
    );
    replay.dir = "auto";
    const small = document.createElement("p");
    small.className = "facts";
    small.textContent = facts.filter(Boolean).join(" · ");
    const tools = document.createElement("div");
    tools.className = "tools";
    const wav = button("quiet", "WAV", t("saveWav"), () => this.#deck.saveWav(clip));
    const mp3 = button("quiet", "MP3", t("saveMp3"), () => this.#deck.saveMp3(clip, mp3));
    wav.disabled = !clip.isComplete;
    mp3.disabled = !clip.isComplete || clip.wasStopped;
    tools.append(
      wav,
      mp3,
      button("quiet symbol", "↺", t("takeText"), () => this.#useAgain(clip.request.text)),
      button("quiet symbol", "✕", t("remove", { text: title }), () => this.remove(clip)),
    );
    tools.lastChild.disabled = !clip.isComplete; // stop it first
    row.append(replay, small, tools);
    for (const [use, made] of row.querySelectorAll("button").entries()) {
      Object.assign(made.dataset, { number: clip.number, use });
    }
    return row;
  }
}

function button(kind, text, label, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = kind;
  made.textContent = text;
  made.title = label;
  made.setAttribute("aria-label", label);
  made.addEventListener("click", act);
  return made;
}
