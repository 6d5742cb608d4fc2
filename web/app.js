// What happens when the page opens, and how do its parts work together?

import { Api, readKey, saveKey } from "/web/api.js";
import { passageUrl } from "/web/answer.js";
import { Chat } from "/web/chat.js";
import { Documents, droppedFiles } from "/web/documents.js";
import { byId, h } from "/web/dom.js";
import { say, switchLanguage, t, translatePage } from "/web/i18n.js";
import { errorNodes } from "/web/notice.js";
import { PassagePanel } from "/web/passage.js";

const STORED_KB = "rag.kb";
const KEY = /^[\x21-\x7e]+$/; // what an HTTP header can carry
const NEW_KB = ""; // a name cannot be empty, so this option cannot hide a knowledge base

class Page {
  #kb = null;
  #admin = false; // whether the key may change what is there: readers are offered no way to

  constructor() {
    this.api = new Api({ onRefusedKey: () => this.askForKey(readKey() ? "keyWrong" : "keyNeeded") });
    this.passage = new PassagePanel(this.api);
    this.chat = new Chat(this.api, (citation) => this.visit(citation));
    this.documents = new Documents(this.api, (place) => this.visit(place));
  }

  async start() {
    translatePage();
    this.#listen();
    if (readKey()) await this.load();
    else this.askForKey(null);
  }

