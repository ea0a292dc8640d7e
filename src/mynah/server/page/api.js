// Every call to the server. What goes wrong is an ApiError with a code, a message and a cure.

import { SampleReader } from "./clip.js";

const KEY = "mynah.key";
let askForKey = async () => null;

export class ApiError extends Error {
  constructor(code, message, solution = "", status = 0) {
    super(message);
    Object.assign(this, { code, solution, status });
  }
}

/** Set what is called when the server wants a key: gives one, or null to give up. */
export function onKeyWanted(ask) {
  askForKey = ask;
}

function storedKey() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return storedKey.last ?? null;
  }
}

function storeKey(key) {
  storedKey.last = key;
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // forbidden: it lasts as long as the page
  }
}

/** Addresses are relative to the page, so that it works below any path of a proxy. */
async function call(path, options = {}) {
  for (let wasWrong = false; ; wasWrong = true) {
    const key = storedKey();
    const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
    let response;
    try {
      response = await fetch(path, { ...options, headers, cache: "no-store" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError("offline", "", "");
    }
    if (response.ok) return response;
    if (response.status === 401) {
      const given = await askForKey(wasWrong || key !== null);
      if (given !== null) {
        storeKey(given);
        continue;
      }
    }
    throw await problemOf(response);
  }
}

async function problemOf(response) {
  let body = {};
  try {
    body = await response.json();
  } catch {
    // of a proxy, say
  }
  const code = typeof body.error === "string" ? body.error : "other";
  const message = body.message ?? `${response.status} ${response.statusText}`;
  return new ApiError(code, message, body.solution ?? "", response.status);
}

/** Seeds are digits here: they may be larger than the whole numbers that JavaScript has. */
function asSpeech({ seed, ...request }) {
  const digits = /^\d+$/.test(seed ?? "") ? `,"seed":${BigInt(seed)}` : "";
  return {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: `${JSON.stringify(request).slice(0, -1)}${digits}}`,
  };
}

function asForm(fields, recording) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value) form.append(name, value);
  form.append("recording", recording, "recording"); // the file's own name is nobody's business
  return { method: "POST", body: form };
}

export async function capabilities() {
  return (await call("capabilities")).json();
}

/** The voices that a model can use, and those it cannot; loads the model. */
export async function voices(model) {
  const query = new URLSearchParams(model ? { model } : {});
  return (await (await call(`voices?${query}`)).json()).voices;
}

/** Measure a recording; an error says why it cannot become a voice. */
export async function checkRecording(file) {
  return (await call("voices/check", asForm({}, file))).json();
}

export async function createVoice(fields, file) {
  return (await call("voices", asForm(fields, file))).json();
}

export async function deleteVoice(name) {
  await call(`voices/${encodeURIComponent(name)}`, { method: "DELETE" });
}

/** The same speech again as a file of another format. */
export async function file(request, format) {
  return (await call("tts", asSpeech({ ...request, stream: false, response_format: format }))).blob();
}

/**
 * Speak. Calls ``onFacts`` once and ``onSamples`` for every piece that arrives; aborting the
 * signal closes the connection, which stops the server's work.
 */
export async function speak(request, signal, onFacts, onSamples) {
  const body = { ...request, stream: true, response_format: "pcm" };
  const response = await call("tts", { ...asSpeech(body), signal });
  onFacts({
    rate: Number(response.headers.get("X-Sample-Rate")),
    seed: response.headers.get("X-Seed"),
    voice: response.headers.get("X-Voice"),
    model: response.headers.get("X-Model"),
  });
  const reader = response.body.getReader();
  const samples = new SampleReader();
  for (;;) {
    let piece;
    try {
      piece = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError("broken", "", "");
    }
    if (piece.done) return;
    onSamples(samples.read(piece.value));
  }
}
