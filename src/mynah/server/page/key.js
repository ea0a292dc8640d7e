// Asks for the API key that the server wants.

const $ = (id) => document.getElementById(id);

export class KeyDialog {
  #asked = null;

  /** Give a key, or null; who asks meanwhile gets the same answer. */
  ask(wasWrong) {
    this.#asked ??= this.#answer(wasWrong).finally(() => {
      this.#asked = null;
    });
    return this.#asked;
  }

  #answer(wasWrong) {
    const dialog = $("key-dialog");
    $("key").value = "";
    $("key-wrong").hidden = !wasWrong;
    dialog.returnValue = "";
    dialog.showModal();
    return new Promise((resolve) => {
      $("key-cancel").onclick = () => dialog.close("");
      $("key-form").onsubmit = () => {
        dialog.returnValue = "given";
      };
      dialog.onclose = () => {
        const key = $("key").value.trim();
        $("key").value = "";
        resolve(dialog.returnValue === "given" && key ? key : null);
      };
    });
  }
}
