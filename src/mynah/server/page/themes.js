// Light, dark, or as the system is.

import { t } from "./i18n.js";
import { recall, remember } from "./storage.js";

const THEMES = ["auto", "light", "dark"];
const NAMES = { auto: "themeAuto", light: "themeLight", dark: "themeDark" };

export function startTheme(button) {
  let theme = THEMES.includes(recall("theme")) ? recall("theme") : "auto";
  const show = () => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = t(NAMES[theme]);
    document.dispatchEvent(new CustomEvent("mynah:theme"));
  };
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    remember("theme", theme === "auto" ? null : theme);
    show();
  });
  document.addEventListener("mynah:language", show);
}
