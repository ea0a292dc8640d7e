// Texts to begin with, in the languages that the model speaks.

const EXAMPLES = {
  en: [
    "Good morning! The kettle is on, the windows are open, and there is time for a long breakfast.",
    "Dr. Lee paid $12.50 for 3 tickets on May 4, 2024, and the train left at 10:05.",
    "A mynah is a bird that learns to speak by listening. It needs only a few seconds of a voice, and a quiet place to practise. By evening it says good night to everyone in the house, and means it.",
  ],
  zh: [
    "早上好！水已经烧开，窗户也打开了，今天可以慢慢吃一顿早饭。",
    "气温零下5℃，3张票共计¥1,234，火车10:05出发。",
  ],
  yue: ["早晨！今日天氣好好，不如一齊去飲茶啦。"],
  ja: ["おはようございます。窓を開けて、ゆっくり朝ごはんを食べましょう。"],
  ko: ["안녕하세요. 창문을 열고 천천히 아침을 먹어요."],
  de: ["Guten Morgen! Das Fenster ist offen, und zum Frühstück ist heute viel Zeit."],
  es: ["¡Buenos días! La ventana está abierta y hoy hay tiempo para desayunar despacio."],
  fr: ["Bonjour ! La fenêtre est ouverte, et on a tout le temps pour le petit déjeuner."],
};
const MOST = 5;

/**
 * Fill a box with buttons.
 * @param languages codes that the model speaks
 * @param choose called with the text
 */
export function showExamples(box, languages, choose) {
  const spoken = languages.map((code) => code.toLowerCase().split("-")[0]);
  const texts = spoken.flatMap((code) =>
    (EXAMPLES[code] ?? []).map((text) => ({ code, text })),
  );
  box.replaceChildren(
    ...texts.slice(0, MOST).map(({ code, text }) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "chip";
      button.lang = code;
      button.title = text;
      button.textContent = text;
      button.addEventListener("click", () => choose(text));
      return button;
    }),
  );
}

/** The beginning of a text, for titles. */
export function shortened(text, longest) {
  const letters = [...text.trim().replace(/\s+/g, " ")];
  return letters.length > longest ? `${letters.slice(0, longest - 1).join("").trim()}…` : letters.join("");
}
