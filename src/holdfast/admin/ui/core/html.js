// @ts-check
/**
 * Makes DOM from templates: html`<p class=${name} @click=${fn}>${value}</p>`.
 *
 * Values are only ever text, attributes, properties, listeners or nodes, never markup, so what
 * models and tools said cannot become part of the page. The strings of a template are the only
 * markup there is, and they are written in these files.
 *
 *   text       ${value}            a string, number, node, fragment, array of these; null: nothing
 *   attribute  name=${value}       null or false: left out; true: present
 *   property   .name=${value}
 *   listener   @name=${function}
 */

const MARK = 'hf-';
const HOLE = /hf-(\d+)-/;
/** @type {WeakMap<TemplateStringsArray, HTMLTemplateElement>} */
const parsed = new WeakMap();

/** @param {TemplateStringsArray} strings */
function templateOf(strings) {
  let template = parsed.get(strings);
  if (!template) {
    let text = strings[0];
    for (let i = 1; i < strings.length; i++) {
      const inTag = text.lastIndexOf('<') > text.lastIndexOf('>');
      text += inTag ? `"${MARK}${i - 1}-"` : `<!--${MARK}${i - 1}--->`;
      text += strings[i];
    }
    template = document.createElement('template');
    template.innerHTML = text;
    parsed.set(strings, template);
  }
  return template;
}

/** @param {Element} element @param {string} name @param {unknown} value */
function bind(element, name, value) {
  if (name[0] === '@') {
    element.removeAttribute(name);
    if (value) element.addEventListener(name.slice(1), /** @type {EventListener} */ (value));
  } else if (name[0] === '.') {
    element.removeAttribute(name);
    /** @type {any} */ (element)[propertyName(name.slice(1))] = value;
  } else if (value === null || value === undefined || value === false) {
    element.removeAttribute(name);
  } else {
    element.setAttribute(name, value === true ? '' : String(value));
  }
}

/** Attribute names arrive in lower case; a dash stands for a capital: `.read-only`. @param {string} name */
function propertyName(name) {
  return name.replace(/-([a-z])/g, (_, letter) => letter.toUpperCase());
}

/** @param {unknown} value @returns {Node} */
export function node(value) {
  if (value instanceof Node) return value;
  if (value === null || value === undefined || value === false) return document.createTextNode('');
  if (Array.isArray(value)) {
    const fragment = document.createDocumentFragment();
    for (const item of value) fragment.append(node(item));
    return fragment;
  }
  return document.createTextNode(String(value));
}

/** @param {TemplateStringsArray} strings @param {...unknown} values @returns {DocumentFragment} */
export function html(strings, ...values) {
  const fragment = /** @type {DocumentFragment} */ (document.importNode(templateOf(strings).content, true));
  const walker = document.createTreeWalker(fragment, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_COMMENT);
  /** @type {[Comment, unknown][]} */
  const holes = [];
  for (let found = walker.nextNode(); found; found = walker.nextNode()) {
    if (found instanceof Comment) {
      const match = HOLE.exec(found.data);
      if (match) holes.push([found, values[Number(match[1])]]);
      continue;
    }
    const element = /** @type {Element} */ (found);
    for (const { name, value } of [...element.attributes]) {
      const match = HOLE.exec(value);
      if (!match) continue;
      const whole = match[0] === value;
      const given = values[Number(match[1])];
      bind(element, name, whole ? given : value.replace(HOLE, String(given)));
    }
  }
  for (const [hole, value] of holes) hole.replaceWith(node(value));
  return fragment;
}

/** The one element of a template. @param {TemplateStringsArray} strings @param {...unknown} values @returns {HTMLElement} */
export function element(strings, ...values) {
  return /** @type {HTMLElement} */ (html(strings, ...values).firstElementChild);
}

/** Replace all that is in a place. @param {Element} place @param {...unknown} content */
export function show(place, ...content) {
  place.replaceChildren(...content.map(node));
}

/**
 * Keep the children of a place in line with a list, each by its key: those that stay keep focus,
 * selection and scroll position.
 * @template T
 * @param {Element} place @param {T[]} items @param {(item: T) => string} keyOf
 * @param {(item: T) => HTMLElement} make @param {(child: HTMLElement, item: T) => void} [update]
 */
export function sync(place, items, keyOf, make, update) {
  /** @type {Map<string, HTMLElement>} */
  const old = new Map();
  for (const child of /** @type {HTMLElement[]} */ ([...place.children])) {
    if (child.dataset.key !== undefined) old.set(child.dataset.key, child);
  }
  let at = place.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let child = old.get(key);
    if (child) {
      old.delete(key);
      if (update) update(child, item);
    } else {
      child = make(item);
      child.dataset.key = key;
    }
    if (child === at) at = at.nextElementSibling;
    else place.insertBefore(child, at);
  }
  for (const child of old.values()) child.remove();
}
