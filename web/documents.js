// What is in the knowledge base, and how do files get into it?

import { kbPath } from "/web/api.js";
import { byId, h } from "/web/dom.js";
import { say, spoken, t } from "/web/i18n.js";
import { errorNodes } from "/web/notice.js";

// Browsers open six connections to a host at most: these leave room for an answer.
const UPLOADS_AT_ONCE = 2;
const FOLLOWED_AT_ONCE = 2;

export class Documents {
  #api;
  #open;
  #kb = "";
  #next = null;
  #listing = 0;
  #uploading = limiter(UPLOADS_AT_ONCE);
  #following = limiter(FOLLOWED_AT_ONCE);

  /** `open(place)` shows a document. */
  constructor(api, open) {
    this.#api = api;
    this.#open = open;
    byId("more-documents").addEventListener("click", () => this.#load(this.#next));
  }

  async use(kb) {
    this.#kb = kb;
    byId("uploads").replaceChildren();
    await this.refresh();
  }

  async refresh() {
    await this.#load(null);
  }

  /** Uploads files (`{ file, name }`) and follows each until it can be searched. */
  async add(files) {
    const kb = this.#kb;
    const rows = files.map(({ name }) => new UploadRow(name));
    byId("uploads").prepend(...rows.map((row) => row.element)); // above earlier ones, where they are in view
    await Promise.all(files.map(({ file, name }, index) => this.#addOne(kb, file, name, rows[index])));
    if (kb === this.#kb) await this.refresh();
  }

  async #addOne(kb, file, name, row) {
    try {
      const results = await this.#uploading(() => this.#api.upload(kb, file, name, (share) => row.sent(share)));
      const rows = results.length === 1 ? [row] : results.map((result) => new UploadRow(result.name));
      if (rows[0] !== row) row.element.replaceWith(...rows.map(({ element }) => element)); // the files of an archive
      await Promise.all(results.map((result, index) => this.#settle(kb, result, rows[index])));
    } catch (error) {
      row.fail(error);
    }
  }

  async #settle(kb, result, row) {
    row.sameAs = result.same_as;
    if (result.outcome === "refused") row.fail(result.error);
    else if (result.outcome === "unchanged") row.finish("unchanged");
    else await this.#followJob(kb, result.job, row).catch((error) => row.fail(error));
  }

  async #followJob(kb, job, row) {
    row.show(job);
    await this.#following(async () => {
      for await (const state of this.#api.follow(job)) row.show(state);
    });
    if (kb === this.#kb) await this.refresh();
  }

  async #load(cursor) {
    const listing = ++this.#listing;
    const list = byId("document-list");
    const note = byId("document-note");
    try {
      const page = await this.#api.get(kbPath(this.#kb, "documents"), { limit: 50, cursor });
      if (listing !== this.#listing) return; // a newer list is on its way
      const rows = page.items.map((document) => this.#row(document));
      if (cursor) list.append(...rows);
      else list.replaceChildren(...rows);
      this.#next = page.next_cursor;
      byId("more-documents").hidden = !page.next_cursor;
      note.replaceChildren(...(list.childElementCount ? [] : [say("noDocuments")]));
    } catch (error) {
      note.replaceChildren(...errorNodes(error));
    }
  }

  #row(document) {
    const { id, name } = document;
    const open = h("button", { type: "button", class: "name", ...spoken("openNamed", { name }) }, name);
    open.addEventListener("click", () => this.#open({ kb: this.#kb, document_id: id }));
    open.disabled = document.characters === null;
    const remove = h("button", { type: "button", class: "remove for-admins", ...spoken("removeNamed", { name }) }, say("remove"));
    const row = h("li", {}, open, h("span", { class: "quiet" }, ...facts(document)), remove);
    remove.addEventListener("click", () => this.#remove(document, row));
    return row;
  }

  async #remove({ id, name }, row) {
    if (!window.confirm(t("removeQuestion", { name }))) return;
    row.classList.add("leaving");
    try {
      const job = await this.#api.delete(kbPath(this.#kb, "documents", id));
      for await (const state of this.#api.follow(job)) {
        if (state.error) throw Object.assign(new Error(state.error.message), state.error);
      }
      row.remove();
      await this.refresh();
    } catch (error) {
      row.classList.remove("leaving");
      row.append(...errorNodes(error));
    }
  }
}

/** One file on its way: sent, then every stage of its job. */
class UploadRow {
  constructor(name) {
    this.sameAs = null; // the name under which the same bytes are there already
    this.bar = h("progress", { max: 100, value: 0, "aria-label": name });
    this.state = h("span", { class: "state", role: "status" }, say("uploading"));
    this.element = h("li", {}, h("span", { class: "name" }, name), this.state, this.bar);
  }

  sent(share) {
    this.bar.value = share * 10; // sending is the first tenth, the job's own percent is the rest
  }

  show(job) {
    if (job.status === "failed" || job.status === "dismissed") this.fail(job.error);
    else if (job.status === "done" || job.status === "cancelled") this.finish(job.status);
    else {
      this.bar.value = 10 + job.percent * 0.9;
      const count = job.total > 1 ? ` ${job.done}/${job.total}` : "";
      this.state.replaceChildren(say(`stage.${job.stage}`), count);
    }
  }

  finish(words) {
    this.bar.remove();
    this.element.classList.add("done");
    this.state.replaceChildren(say(words));
    if (this.sameAs) this.element.append(h("p", { class: "quiet" }, say("sameAs", { name: this.sameAs })));
  }

  fail(error) {
    this.bar.remove();
    this.element.classList.add("failed");
    this.state.replaceChildren(...errorNodes(error));
  }
}

function facts({ status, pages, size }) {
  const parts = [];
  if (status !== "ready") parts.push(say(`status.${status}`));
  if (pages) parts.push(say("pages", { count: pages }));
  const small = size < 1_000_000;
  parts.push(say(small ? "kilobytes" : "megabytes", { size: (size / (small ? 1000 : 1_000_000)).toFixed(1) }));
  return parts.flatMap((part, index) => (index ? [" · ", part] : [part]));
}

/** A function that runs tasks, at most `most` at the same time, in the order they were given. */
function limiter(most) {
  const waiting = [];
  let running = 0;
  return async (task) => {
    if (running >= most) await new Promise((resume) => waiting.push(resume));
    else running += 1;
    try {
      return await task();
    } finally {
      const next = waiting.shift(); // the place is handed on, so nobody can slip in between
      if (next) next();
      else running -= 1;
    }
  };
}

/** The files of a drop, folders included, as `{ file, name }` with their path inside the drop. */
export async function droppedFiles(transfer) {
  // Everything is taken before the first await: the drop's data is gone afterwards.
  const dropped = [...transfer.items].filter((item) => item.kind === "file").map(entryOrFile);
  const found = await Promise.all(dropped.map((each) => (each instanceof File ? [{ file: each, name: each.name }] : filesOf(each))));
  return found.flat();
}

const entryOrFile = (item) => item.webkitGetAsEntry() ?? item.getAsFile(); // dropped by a script: no entry

async function filesOf(entry) {
  if (entry.name.startsWith(".")) return []; // hidden: .DS_Store, .git
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ file, name: entry.fullPath.replace(/^\//, "") }];
  }
  const reader = entry.createReader();
  const children = [];
  while (true) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // at most 100
    if (!some.length) break;
    children.push(...some);
  }
  return (await Promise.all(children.map(filesOf))).flat();
}
