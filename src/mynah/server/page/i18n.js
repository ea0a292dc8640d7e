// Two languages. Elements name their text with data-i18n, data-i18n-label or data-i18n-placeholder.
import { en } from "./strings-en.js";
import { zh } from "./strings-zh.js";
import { recall, remember } from "./storage.js";

const STRINGS = { en, zh };
let current = "en";

export function language() {
  return current;
}

/** The text of a key, with {names} filled in; a key without a text is shown as it is. */
export function t(key, values = {}) {
  const text = STRINGS[current][key] ?? STRINGS.en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

/** The text of a name that may have none, such as an emotion of a model. */
export function nameOf(kind, name) {
  const words = name.replace(/[_-]+/g, " ");
  return STRINGS[current][`${kind}.${name}`] ?? words.charAt(0).toUpperCase() + words.slice(1);
}

/** What a language is called in the language of the page. */
export function languageName(code) {
  try {
    return new Intl.DisplayNames([current], { type: "language" }).of(code) ?? code;
  } catch {
    return code;
  }
}

export function setLanguage(code) {
  current = code in STRINGS ? code : "en";
  remember("language", current);
  document.documentElement.lang = current === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-i18n]")) {
    element.textContent = t(element.dataset.i18n);
  }
  for (const element of document.querySelectorAll("[data-i18n-label]")) {
    element.setAttribute("aria-label", t(element.dataset.i18nLabel));
  }
  for (const element of document.querySelectorAll("[data-i18n-placeholder]")) {
    element.placeholder = t(element.dataset.i18nPlaceholder);
  }
  document.dispatchEvent(new CustomEvent("mynah:language"));
}

/** The language chosen before, or the first of the browser's that there is. */
export function preferredLanguage() {
  const wanted = [recall("language"), ...(navigator.languages ?? [navigator.language])];
  for (const code of wanted) {
    const short = (code ?? "").toLowerCase().split("-")[0];
    if (short in STRINGS) return short;
  }
  return "en";
}
