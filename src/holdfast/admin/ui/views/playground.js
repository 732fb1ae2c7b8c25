// @ts-check
/** Try a handler: a form made from its schema, the answer while it comes, and the same as code. */
import { element, html, show } from '../core/html.js';
import { ask, ApiError, get } from '../core/api.js';
import { link } from '../core/router.js';
import { emptyBox, View } from '../core/view.js';
import { runLink, status } from '../parts/bits.js';
import { block } from '../parts/payload.js';
import { SchemaForm } from '../parts/schema_form.js';
import { kindOf } from './services.js';

/** The ingress, seen from here: pages may only ask the server that they came from. */
const INGRESS = '/holdfast/v1/ingress';

export default class Playground extends View {
  /** @type {any} */
  #service = null;
  /** @type {any} */
  #handler = null;
  /** @type {SchemaForm | null} */
  #form = null;
  #key = /** @type {HTMLInputElement} */ (element`<input required size="24">`);
  #idempotency = /** @type {HTMLInputElement} */ (element`<input size="24">`);
  #delay = /** @type {HTMLInputElement} */ (element`<input size="8" placeholder="5m">`);
  #answer = element`<div class="stack" aria-live="polite"></div>`;
  #code = element`<div class="stack"></div>`;
  #watched = '';

  begin() {
    void this.attempt(() => this.#load());
    this.follow({ ready: () => {}, frame: (frame) => {
      const row = frame.rows.find((each) => each.id === this.#watched);
      if (row) void this.attempt(() => this.#showRun(row));
    } });
  }

  async #load() {
    const [, name, handlerName] = this.place.path;
    const service = await get(`/services/${encodeURIComponent(name)}`, this.signal);
    const handler = service.handlers.find((/** @type {any} */ each) => each.name === handlerName) || service.handlers[0];
    this.#service = service;
    this.#handler = handler;
    this.title = `${service.name}/${handler.name}`;
    const isKeyed = service.ty !== 'Service';
    this.#form = handler.input_json_schema ? new SchemaForm(handler.input_json_schema, undefined) : takesNothing(handler) ? null : new SchemaForm({}, null);
    const others = service.handlers.map((/** @type {any} */ each) => element`<a class="chip" href=${link(['services', service.name, each.name])} aria-current=${each.name === handler.name ? 'true' : null}>${each.name}</a>`);
    show(this, element`<div class="stack">
      <div class="row"><h1>${service.name}/${handler.name}</h1><span class="quiet">${kindOf(service.ty)}</span></div>
      <div class="row">${others}</div>
      ${handler.documentation ? element`<p>${handler.documentation}</p>` : ''}
      ${handler.public === false ? emptyBox('This handler is private: only other handlers may call it.') : ''}
      <form class="card stack" @submit=${(/** @type {Event} */ event) => { event.preventDefault(); void this.#send(false); }}>
        ${isKeyed ? element`<label>Key ${this.#key}</label>` : ''}
        ${this.#form ? this.#form.element : element`<p class="quiet">It takes no input.</p>`}
        <div class="row"><label>Idempotency key ${this.#idempotency}</label><label>Delay ${this.#delay}</label></div>
        <div class="row"><button class="primary">Call</button><button type="button" @click=${() => this.#send(true)}>Send, and do not wait</button><button type="button" @click=${() => this.#drawCode()}>As code</button></div>
      </form>
      ${this.#answer}${this.#code}</div>`);
  }

  #path() {
    const parts = [this.#service.name];
    if (this.#service.ty !== 'Service') parts.push(this.#key.value);
    return `/${[...parts, this.#handler.name].map(encodeURIComponent).join('/')}`;
  }

  /** @param {boolean} isOneWay the answer of a send is only that it is durable */
  async #send(isOneWay) {
    let input;
    try {
      input = this.#form ? this.#form.value() : undefined;
    } catch (error) {
      return show(this.#answer, element`<p role="alert">That is no JSON: ${/** @type {Error} */ (error).message}</p>`);
    }
    const delay = this.#delay.value.trim();
    const path = `${INGRESS}${this.#path()}/send${delay ? `?delay=${encodeURIComponent(delay)}` : ''}`;
    show(this.#answer, element`<p class="quiet">Asked…</p>`);
    const headers = /** @type {Record<string, string>} */ (input === undefined ? {} : { 'content-type': 'application/json' });
    if (this.#idempotency.value) headers['idempotency-key'] = this.#idempotency.value;
    // A send in both cases: then there is an id at once, and the run is seen while it happens.
    const response = await fetch(path, { method: 'POST', headers, body: input === undefined ? undefined : JSON.stringify(input), signal: this.signal });
    const said = await response.json();
    if (!response.ok) return show(this.#answer, element`<div class="problem" role="alert"><strong>${said.message}</strong><span>${said.hint || ''}</span></div>`);
    this.#watched = said.invocationId;
    show(this.#answer, element`<p>${isOneWay ? 'Sent' : 'Runs'}: ${runLink(said.invocationId, said.invocationId)}</p>`);
    const row = await get(`/holdfast/v1/invocations/${said.invocationId}/operations`, this.signal);
    await this.#showRun(row.invocation);
  }

  /** @param {any} row */
  async #showRun(row) {
    const head = element`<div class="row">${status(row.state)} ${runLink(row.id, row.id)} <span class="quiet">${row.entries} entries</span></div>`;
    if (row.state !== 'succeeded' && row.state !== 'failed') return show(this.#answer, head, row.error ? element`<p class="quiet">${row.error}</p>` : '');
    try {
      const output = await ask('GET', `${INGRESS}/restate/invocation/${row.id}/output`, undefined, this.signal);
      show(this.#answer, head, block('Answer', output));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      show(this.#answer, head, block('Failure', { message: error.message, status: error.status }));
    }
  }

  #drawCode() {
    let input = null;
    try {
      input = this.#form ? this.#form.value() : null;
    } catch {
      input = null;
    }
    const json = JSON.stringify(input);
    const key = this.#service.ty === 'Service' ? '' : `, key=${JSON.stringify(this.#key.value)}`;
    const target = this.#service.ty === 'Service' ? `${this.#service.name}/${this.#handler.name}` : `${this.#service.name}/${this.#key.value}/${this.#handler.name}`;
    show(this.#code, html`${block('On the command line', `holdfast call ${target} ${quoted(json)}`)}
      ${block('curl', `curl http://127.0.0.1:8080${this.#path()} --json ${quoted(json)}`)}
      ${block('Python', `async with hf.Client("http://127.0.0.1:8080") as client:\n    answer = await client.call("${this.#service.name}/${this.#handler.name}", ${pythonOf(input)}${key})`)}`);
  }
}
customElements.define('hf-playground', Playground);

/** @param {any} handler */
const takesNothing = (handler) => handler.input_description === 'none' || handler.input_description === 'no body';

/** @param {string} text */
const quoted = (text) => `'${text.replace(/'/g, `'\\''`)}'`;

/** @param {unknown} value @returns {string} */
function pythonOf(value) {
  if (value === null) return 'None';
  if (value === true) return 'True';
  if (value === false) return 'False';
  if (Array.isArray(value)) return `[${value.map(pythonOf).join(', ')}]`;
  if (typeof value === 'object') return `{${Object.entries(/** @type {object} */ (value)).map(([k, v]) => `${JSON.stringify(k)}: ${pythonOf(v)}`).join(', ')}}`;
  return JSON.stringify(value);
}
