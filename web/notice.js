// How is an error told? In the service's words, with its hint.

import { h } from "/web/dom.js";

export function errorNodes(error) {
  const hint = error.hint ? h("span", { class: "hint" }, error.hint) : null;
  return [h("p", { class: "error" }, error.message, hint ? " " : null, hint)];
}
