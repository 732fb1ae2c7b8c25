// @ts-check
/**
 * A form for a JSON schema, and JSON beside it: switching loses nothing. What a form cannot show
 * (recursion, free objects, deep alternatives) is JSON in its place, so nothing is ever blocked.
 */
import { element, show } from '../core/html.js';

const DEPTH_MAX = 5;

/** @typedef {any} Schema */
/** @typedef {{element: HTMLElement, read: () => unknown}} Field */

export class SchemaForm {
  #isJson = false;
  /** @type {Field} */
  #field;

  /** @param {Schema} schema @param {unknown} value what to begin with */
  constructor(schema, value) {
    this.schema = schema || {};
    const begin = value === undefined ? example(this.schema, this.schema, 0) : value;
    this.#field = fieldOf(this.schema, this.schema, begin, 0);
    // A single field has no label of its own beside it.
    if (!this.#field.element.getAttribute('aria-label')) this.#field.element.setAttribute('aria-label', 'Input');
    this.text = /** @type {HTMLTextAreaElement} */ (element`<textarea aria-label="JSON" spellcheck="false"></textarea>`);
    this.text.value = JSON.stringify(begin ?? null, null, 2);
    this.place = element`<div></div>`;
    this.button = element`<button type="button" class="plain" @click=${() => this.toggle()}></button>`;
    this.element = element`<div class="stack">${this.place}<div>${this.button}</div></div>`;
    this.#isJson = this.#field.element instanceof HTMLTextAreaElement;
    this.#draw();
  }

  #draw() {
    show(this.place, this.#isJson ? this.text : this.#field.element);
    this.button.textContent = this.#isJson ? 'As a form' : 'As JSON';
  }

  /** Between form and JSON; JSON that is none stays where it is. */
  toggle() {
    if (this.#isJson) {
      const value = JSON.parse(this.text.value);
      this.#field = fieldOf(this.schema, this.schema, value, 0);
    } else this.text.value = JSON.stringify(this.#field.read() ?? null, null, 2);
    this.#isJson = !this.#isJson;
    this.#draw();
  }

  /** @returns {unknown} what is filled in; raises SyntaxError when it is no JSON */
  value() {
    return this.#isJson ? JSON.parse(this.text.value) : this.#field.read();
  }
}

/** @param {Schema} schema @param {Schema} root @returns {Schema} */
function resolved(schema, root) {
  let found = schema;
  for (let i = 0; found && found.$ref && i < 20; i++) {
    found = found.$ref.replace(/^#\//, '').split('/').reduce((/** @type {any} */ at, /** @type {string} */ name) => at && at[name], root) || {};
  }
  return found || {};
}

/** A value to begin with. @param {Schema} given @param {Schema} root @param {number} depth @returns {unknown} */
export function example(given, root, depth) {
  const schema = resolved(given, root);
  if ('default' in schema) return schema.default;
  if ('const' in schema) return schema.const;
  if (schema.enum) return schema.enum[0];
  if (depth > DEPTH_MAX) return null;
  const any = schema.anyOf || schema.oneOf;
  if (any) return any.some((/** @type {Schema} */ s) => s.type === 'null') ? null : example(any[0], root, depth + 1);
  switch (schema.type) {
    case 'object':
      return Object.fromEntries(Object.entries(schema.properties || {}).filter(([name]) => (schema.required || []).includes(name)).map(([name, s]) => [name, example(s, root, depth + 1)]));
    case 'array': return [];
    case 'integer': case 'number': return schema.minimum ?? 0;
    case 'boolean': return false;
    case 'string': return '';
    default: return null;
  }
}

/** @param {Schema} given @param {Schema} root @param {unknown} value @param {number} depth @returns {Field} */
function fieldOf(given, root, value, depth) {
  const schema = resolved(given, root);
  if (depth > DEPTH_MAX) return jsonField(value);
  if (schema.enum) return choice(schema.enum, value);
  if ('const' in schema) return { element: element`<code>${JSON.stringify(schema.const)}</code>`, read: () => schema.const };
  const any = schema.anyOf || schema.oneOf;
  if (any) {
    const real = any.filter((/** @type {Schema} */ s) => s.type !== 'null');
    return real.length === 1 && real.length < any.length ? optional(real[0], root, value, depth) : jsonField(value);
  }
  switch (schema.type) {
    case 'object': return schema.properties ? object(schema, root, value, depth) : jsonField(value);
    case 'array': return schema.items ? list(schema, root, value, depth) : jsonField(value);
    case 'integer': case 'number': return number(schema, value);
    case 'boolean': return box(value);
    case 'string': return text(schema, value);
    default: return jsonField(value);
  }
}

/** @param {unknown} value @returns {Field} */
function jsonField(value) {
  const area = /** @type {HTMLTextAreaElement} */ (element`<textarea aria-label="JSON" spellcheck="false"></textarea>`);
  area.value = JSON.stringify(value ?? null, null, 2);
  return { element: area, read: () => JSON.parse(area.value) };
}

/** @param {unknown[]} values @param {unknown} value @returns {Field} */
function choice(values, value) {
  const select = /** @type {HTMLSelectElement} */ (element`<select>${values.map((v, i) => element`<option value=${i}>${typeof v === 'string' ? v : JSON.stringify(v)}</option>`)}</select>`);
  select.selectedIndex = Math.max(0, values.indexOf(value));
  return { element: select, read: () => values[select.selectedIndex] };
}

/** @param {Schema} schema @param {unknown} value @returns {Field} */
function number(schema, value) {
  const input = /** @type {HTMLInputElement} */ (element`<input type="number" step=${schema.type === 'integer' ? '1' : 'any'} min=${schema.minimum} max=${schema.maximum}>`);
  input.value = value === null || value === undefined ? '' : String(value);
  return { element: input, read: () => (input.value === '' ? null : Number(input.value)) };
}

/** @param {unknown} value @returns {Field} */
function box(value) {
  const input = /** @type {HTMLInputElement} */ (element`<input type="checkbox" .checked=${value === true}>`);
  return { element: input, read: () => input.checked };
}

/** @param {Schema} schema @param {unknown} value @returns {Field} */
function text(schema, value) {
  const types = /** @type {Record<string, string>} */ ({ date: 'date', email: 'email', uri: 'url' });
  const isLong = (schema.maxLength || 0) > 200 || /prompt|message|text|description/i.test(schema.title || '');
  const input = /** @type {HTMLInputElement | HTMLTextAreaElement} */ (isLong ? element`<textarea></textarea>` : element`<input type=${types[schema.format] || 'text'} size="40">`);
  input.value = typeof value === 'string' ? value : '';
  return { element: input, read: () => input.value };
}

/** @param {Schema} schema @param {Schema} root @param {unknown} value @param {number} depth @returns {Field} */
function object(schema, root, value, depth) {
  const given = /** @type {Record<string, unknown>} */ (value && typeof value === 'object' ? value : {});
  const required = new Set(schema.required || []);
  const fields = Object.entries(schema.properties).map(([name, inner]) => {
    const has = name in given;
    const field = fieldOf(/** @type {Schema} */ (inner), root, has ? given[name] : example(/** @type {Schema} */ (inner), root, depth + 1), depth + 1);
    const use = /** @type {HTMLInputElement} */ (element`<input type="checkbox" aria-label=${`Give ${name}`} .checked=${required.has(name) || has}>`);
    const { description } = resolved(/** @type {Schema} */ (inner), root);
    const label = element`<label class="stack">${element`<span class="row">${required.has(name) ? '' : use}<span>${name}${required.has(name) ? ' *' : ''}</span>${description ? element`<span class="quiet">${description}</span>` : ''}</span>`}${field.element}</label>`;
    return { name, field, label, isGiven: () => required.has(name) || use.checked };
  });
  return {
    element: element`<fieldset class="stack">${fields.map((f) => f.label)}</fieldset>`,
    read: () => Object.fromEntries(fields.filter((f) => f.isGiven()).map((f) => [f.name, f.field.read()])),
  };
}

/** @param {Schema} schema @param {Schema} root @param {unknown} value @param {number} depth @returns {Field} */
function list(schema, root, value, depth) {
  /** @type {Field[]} */
  let items = (Array.isArray(value) ? value : []).map((item) => fieldOf(schema.items, root, item, depth + 1));
  const rows = element`<div class="stack"></div>`;
  const draw = () => show(rows, ...items.map((item) => element`<div class="row">${item.element}<button type="button" aria-label="Remove" @click=${() => { items = items.filter((other) => other !== item); draw(); }}>✕</button></div>`));
  draw();
  const add = element`<button type="button" @click=${() => { items.push(fieldOf(schema.items, root, example(schema.items, root, depth + 1), depth + 1)); draw(); }}>Add</button>`;
  return { element: element`<div class="stack">${rows}<div>${add}</div></div>`, read: () => items.map((item) => item.read()) };
}

/** @param {Schema} schema @param {Schema} root @param {unknown} value @param {number} depth @returns {Field} */
function optional(schema, root, value, depth) {
  const isNull = value === null || value === undefined;
  const field = fieldOf(schema, root, isNull ? example(schema, root, depth + 1) : value, depth + 1);
  const use = /** @type {HTMLInputElement} */ (element`<input type="checkbox" aria-label="Not null" .checked=${!isNull}>`);
  return { element: element`<div class="row">${use}${field.element}</div>`, read: () => (use.checked ? field.read() : null) };
}
