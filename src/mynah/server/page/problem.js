// Errors with their cure, and what screen readers are told.

import { t } from "./i18n.js";

/** Say something to who does not see the page. */
export function announce(text) {
  document.getElementById("live").textContent = text;
}

/** Title, message and cure of an error of ``api``, in the language of the page. */
export function wordsOf(error) {
  const code = error.code ?? "other";
  const titled = t(`error.${code}`);
  const own = (part, given) => {
    const key = `error.${code}.${part}`;
    return given || (t(key) === key ? "" : t(key));
  };
  return {
    title: titled === `error.${code}` ? t("error.other") : titled,
    message: own("message", error.message),
    solution: own("solution", error.solution),
  };
}

export class Problem {
  #box;

  constructor(box) {
    this.#box = box;
    box.querySelector("button").addEventListener("click", () => this.clear());
  }

  show(error) {
    if (!error.code) console.error(error); // a mistake of the page itself
    const { title, message, solution } = wordsOf(error);
    this.tell(title, message, solution && t("whatToDo", { solution }));
  }

  tell(title, message, solution = "") {
    const [first, second, third] = this.#box.querySelectorAll("p");
    first.textContent = title;
    second.textContent = message;
    third.textContent = solution;
    this.#box.hidden = false;
  }

  clear() {
    this.#box.hidden = true;
  }
}
