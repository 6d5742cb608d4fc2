// How is an answer shown? As paragraphs, lists, bold and code, with its citations as links: built from DOM
// nodes, so that nothing a model or a document says can become markup.

import { h } from "/web/dom.js";
import { say, spoken } from "/web/i18n.js";

const INLINE = /\*\*(?=\S)(.+?)(?<=\S)\*\*|`([^`]+)`|\[(\d{1,3})\]/g;
const ITEM = /^\s*(?:[-*•]|(\d{1,3})[.)、])\s+/;
const HEADING = /^#{1,6}\s+/;

/**
 * The nodes of `text`. `citations` maps a number to its citation; `open(citation)` is called for a click.
 * A mark like `[7]` without a citation stays text.
 */
export function answerNodes(text, citations, open) {
  const inline = (line) => inlineNodes(line, citations, open);
  return blocks(text).map((block) => {
    if (block.code) return h("pre", {}, h("code", {}, block.lines.join("\n")));
    if (block.list) return h(block.list, block.start > 1 ? { start: block.start } : {}, ...block.lines.map((line) => h("li", {}, ...inline(line))));
    if (block.heading) return h("p", { class: "heading" }, ...inline(block.lines[0]));
    return h("p", {}, ...withBreaks(block.lines.map(inline)));
  });
}

/** Lines grouped into paragraphs, lists, headings and fenced code. */
function blocks(text) {
  const result = [];
  let current = null;
  const start = (block) => result.push((current = { lines: [], ...block }));
  for (const line of text.split("\n")) {
    if (current?.code) {
      if (line.startsWith("```")) current = null;
      else current.lines.push(line);
    } else if (line.startsWith("```")) {
      start({ code: true });
    } else if (!line.trim()) {
      current = null;
    } else if (HEADING.test(line)) {
      start({ heading: true, lines: [line.replace(HEADING, "")] });
      current = null;
    } else if (ITEM.test(line)) {
      const number = ITEM.exec(line)[1];
      const list = number ? "ol" : "ul";
      if (current?.list !== list) start({ list, start: Number(number) });
      current.lines.push(line.replace(ITEM, ""));
    } else {
      if (!current || current.list) start({});
      current.lines.push(line);
    }
  }
  return result;
}

function inlineNodes(line, citations, open) {
  const nodes = [];
  let end = 0;
  for (const match of line.matchAll(INLINE)) {
    const [whole, bold, code, number] = match;
    nodes.push(line.slice(end, match.index));
    end = match.index + whole.length;
    if (bold) nodes.push(h("strong", {}, ...inlineNodes(bold, citations, open)));
    else if (code) nodes.push(h("code", {}, code));
    else nodes.push(mark(whole, citations.get(Number(number)), open));
  }
  nodes.push(line.slice(end));
  return nodes.filter((node) => node !== "");
}

function mark(text, citation, open) {
  if (!citation) return text;
  const name = spoken("openSource", { number: citation.number, name: citation.document_name });
  return passageLink(citation, open, { class: "mark", ...name }, String(citation.number));
}

/** A link to the passage: a plain click opens it in the panel, any other click in its own tab. */
function passageLink(citation, open, properties, ...children) {
  const onclick = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    open(citation);
  };
  return h("a", { href: passageUrl(citation), onclick, ...properties }, ...children);
}

/** The page's own address of a passage; it never holds a key. `citation.kb` names the knowledge base. */
export function passageUrl({ kb, document_id: document, start, end }) {
  return `/?${new URLSearchParams({ kb, document, start, end })}`;
}

/** The sources under an answer: number, document, page, section and quote of each citation. */
export function sourceList(citations, open) {
  if (!citations.size) return null;
  const items = [...citations.values()].sort((a, b) => a.number - b.number).map((citation) => sourceItem(citation, open));
  return h("section", { class: "sources" }, h("h3", {}, say("sources")), h("ol", {}, ...items));
}

function sourceItem(citation, open) {
  const place = placeNodes(citation);
  return h(
    "li",
    { value: citation.number },
    passageLink(
      citation,
      open,
      {},
      h("span", { class: "number", "aria-hidden": "true" }, String(citation.number)),
      h("span", { class: "name" }, citation.document_name),
      place.length ? h("span", { class: "place" }, ...place) : null,
      h("q", {}, citation.quote),
    ),
  );
}

/** Page and section in words; empty when the document has neither. */
export function placeNodes({ page, section }) {
  const parts = [];
  if (page !== null && page !== undefined) parts.push(say("page", { page }));
  if (section) parts.push(h("span", {}, section));
  return parts.flatMap((part, index) => (index ? [" · ", part] : [part]));
}

function withBreaks(lines) {
  return lines.flatMap((line, index) => (index ? [h("br"), ...line] : line));
}
