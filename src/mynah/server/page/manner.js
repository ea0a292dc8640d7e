// How the text is spoken: only the controls that the chosen model knows.

import { languageName, nameOf, t } from "./i18n.js";

const SLOWEST = 0.5; // what sounds well; the server takes more
const FASTEST = 2;

export class Manner {
  #box;
  #onModel;
  #known = { models: [], limits: {} };
  #model = null;
  #values = { language: "", speed: 1, emotion: "", dialect: "", style: "", instruction: "", seed: "" };

  /**
   * @param box where the controls go
   * @param onModel called after another model was chosen
   */
  constructor(box, onModel) {
    this.#box = box;
    this.#onModel = onModel;
  }

  /** Name of the chosen model. */
  get model() {
    return this.#model;
  }

  /** What the server says of it. */
  get facts() {
    return this.#known.models.find((model) => model.name === this.#model);
  }

  learn(known) {
    this.#known = known;
    if (!this.facts) this.#model = known.default_model;
    this.render();
  }

  /** The fields of a request; what the model does not know is left out. */
  values() {
    const facts = this.facts ?? {};
    const told = this.#values.instruction.trim();
    const values = { speed: this.#values.speed };
    if (this.#values.language) values.language = this.#values.language;
    if (/^\d+$/.test(this.#values.seed.trim())) values.seed = this.#values.seed.trim();
    if (told && facts.instructions) return { ...values, instruction: told };
    for (const [kind, names] of Object.entries(stylesOf(facts))) {
      if (names.includes(this.#values[kind])) values[kind] = this.#values[kind];
    }
    return values;
  }

  render() {
    const facts = this.facts;
    const focused = document.activeElement?.id;
    const fields = [];
    if (this.#known.models.length > 1) fields.push(this.#models());
    if ((facts?.languages?.length ?? 0) > 1) fields.push(this.#languages(facts.languages));
    fields.push(this.#speed());
    for (const [kind, names] of Object.entries(stylesOf(facts ?? {}))) {
      if (names.length) fields.push(this.#names(kind, names));
    }
    if (facts?.instructions) fields.push(this.#instruction());
    fields.push(this.#more());
    this.#box.replaceChildren(...fields);
    if (focused) this.#box.querySelector(`#${CSS.escape(focused)}`)?.focus();
  }

  #models() {
    const options = this.#known.models.map(({ name }) => [name, name]);
    const select = choice("model", options, this.#model);
    select.addEventListener("change", () => {
      this.#model = select.value;
      this.render();
      this.#onModel();
    });
    return field("model", select);
  }

  #languages(codes) {
    const options = [["", t("auto")], ...codes.map((code) => [code, languageName(code)])];
    return field("language", this.#bound(choice("language", options, this.#values.language)));
  }

  #names(kind, names) {
    const options = [["", t("asUsual")], ...names.map((name) => [name, nameOf(kind, name)])];
    return field(kind, this.#bound(choice(kind, options, this.#values[kind])));
  }

  #speed() {
    const [least, most] = this.#known.limits.speed ?? [SLOWEST, FASTEST];
    const slider = document.createElement("input");
    Object.assign(slider, { type: "range", id: "manner-speed", step: "0.05" });
    slider.min = String(Math.max(SLOWEST, least));
    slider.max = String(Math.min(FASTEST, most));
    slider.value = String(this.#values.speed);
    const shown = document.createElement("output");
    shown.setAttribute("for", slider.id);
    const show = () => {
      this.#values.speed = Number(slider.value);
      shown.textContent = `${this.#values.speed.toFixed(2)}×`;
      slider.setAttribute("aria-valuetext", shown.textContent);
    };
    slider.addEventListener("input", show);
    show();
    const made = field("speed", slider);
    made.querySelector("label").append(shown);
    return made;
  }

  #instruction() {
    const area = document.createElement("textarea");
    Object.assign(area, { id: "manner-instruction", rows: 2, maxLength: 1000, dir: "auto" });
    area.value = this.#values.instruction;
    this.#bound(area, "instruction");
    const names = Object.values(stylesOf(this.facts)).flat();
    return field("instruction", area, names.length ? "instructionClash" : "instructionHelp");
  }

  #seed() {
    const input = document.createElement("input");
    Object.assign(input, { id: "manner-seed", type: "text", inputMode: "numeric" });
    Object.assign(input, { pattern: "[0-9]{0,18}", maxLength: 18, autocomplete: "off" });
    input.value = this.#values.seed;
    return field("seed", this.#bound(input, "seed"), "seedHelp");
  }

  /** What few people need. */
  #more() {
    const box = document.createElement("details");
    box.className = "more";
    box.open = this.#values.seed !== "";
    const summary = document.createElement("summary");
    summary.textContent = t("more");
    box.append(summary, this.#seed());
    return box;
  }

  #bound(control, name = control.id.replace("manner-", "")) {
    control.addEventListener("input", () => {
      this.#values[name] = control.value;
    });
    return control;
  }
}

function stylesOf(facts) {
  return {
    emotion: facts.emotions ?? [],
    dialect: facts.dialects ?? [],
    style: facts.styles ?? [],
  };
}

/** A select of [value, text] pairs. */
export function choice(name, options, chosen) {
  const select = document.createElement("select");
  select.id = `manner-${name}`;
  fill(select, options, chosen);
  return select;
}

export function fill(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  if (options.some(([value]) => value === chosen)) select.value = chosen;
}

function field(name, control, help = null) {
  const box = document.createElement("div");
  box.className = "field";
  const label = document.createElement("label");
  label.htmlFor = control.id;
  const text = document.createElement("span");
  text.textContent = t(name);
  label.append(text);
  box.append(label, control);
  if (help) {
    const small = document.createElement("p");
    Object.assign(small, { className: "help", id: `${control.id}-help`, textContent: t(help) });
    control.setAttribute("aria-describedby", small.id);
    box.append(small);
  }
  return box;
}
