// How are elements made from data? Only here, and only as text nodes and attributes: never as HTML.

/**
 * An element. `properties` are attributes; a name like `onclick` adds a listener; undefined, null and false
 * are left out. Children that are strings become text nodes, so data can never become markup.
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
}

export const byId = (id) => document.getElementById(id);
