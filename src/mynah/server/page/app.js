// The page: wires the parts together. What it knows can be read as ``window.mynah.state``.

import * as api from "./api.js";
import { Clip } from "./clip.js";
import { Deck } from "./deck.js";
import { showExamples } from "./examples.js";
import { History } from "./history.js";
import { language, preferredLanguage, setLanguage, t } from "./i18n.js";
import { KeyDialog } from "./key.js";
import { Manner } from "./manner.js";
import { Player } from "./player.js";
import { Problem, announce } from "./problem.js";
import { startTheme } from "./themes.js";
import { VoiceDialog } from "./voice-dialog.js";
import { VoiceList } from "./voices.js";

const $ = (id) => document.getElementById(id);

const player = new Player();
const deck = new Deck(player, saveMp3);
const history = new History(deck, useAgain);
const problem = new Problem($("problem"));
const manner = new Manner($("manner"), chooseModel);
const voices = new VoiceList($("voice-list"), removeVoice);
const voiceDialog = new VoiceDialog(voiceMade);
const keyDialog = new KeyDialog();

let limits = { text_characters: 20000 };
let going = null; // { controller, clip, started } of the speech that is being made
let phase = "idle"; // waiting, receiving, done, stopped, failed
let times = {}; // ms since the page was opened

function setPhase(next) {
  phase = next;
  const isBusy = phase === "waiting" || phase === "receiving";
  $("stop").disabled = !isBusy;
  $("generate").setAttribute("aria-busy", String(isBusy));
  document.body.dataset.phase = phase;
  deck.show(phase);
  if (phase !== "idle" && phase !== "receiving") announce(deck.describe());
}

function count() {
  const length = [...$("text").value].length;
  const limit = limits.text_characters;
  const over = Math.max(0, length - limit);
  $("count").textContent = t(over ? "countOver" : "count", {
    count: length.toLocaleString(language()),
    limit: limit.toLocaleString(language()),
    over: over.toLocaleString(language()),
  });
  $("count").classList.toggle("over", over > 0);
}

async function generate() {
  const text = $("text").value;
  if (!text.trim()) {
    problem.tell(t("textMissing"), t("textMissingHelp"));
    $("text").focus();
    return;
  }
  stop();
  problem.clear();
  const own = { controller: new AbortController(), clip: null };
  going = own;
  times = { asked: performance.now() };
  const request = { text, model: manner.model, voice: voices.chosen, ...manner.values() };
  player.close();
  const awake = player.wake().catch((error) => problem.show(playbackError(error)));
  deck.prepare(text);
  setPhase("waiting");
  const isCurrent = () => going === own;
  try {
    await api.speak(
      request,
      own.controller.signal,
      (facts) => {
        own.clip = new Clip(request, facts);
        history.add(own.clip);
        if (isCurrent()) begin(own.clip, awake);
      },
      (samples) => {
        own.clip.append(samples);
        times.firstSamples ??= performance.now();
        player.feed(own.clip, samples);
        deck.grow(own.clip);
      },
    );
    finish(own, "done");
  } catch (error) {
    const wasStopped = error.name === "AbortError";
    finish(own, wasStopped ? "stopped" : "failed");
    if (!wasStopped) problem.show(error);
  }
}

function begin(clip, awake) {
  deck.use(clip);
  setPhase("receiving");
  awake
    .then(() => clip.wasStopped || player.open(clip))
    .catch((error) => problem.show(playbackError(error)));
}

function finish(own, outcome) {
  if (own.clip) {
    own.clip.isComplete = true;
    own.clip.wasStopped = outcome !== "done";
    player.complete(own.clip);
    if (own.clip.numSamples === 0) history.remove(own.clip);
    history.show();
  }
  if (going !== own) return; // another one has begun
  times.complete = performance.now();
  going = null;
  setPhase(outcome);
}

/** Abort the request: the server stops its work when the connection closes. */
function stop() {
  going?.controller.abort();
  if (player.isPlaying) player.pause();
}

function playbackError(error) {
  return new api.ApiError("playback", error.message, t("error.playback.solution"));
}

async function saveMp3(clip) {
  try {
    const { seed, voice, model } = clip;
    return await api.file({ ...clip.request, seed, voice, model }, "mp3");
  } catch (error) {
    problem.show(error);
    return null;
  }
}

function useAgain(text) {
  $("text").value = text;
  count();
  $("text").focus();
}

async function removeVoice(name) {
  try {
    await api.deleteVoice(name);
    announce(t("voiceDeleted", { name }));
    await loadVoices();
  } catch (error) {
    problem.show(error);
  }
}

async function voiceMade(name) {
  await loadVoices(name);
  announce(t("voiceMade", { name }));
}

async function loadVoices(chosen = voices.chosen) {
  const model = manner.model;
  const found = await api.voices(model);
  if (model === manner.model) voices.show(found, chosen, manner.facts?.default_voice);
}

/** Load a model if need be, and show what it can do. */
async function chooseModel() {
  announce(t("modelLoading"));
  try {
    await loadVoices(null);
    await loadCapabilities();
    await loadVoices(null);
    announce("");
  } catch (error) {
    problem.show(error);
  }
}

async function loadCapabilities() {
  const known = await api.capabilities();
  limits = known.limits;
  manner.learn(known);
  showExamples($("examples"), manner.facts?.languages ?? [], useAgain);
  voiceDialog.learn(manner.facts?.languages ?? []);
  count();
}

function refresh() {
  $("switch-language").textContent = t("otherLanguage");
  $("switch-language").lang = language() === "zh" ? "en" : "zh-CN";
  count();
  manner.render();
  voices.render();
  history.show();
  deck.show(phase);
  showExamples($("examples"), manner.facts?.languages ?? [], useAgain);
}

function listen() {
  $("text").addEventListener("input", count);
  $("generate").addEventListener("click", generate);
  $("stop").addEventListener("click", stop);
  $("new-voice").addEventListener("click", () => voiceDialog.open(manner.model));
  $("switch-language").addEventListener("click", () =>
    setLanguage(language() === "zh" ? "en" : "zh"),
  );
  document.addEventListener("mynah:language", refresh);
  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]") || event.isComposing) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      generate();
    } else if (event.key === "Escape") {
      stop();
    }
  });
  player.addEventListener("change", () => {
    if (player.positionS > 0 && player.loudest > 0) times.firstSound ??= performance.now();
  });
}

async function start() {
  api.onKeyWanted((wasWrong) => keyDialog.ask(wasWrong));
  if (/Mac|iPhone|iPad/.test(navigator.platform)) $("hint-generate").textContent = "⌘ ⏎";
  startTheme($("switch-theme"));
  listen();
  setLanguage(preferredLanguage());
  try {
    await loadCapabilities();
    await loadVoices();
    await loadCapabilities(); // the first use of a model loads it
  } catch (error) {
    problem.show(error);
  }
  document.body.dataset.ready = "yes";
}

Object.defineProperty(window, "mynah", {
  value: Object.freeze({
    /** A snapshot, for tests and for whoever reports a problem. Holds no text. */
    get state() {
      return {
        phase,
        ...times,
        rate: player.clip?.rate ?? null,
        receivedS: player.clip?.durationS ?? 0,
        isPlaying: player.isPlaying,
        positionS: player.positionS,
        level: player.level,
        loudest: player.loudest,
        underruns: player.underruns,
        voice: voices.chosen,
        numClips: history.length,
      };
    },
  }),
});

start();
