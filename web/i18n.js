// In which language does the page speak? The browser's, until the user switches.

import { h } from "/web/dom.js";

const STORED = "rag.language";

const WORDS = {
  en: {
    title: "Knowledge base",
    skip: "Skip to the question",
    kb: "Knowledge base",
    menu: "Menu",
    newChat: "New chat",
    documents: "Documents",
    key: "Key",
    otherLanguage: "中文",
    switchLanguage: "切换到中文",
    welcomeTitle: "Ask your documents",
    welcomeText: "Every answer shows the passages it rests on.",
    addDocuments: "Add documents",
    dropHint: "or drop files and folders anywhere on this page",
    dropNow: "Drop to add to the knowledge base",
    chat: "Questions and answers",
    question: "Your question",
    questionHint: "Ask a question",
    send: "Ask",
    stop: "Stop",
    close: "Close",
    uploads: "Uploads",
    more: "Show more",
    documentText: "Text of the document",
    download: "Download the original",
    keyTitle: "API key",
    keyHelp: "The first start prints a key and keeps it in the file admin.key of the data folder.",
    keyKept: "It is kept in this browser only.",
    keyWrong: "The service does not accept this key.",
    keyNeeded: "An API key is needed.",
    save: "Save",
    cancel: "Cancel",
    newKb: "New knowledge base",
    newKbOption: "New knowledge base…",
    name: "Name",
    create: "Create",
    you: "You asked",
    answer: "Answer",
    searching: "Looking through the documents…",
    stopped: "Stopped.",
    brokeOff: "The answer broke off. Ask again.",
    offline: "The service does not answer. Check that it is running, then try again.",
    failed: "The service answered with an error ({status}).",
    sources: "Sources",
    openSource: "Source {number}: {name}",
    page: "page {page}",
    unread: "Documents that are not read yet: {count}",
    unsupported: "No passage supports this:",
    degraded: "Answered without: {what}",
    warnings: "Settings of the model: {what}",
    cut: "The answer reached its longest length.",
    notFound: "The documents do not answer this.",
    details: "How it was found",
    stage: "{stage}: {inputs} → {outputs}, {milliseconds} ms",
    loading: "Loading…",
    noDocuments: "No documents yet.",
    earlier: "Earlier text",
    later: "Later text",
    remove: "Delete",
    removeNamed: "Delete {name}",
    removeQuestion: "Delete “{name}” for good?",
    openNamed: "Open {name}",
    pages: "{count} pages",
    kilobytes: "{size} KB",
    megabytes: "{size} MB",
    "status.queued": "waiting",
    "status.processing": "being read",
    "status.ready": "ready",
    uploading: "uploading",
    unchanged: "unchanged",
    sameAs: "same as {name}",
    "stage.waiting": "waiting",
    "stage.parsing": "reading",
    "stage.chunking": "cutting",
    "stage.summarising": "summarising",
    "stage.embedding": "embedding",
    "stage.indexing": "indexing",
    "stage.finished": "finishing",
    done: "ready",
    cancelled: "cancelled",
    retry: "Try again",
  },
  zh: {
    title: "知识库",
    skip: "跳到提问框",
    kb: "知识库",
    menu: "菜单",
    newChat: "新对话",
    documents: "文档",
    key: "密钥",
    otherLanguage: "English",
    switchLanguage: "Switch to English",
    welcomeTitle: "向你的文档提问",
    welcomeText: "每个回答都会给出它所依据的原文。",
    addDocuments: "添加文档",
    dropHint: "也可以把文件或文件夹拖到页面任意位置",
    dropNow: "松开即可加入知识库",
    chat: "问答",
    question: "你的问题",
    questionHint: "输入问题",
    send: "提问",
    stop: "停止",
    close: "关闭",
    uploads: "上传",
    more: "显示更多",
    documentText: "文档原文",
    download: "下载原文件",
    keyTitle: "API 密钥",
    keyHelp: "首次启动时会显示密钥，并保存在数据目录的 admin.key 文件中。",
    keyKept: "密钥只保存在这个浏览器里。",
    keyWrong: "服务不接受这个密钥。",
    keyNeeded: "需要 API 密钥。",
    save: "保存",
    cancel: "取消",
    newKb: "新建知识库",
    newKbOption: "新建知识库…",
    name: "名称",
    create: "创建",
    you: "你的提问",
    answer: "回答",
    searching: "正在查找文档…",
    stopped: "已停止。",
    brokeOff: "回答中断了，请重新提问。",
    offline: "服务没有响应。请确认服务正在运行，然后重试。",
    failed: "服务返回错误（{status}）。",
    sources: "来源",
    openSource: "来源 {number}：{name}",
    page: "第 {page} 页",
    unread: "尚未读取的文档：{count} 份",
    unsupported: "以下内容没有原文支持：",
    degraded: "回答时缺少：{what}",
    warnings: "模型参数：{what}",
    cut: "回答已达到最大长度。",
    notFound: "文档中没有答案。",
    details: "查找过程",
    stage: "{stage}：{inputs} → {outputs}，{milliseconds} 毫秒",
    loading: "正在加载…",
    noDocuments: "还没有文档。",
    earlier: "更早的内容",
    later: "后面的内容",
    remove: "删除",
    removeNamed: "删除 {name}",
    removeQuestion: "确定要永久删除“{name}”吗？",
    openNamed: "打开 {name}",
    pages: "{count} 页",
    kilobytes: "{size} KB",
    megabytes: "{size} MB",
    "status.queued": "等待中",
    "status.processing": "处理中",
    "status.ready": "就绪",
    uploading: "上传中",
    unchanged: "没有变化",
    sameAs: "与 {name} 内容相同",
    "stage.waiting": "等待中",
    "stage.parsing": "解析中",
    "stage.chunking": "切分中",
    "stage.summarising": "摘要中",
    "stage.embedding": "向量化",
    "stage.indexing": "写入索引",
    "stage.finished": "收尾",
    done: "就绪",
    cancelled: "已取消",
    retry: "重试",
  },
};

function preferred() {
  const stored = localStorage.getItem(STORED);
  if (stored in WORDS) return stored;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

let language = preferred();

/** The words for `key` in the page's language, with `{name}` replaced from `values`. */
export function t(key, values = {}) {
  const words = WORDS[language][key];
  if (words === undefined) throw new Error(`no words for "${key}" in "${language}"`);
  return words.replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

/** A span with these words; it follows the user when the language is switched. */
export function say(key, values = {}) {
  return h("span", { "data-t": key, "data-t-values": JSON.stringify(values) }, t(key, values));
}

/** Attributes that give a control its spoken name and tool tip, and follow the language. */
export function spoken(key, values = {}) {
  const words = t(key, values);
  return { "aria-label": words, title: words, "data-t-label": key, "data-t-values": JSON.stringify(values) };
}

/** Puts every marked element of the page into the page's language. */
export function translatePage() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  document.title = t("title");
  for (const element of document.querySelectorAll("[data-t], [data-t-label], [data-t-placeholder]")) {
    const { t: text, tLabel: label, tPlaceholder: placeholder, tValues } = element.dataset;
    const values = tValues ? JSON.parse(tValues) : {};
    if (text) element.textContent = t(text, values);
    if (label) element.setAttribute("aria-label", t(label, values));
    if (label && element.title) element.title = t(label, values);
    if (placeholder) element.placeholder = t(placeholder, values);
  }
}

export function switchLanguage() {
  language = language === "zh" ? "en" : "zh";
  localStorage.setItem(STORED, language);
  translatePage();
}
