// How does the page talk to the service?

import { t } from "/web/i18n.js";
import { events } from "/web/sse.js";

const BASE = "/api/v1";
const STORED = "rag.key";
const FINAL = new Set(["done", "failed", "cancelled"]);

/** A refusal of the service in its own words, or that it cannot be reached (`status` 0). */
export class ApiError extends Error {
  constructor({ status = 0, detail, hint = null, code = "" }) {
    super(detail);
    Object.assign(this, { status, hint, code });
  }
}

export const readKey = () => localStorage.getItem(STORED) ?? "";
export const saveKey = (key) => localStorage.setItem(STORED, key);

export class Api {
  /** `onRefusedKey` is told when the service does not accept the key. */
  constructor({ onRefusedKey }) {
    this.onRefusedKey = onRefusedKey;
  }

  get(path, query = {}) {
    return this.#json("GET", path, { query });
  }

  post(path, body) {
    return this.#json("POST", path, { body });
  }

  delete(path) {
    return this.#json("DELETE", path);
  }

  /** Yields the events of an answer. Aborting `signal` ends it on the server too. */
  async *ask(kb, request, signal) {
    const response = await this.#fetch("POST", kbPath(kb, "ask"), { body: { ...request, stream: true }, signal });
    yield* events(response);
  }

  /** Yields a job's states until the final one, through lost connections. */
  async *follow(job) {
    let latest = job;
    let failures = 0;
    while (!FINAL.has(latest.status)) {
      try {
        const response = await this.#fetch("GET", `/jobs/${job.id}/events`);
        for await (const { data } of events(response)) {
          failures = 0;
          yield (latest = data);
        }
      } catch (error) {
        if (error.status >= 400 && error.status < 500) throw error;
        if (++failures > 5) throw asApiError(error);
      }
      if (!FINAL.has(latest.status)) await new Promise((resume) => setTimeout(resume, 1000));
    }
  }

  /** Uploads one file; `onProgress` gets the sent share (0 to 1). Resolves to what became of it, or of each file of an archive. */
  upload(kb, file, name, onProgress) {
    // XMLHttpRequest, because fetch does not tell how much of a body is sent.
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("POST", BASE + kbPath(kb, "documents"));
      request.setRequestHeader("Authorization", `Bearer ${readKey()}`);
      request.upload.onprogress = (event) => onProgress(event.loaded / event.total);
      request.onerror = () => reject(unreachable());
      request.onload = () => {
        const body = parsed(request.responseText);
        if (request.status < 300 && body) resolve(body.files);
        else reject(this.#refusal(request.status, body));
      };
      const form = new FormData();
      form.append("file", file, name);
      request.send(form);
    });
  }

  /** The original file of a document. */
  async original(kb, documentId) {
    const response = await this.#fetch("GET", kbPath(kb, "documents", documentId, "original"));
    return response.blob();
  }

  async #json(method, path, options = {}) {
    const response = await this.#fetch(method, path, options);
    return response.status === 204 ? null : response.json();
  }

  async #fetch(method, path, { query = {}, body, signal } = {}) {
    const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
    const search = given.length ? `?${new URLSearchParams(given)}` : "";
    const headers = { Authorization: `Bearer ${readKey()}` };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let response;
    try {
      response = await fetch(BASE + path + search, { method, headers, body: JSON.stringify(body), signal });
    } catch (error) {
      throw asApiError(error);
    }
    if (response.ok) return response;
    throw this.#refusal(response.status, parsed(await response.text()));
  }

  #refusal(status, problem) {
    if (status === 401) this.onRefusedKey();
    return new ApiError({ detail: t("failed", { status }), ...problem, status });
  }
}

/** `kbPath("hr", "documents", id)` is `/kbs/hr/documents/ID`, each part escaped. */
export function kbPath(...parts) {
  return `/kbs/${parts.map(encodeURIComponent).join("/")}`;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // a proxy's error page: the status alone is shown
  }
}

const unreachable = () => new ApiError({ detail: t("offline"), code: "offline" });

function asApiError(error) {
  const known = error instanceof ApiError || error.name === "AbortError";
  return known ? error : unreachable();
}