  /** Reads the knowledge bases and shows the chosen one, and the passage that the address names. */
  async load() {
    byId("notice").replaceChildren();
    try {
      const [names, admin] = await Promise.all([this.#names(), this.#isAdmin()]);
      this.#admin = admin;
      document.body.classList.toggle("admin", admin);
      const wanted = new URLSearchParams(location.search).get("kb") ?? this.#kb ?? localStorage.getItem(STORED_KB);
      this.#fillSelector(names);
      await this.use(names.includes(wanted) ? wanted : (names[0] ?? NEW_KB));
      this.showAddress();
    } catch (error) {
      this.tell(error);
    }
  }

  async use(kb) {
    this.#kb = kb;
    byId("kb").value = kb;
    if (kb === NEW_KB) return;
    localStorage.setItem(STORED_KB, kb);
    await Promise.all([this.chat.use(kb), this.documents.use(kb)]);
  }

  /** Opens a passage and gives it an address, so that it can be shared and "back" closes it. */
  visit(place) {
    history.pushState(null, "", passageUrl({ start: 0, end: 0, ...place }));
    this.showAddress();
  }

  /** Shows what the address says: a passage, or none. */
  showAddress() {
    const address = new URLSearchParams(location.search);
    const id = address.get("document");
    if (!id) {
      if (!byId("passage").hidden) this.showPanel(null);
      return;
    }
    this.showPanel("passage");
    const [start, end] = ["start", "end"].map((name) => Math.max(0, Number.parseInt(address.get(name) ?? "0", 10) || 0));
    this.passage.open({ kb: address.get("kb") ?? this.#kb, document_id: id, start, end });
  }

  /** One panel ("documents", "passage") or none (null). */
  showPanel(name) {
    byId("panel").hidden = name === null;
    for (const id of ["documents", "passage"]) byId(id).hidden = id !== name;
    byId("show-documents").setAttribute("aria-expanded", String(name === "documents"));
    document.body.classList.toggle("with-panel", name !== null);
    byId("panel").scrollTop = 0; // what was there before may have been scrolled far down
  }

  closePanel() {
    if (location.search) history.pushState(null, "", "/");
    this.showPanel(null);
    byId("question").focus();
  }

  tell(error) {
    byId("notice").replaceChildren(...(error.status === 401 ? [] : errorNodes(error))); // 401: the dialog tells
  }

  /** The key dialog; `reason` is the key of the words that say why it opens. */
  askForKey(reason) {
    const dialog = byId("key-dialog");
    byId("key-error").replaceChildren(...(reason ? [say(reason)] : []));
    if (dialog.open) return;
    byId("key-input").value = "";
    dialog.returnValue = "";
    dialog.showModal();
  }

  async #names() {
    const names = [];
    let cursor = null;
    do {
      const page = await this.api.get("/kbs", { limit: 100, cursor });
      names.push(...page.items.map((kb) => kb.name));
      cursor = page.next_cursor;
    } while (cursor);
    return names;
  }

  /** Whether the key is an admin's: only they may list the keys. */
  async #isAdmin() {
    try {
      await this.api.get("/keys");
      return true;
    } catch (error) {
      if (error.status === 403) return false;
      throw error;
    }
  }

  #fillSelector(names) {
    const options = names.map((name) => h("option", { value: name }, name));
    if (this.#admin) options.push(h("option", { value: NEW_KB, "data-t": "newKbOption" }, t("newKbOption")));
    byId("kb").replaceChildren(...options);
  }

  #listen() {
    byId("kb").addEventListener("change", (event) => this.#choose(event.target.value));
    byId("new-chat").addEventListener("click", () => this.chat.startAnew());
    byId("show-key").addEventListener("click", () => this.askForKey(null));
    byId("language").addEventListener("click", switchLanguage);
    byId("show-documents").addEventListener("click", () => this.#toggleDocuments());
    document.querySelectorAll(".close").forEach((button) => button.addEventListener("click", () => this.closePanel()));
    byId("key-dialog").addEventListener("close", () => this.#keyGiven());
    byId("kb-dialog").addEventListener("close", () => this.#createKb());
    window.addEventListener("popstate", () => this.showAddress());
    document.addEventListener("keydown", (event) => this.#escape(event));
    this.#listenForFiles();
  }

  #toggleDocuments() {
    if (!byId("documents").hidden) this.closePanel();
    else this.showPanel("documents");
  }

  #escape(event) {
    if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
    if (!byId("panel").hidden) this.closePanel();
  }

  #choose(name) {
    if (name !== NEW_KB) {
      this.closePanel();
      this.use(name).catch((error) => this.tell(error));
      return;
    }
    byId("kb").value = this.#kb;
    byId("kb-error").replaceChildren();
    byId("kb-dialog").returnValue = "";
    byId("kb-dialog").showModal();
  }

  async #createKb() {
    const name = byId("kb-name").value.trim();
    if (byId("kb-dialog").returnValue !== "save" || !name) return;
    try {
      const kb = await this.api.post("/kbs", { name });
      byId("kb-name").value = "";
      this.#fillSelector(await this.#names());
      await this.use(kb.name);
    } catch (error) {
      byId("kb-error").replaceChildren(...errorNodes(error));
      byId("kb-dialog").showModal();
    }
  }

  #keyGiven() {
    const key = byId("key-input").value.trim();
    byId("key-input").value = "";
    if (byId("key-dialog").returnValue === "save" && key) {
      if (!KEY.test(key)) return this.askForKey("keyWrong");
      saveKey(key);
      this.load();
    } else if (!readKey()) {
      byId("notice").replaceChildren(h("p", { class: "error" }, say("keyNeeded")));
    }
  }

  #listenForFiles() {
    const input = byId("files");
    for (const id of ["upload", "welcome-upload"]) byId(id).addEventListener("click", () => input.click());
    input.addEventListener("change", () => {
      this.#add([...input.files].map((file) => ({ file, name: file.name })));
      input.value = ""; // choosing the same file again must count as a change
    });
    const drop = byId("drop");
    const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
    window.addEventListener("dragover", (event) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      drop.hidden = !this.#admin;
      if (!this.#admin) event.dataTransfer.dropEffect = "none"; // else the browser would leave for the file
    });
    window.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) drop.hidden = true;
    });
    window.addEventListener("drop", async (event) => {
      drop.hidden = true;
      if (!holdsFiles(event)) return;
      event.preventDefault();
      try {
        this.#add(await droppedFiles(event.dataTransfer));
      } catch (error) {
        this.tell(error);
      }
    });
  }

  #add(files) {
    if (!this.#admin || !this.#kb || !files.length) return;
    this.showPanel("documents");
    this.documents.add(files);
  }
}

await new Page().start();
