// Choices that outlive the page, where the browser allows it. Nothing that was written or heard.

export function recall(name) {
  try {
    return localStorage.getItem(`mynah.${name}`);
  } catch {
    return null;
  }
}

export function remember(name, value) {
  try {
    if (value === null) localStorage.removeItem(`mynah.${name}`);
    else localStorage.setItem(`mynah.${name}`, value);
  } catch {
    // forbidden or full: the choice lasts as long as the page
  }
}
