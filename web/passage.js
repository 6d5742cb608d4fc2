// What does the document say there? The panel with a document's text and a quote marked in it.

import { kbPath } from "/web/api.js";
import { placeNodes } from "/web/answer.js";
import { byId, h } from "/web/dom.js";
import { say } from "/web/i18n.js";
import { errorNodes } from "/web/notice.js";

const LEAST_ABOVE = 16; // pixels between the panel's header and a quote
const AROUND = 1200; // characters shown before and after a quote; as many more on each request

export class PassagePanel {
  #api;
  #shown = 0; // counts openings, so that a slow reply cannot fill a panel that has moved on
  #download = null;

  constructor(api) {
    this.#api = api;
    byId("download").addEventListener("click", () => this.#download?.());
  }

  /** Shows `kb`'s document around the characters `start` to `end`; without them, its beginning. */
  async open({ kb, document_id: id, start = 0, end = 0 }) {
    const turn = ++this.#shown;
    const text = byId("passage-text");
    const path = kbPath(kb, "documents", id, "text");
    const read = (from, to) => this.#api.get(path, { start: from, end: to });
    byId("passage-title").textContent = "";
    byId("passage-place").replaceChildren();
    byId("passage-note").replaceChildren();
    text.replaceChildren(say("loading"));
    this.#download = null;
    try {
      // The quote is read by itself: the reply then names the quote's own page and section.
      const quote = await read(start, Math.max(end, start + 1));
      const before = start > 0 ? await read(Math.max(0, start - AROUND), start) : null;
      const rest = end < quote.characters ? await read(end, Math.min(end + AROUND, quote.characters)) : null;
      if (turn !== this.#shown) return;
      byId("passage-title").textContent = quote.name;
      byId("passage-place").replaceChildren(...placeNodes(quote));
      this.#download = () => this.#save(kb, id, quote.name);
      const marked = end > start ? h("mark", {}, quote.text) : null;
      text.replaceChildren(
        ...[before && h("span", {}, before.text), marked, rest && h("span", {}, rest.text)].filter(Boolean),
      );
      this.#offerMore(text, read, "earlier", before?.start ?? 0, quote.characters);
      this.#offerMore(text, read, "later", rest?.end ?? quote.characters, quote.characters);
      byId("passage-title").focus({ preventScroll: true });
      if (marked) showInPanel(marked);
    } catch (error) {
      if (turn !== this.#shown) return;
      text.replaceChildren();
      byId("passage-note").replaceChildren(...errorNodes(error));
    }
  }

  /** A button at that end of the text, as long as there is more text on that side of `offset`. */
  #offerMore(text, read, side, offset, characters) {
    const earlier = side === "earlier";
    if (earlier ? offset <= 0 : offset >= characters) return;
    const button = h("button", { type: "button", class: "more" }, say(side));
    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        const from = earlier ? Math.max(0, offset - AROUND) : offset;
        const piece = await read(from, earlier ? offset : Math.min(offset + AROUND, characters));
        button.replaceWith(h("span", {}, piece.text));
        this.#offerMore(text, read, side, earlier ? piece.start : piece.end, characters);
      } catch (error) {
        button.disabled = false;
        byId("passage-note").replaceChildren(...errorNodes(error));
      }
    });
    if (earlier) text.prepend(button);
    else text.append(button);
  }

  async #save(kb, id, name) {
    try {
      const address = URL.createObjectURL(await this.#api.original(kb, id));
      h("a", { href: address, download: name.split("/").pop() }).click();
      setTimeout(() => URL.revokeObjectURL(address), 60_000); // the download has begun long before
    } catch (error) {
      byId("passage-note").replaceChildren(...errorNodes(error));
    }
  }
}

/**
 * Scrolls the panel, and nothing around it, until `mark` is in its middle; a mark that is longer than the panel
 * begins under its header.
 */
function showInPanel(mark) {
  const panel = byId("panel");
  const header = mark.closest("section").querySelector("header").offsetHeight;
  const { top, height } = mark.getBoundingClientRect();
  const above = Math.max(LEAST_ABOVE, (panel.clientHeight - header - height) / 2);
  panel.scrollTop += top - panel.getBoundingClientRect().top - header - above;
}
