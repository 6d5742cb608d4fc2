// How does a question become an answer on the page?

import { ApiError, kbPath } from "/web/api.js";
import { answerNodes, sourceList } from "/web/answer.js";
import { byId, h } from "/web/dom.js";
import { say, t } from "/web/i18n.js";
import { errorNodes } from "/web/notice.js";

const NEAR_END = 80; // pixels from the end within which the view follows a growing answer

export class Chat {
  #api;
  #open;
  #kb = "";
  #running = null;

  /** `open(citation)` shows a passage. */
  constructor(api, open) {
    this.#api = api;
    this.#open = open;
    this.#listen();
  }

  /** Changes to a knowledge base and shows the conversation this tab had with it. */
  async use(kb) {
    this.stop();
    this.#kb = kb;
    byId("turns").replaceChildren();
    const id = sessionStorage.getItem(this.#stored);
    const turns = id ? await this.#turnsOf(id) : [];
    if (kb !== this.#kb) return; // the user chose another one meanwhile
    for (const turn of turns) new Turn(turn.question, kb, this.#open).finish(turn);
    this.#showWelcome();
    this.#scrollDown();
  }

  startAnew() {
    this.stop();
    sessionStorage.removeItem(this.#stored);
    byId("turns").replaceChildren();
    this.#showWelcome();
    byId("question").focus();
  }

  stop() {
    this.#running?.abort();
  }

  get #stored() {
    return `rag.conversation.${this.#kb}`;
  }

  get #conversation() {
    const stored = sessionStorage.getItem(this.#stored);
    if (stored) return stored;
    // Not randomUUID: browsers offer it only over https and on localhost.
    const fresh = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    sessionStorage.setItem(this.#stored, fresh);
    return fresh;
  }

  async #turnsOf(id) {
    try {
      return (await this.#api.get(kbPath(this.#kb, "conversations", id))).turns;
    } catch (error) {
      if (error.status === 404) return []; // it was deleted, or its first answer never ended
      throw error;
    }
  }

  #listen() {
    const question = byId("question");
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    question.addEventListener("keydown", (event) => {
      // While an input method composes (Chinese, Japanese), Enter chooses a word.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#submit();
    });
    byId("stop").addEventListener("click", () => this.stop());
  }

  #submit() {
    const text = byId("question").value.trim();
    if (!text || this.#running || !this.#kb) return;
    byId("question").value = "";
    this.#ask(text);
  }

  async #ask(question) {
    const turn = new Turn(question, this.#kb, this.#open);
    this.#showWelcome();
    this.#scrollDown();
    const running = new AbortController();
    this.#setRunning(running);
    const request = { question, conversation_id: this.#conversation, trace: true };
    try {
      for await (const { event, data } of this.#api.ask(this.#kb, request, running.signal)) {
        const follow = this.#atEnd();
        turn.take(event, data);
        if (follow) this.#scrollDown();
      }
      turn.end();
    } catch (error) {
      turn.fail(running.signal.aborted ? null : error);
    } finally {
      this.#setRunning(null);
      if (this.#atEnd()) this.#scrollDown();
    }
  }

  #setRunning(controller) {
    this.#running = controller;
    byId("stop").hidden = !controller;
    byId("send").hidden = Boolean(controller);
    byId("question").focus();
  }

  #showWelcome() {
    byId("welcome").hidden = byId("turns").childElementCount > 0;
  }

  #atEnd() {
    const view = byId("scroll");
    return view.scrollHeight - view.scrollTop - view.clientHeight < NEAR_END;
  }

  #scrollDown() {
    const view = byId("scroll");
    view.scrollTop = view.scrollHeight;
  }
}

/** One question and its growing answer. */
class Turn {
  #kb;
  #open;
  #text = "";
  #citations = new Map();
  #ended = false;

  constructor(question, kb, open) {
    this.#kb = kb;
    this.#open = open;
    this.body = h("div", { class: "text" }, h("p", { class: "quiet" }, say("searching")));
    this.below = h("div", { class: "below" });
    this.answer = h("article", { class: "answer", "aria-busy": "true" }, h("h2", { class: "unseen" }, say("answer")), this.body, this.below);
    const asked = h("div", { class: "question" }, h("h2", { class: "unseen" }, say("you")), h("p", {}, question));
    byId("turns").append(h("li", {}, asked, this.answer));
  }

  /** Takes one event of the stream. */
  take(event, data) {
    if (event === "citation") this.#add(data);
    else if (event === "delta") this.#grow(data.text);
    else if (event === "done") this.finish(data);
    else if (event === "error") throw new ApiError(data);
  }

  /** The stream is over; without its last event the answer is only a part. */
  end() {
    if (!this.#ended) this.fail(new ApiError({ detail: t("brokeOff") }));
  }

  /** Shows the whole answer: an `AskResponse`, or a turn of a stored conversation. */
  finish(response) {
    this.#ended = true;
    this.#text = response.answer;
    this.#citations.clear();
    response.citations.forEach((citation) => this.#add(citation));
    this.#draw();
    this.answer.classList.toggle("not-found", response.found === false);
    this.below.replaceChildren(...[sourceList(this.#citations, this.#open), ...remarks(response), trace(response)].filter(Boolean));
    this.answer.removeAttribute("aria-busy");
  }

  /** The answer ends here: stopped by the user (null) or by an error. What is there stays. */
  fail(error) {
    this.#ended = true;
    if (!this.#text) this.body.replaceChildren();
    const why = error ? errorNodes(error) : [h("p", { class: "quiet" }, say("stopped"))];
    this.below.replaceChildren(...why, ...[sourceList(this.#citations, this.#open)].filter(Boolean));
    this.answer.removeAttribute("aria-busy");
  }

  #add(citation) {
    this.#citations.set(citation.number, { ...citation, kb: this.#kb });
  }

  #grow(text) {
    this.#text += text;
    this.#draw();
  }

  #draw() {
    this.body.replaceChildren(...answerNodes(this.#text, this.#citations, this.#open));
  }
}

function remarks({ unread = 0, unsupported = [], degraded = [], warnings = [], finish_reason: reason }) {
  const result = [];
  if (unread) result.push(h("p", { class: "warning" }, say("unread", { count: unread })));
  if (unsupported.length) {
    result.push(h("div", { class: "warning" }, h("p", {}, say("unsupported")), h("ul", {}, ...unsupported.map((sentence) => h("li", {}, sentence)))));
  }
  if (degraded.length) result.push(h("p", { class: "warning" }, say("degraded", { what: degraded.join("; ") })));
  if (warnings.length) result.push(h("p", { class: "warning" }, say("warnings", { what: warnings.join(" ") })));
  if (reason === "length") result.push(h("p", { class: "warning" }, say("cut")));
  return result;
}

function trace({ trace: stages, model }) {
  if (!stages?.length) return null;
  const lines = stages.map((stage) => h("li", {}, say("stage", { ...stage, milliseconds: Math.round(stage.milliseconds) })));
  return h("details", {}, h("summary", {}, say("details"), h("span", {}, ` · ${model}`)), h("ol", {}, ...lines));
}
