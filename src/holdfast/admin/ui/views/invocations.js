// @ts-check
/** All invocations: newest first, live, by status and target. */
import { element, html, show } from '../core/html.js';
import { get } from '../core/api.js';
import { duration } from '../core/format.js';
import { amend, go, link } from '../core/router.js';
import { onKey } from '../core/keys.js';
import { emptyBox, View } from '../core/view.js';
import { copyButton, runLink, status, stateWord, target, time } from '../parts/bits.js';
import { placeOfId } from '../parts/palette.js';
import { RowList } from '../parts/list.js';
import { batchBar } from '../parts/batch.js';

const PAGE_ROWS = 100;
const STATES = ['running', 'suspended', 'backing-off', 'paused', 'pending', 'scheduled', 'succeeded', 'failed'];

/** @typedef {any} Row a summary, as the server gives it */

export default class Invocations extends View {
  title = 'Invocations';
  /** @type {Map<string, Row>} */
  #rows = new Map();
  /** @type {Map<string, Row>} New ones that wait until the page is at its top. */
  #waiting = new Map();
  /** @type {string | null} */
  #next = null;
  #list = new RowList({
    label: 'Invocations',
    keyOf: (/** @type {Row} */ row) => row.id,
    open: (row) => go(link(['invocations', row.id])),
    onChosen: (chosen) => this.#drawBatch(chosen),
    columns: [
      { label: 'Status', show: (row) => status(row.state) },
      { label: 'Invocation', show: (row) => html`${runLink(row.id)} ${copyButton(row.id, 'id')}` },
      { label: 'Target', show: (row) => html`${target(row)}${row.error && row.state !== 'succeeded' ? element`<div class="quiet">${row.error}</div>` : ''}` },
      { label: 'Created', show: (row) => time(row.created) },
      { label: 'Took', right: true, show: (row) => (row.completed ? duration(row.completed - row.created) : '') },
      { label: 'Attempts', right: true, show: (row) => row.attempts },
      { label: 'Entries', right: true, show: (row) => row.entries },
    ],
  });
  #chips = element`<div class="row" role="group" aria-label="Status"></div>`;
  #batch = element`<div></div>`;
  #body = element`<div class="stack"></div>`;
  #pill = element`<button type="button" class="pill primary" hidden @click=${() => this.#takeWaiting()}></button>`;
  #more = element`<button type="button" @click=${() => this.attempt(() => this.#loadMore())}>Older ones</button>`;

  begin() {
    const search = element`<input data-search type="search" size="32" aria-label="Filter by service, or go to an id" placeholder="Service, or an id" .value=${this.place.query.get('service') || ''}>`;
    search.addEventListener('change', () => this.#search(/** @type {HTMLInputElement} */ (search).value));
    show(
      this,
      element`<div class="stack"><div class="row spread"><h1>Invocations</h1>${search}</div>${this.#chips}${this.#batch}${this.#pill}${this.#body}<div class="row">${this.#more}</div></div>`,
    );
    for (const [key, label, act] of /** @type {[string, string, () => void][]} */ ([
      ['j', 'Next row', () => this.#list.move(1)],
      ['k', 'Previous row', () => this.#list.move(-1)],
      ['ArrowDown', 'Next row', () => this.#list.move(1)],
      ['ArrowUp', 'Previous row', () => this.#list.move(-1)],
      ['Enter', 'Open', () => this.#list.openCurrent()],
    ])) this.onLeave(onKey(key, label, act));
    this.#drawChips();
    this.follow({ ready: () => void this.attempt(() => this.#load()), frame: (frame) => this.#take(frame) });
  }

  /** @param {import('../core/router.js').Place} place */
  moved(place) {
    this.place = place;
    this.#drawChips();
    void this.attempt(() => this.#load());
    return true;
  }

  get #wanted() {
    return (this.place.query.get('status') || '').split(',').filter(Boolean);
  }

  /** @param {string | null} [before] */
  async #page(before) {
    const query = new URLSearchParams({ view: 'summary', limit: String(PAGE_ROWS) });
    const service = this.place.query.get('service');
    if (service) query.set('service', service);
    const states = this.#wanted;
    if (states.length) query.set('status', [...new Set(states.map((s) => (s === 'succeeded' || s === 'failed' ? 'completed' : s)))].join(','));
    if (before) query.set('before', before);
    return get(`/holdfast/v1/invocations?${query}`, this.signal);
  }

  async #load() {
    const page = await this.#page();
    this.#rows = new Map(page.invocations.map((/** @type {Row} */ row) => [row.id, row]));
    this.#waiting.clear();
    this.#next = page.next;
    this.#draw();
  }

  async #loadMore() {
    const page = await this.#page(this.#next);
    for (const row of page.invocations) this.#rows.set(row.id, row);
    this.#next = page.next;
    this.#draw();
  }

  /** @param {import('../core/live.js').Frame} frame */
  #take(frame) {
    const isAtTop = (this.parentElement ? this.parentElement.scrollTop : 0) < 40;
    for (const row of frame.rows) {
      if (this.#rows.has(row.id)) this.#rows.set(row.id, row);
      else if (this.#fits(row)) (isAtTop ? this.#rows : this.#waiting).set(row.id, row);
    }
    for (const id of frame.gone) {
      this.#rows.delete(id);
      this.#waiting.delete(id);
    }
    this.#draw();
  }

  #takeWaiting() {
    for (const [id, row] of this.#waiting) this.#rows.set(id, row);
    this.#waiting.clear();
    if (this.parentElement) this.parentElement.scrollTop = 0;
    this.#draw();
  }

  /** @param {Row} row */
  #fits(row) {
    const service = this.place.query.get('service');
    const states = this.#wanted;
    return (!service || row.service === service) && (!states.length || states.includes(row.state));
  }

  #draw() {
    const rows = [...this.#rows.values()].filter((row) => this.#fits(row)).sort((a, b) => b.created - a.created || (a.id < b.id ? 1 : -1));
    this.#list.show(rows);
    /** @type {HTMLElement} */ (this.#more).hidden = !this.#next;
    /** @type {HTMLElement} */ (this.#pill).hidden = this.#waiting.size === 0;
    this.#pill.textContent = `${this.#waiting.size} new`;
    const isEmpty = rows.length === 0;
    show(this.#body, isEmpty ? emptyBox('No invocations here.', 'holdfast call SERVICE/HANDLER \'{"some": "input"}\'') : this.#list.table);
  }

  #drawChips() {
    const wanted = this.#wanted;
    show(
      this.#chips,
      ...STATES.map((state) => element`<button type="button" class="chip" aria-pressed=${String(wanted.includes(state))} @click=${() => this.#toggle(state)}>${stateWord(state)}</button>`),
    );
  }

  /** @param {string} state */
  #toggle(state) {
    const wanted = new Set(this.#wanted);
    if (!wanted.delete(state)) wanted.add(state);
    amend({ status: [...wanted].join(',') });
    this.place.query.set('status', [...wanted].join(','));
    this.#drawChips();
    void this.attempt(() => this.#load());
  }

  /** @param {string} text */
  #search(text) {
    const hash = placeOfId(text);
    if (hash) return go(hash);
    amend({ service: text.trim() });
    this.place.query.set('service', text.trim());
    void this.attempt(() => this.#load());
  }

  /** @param {Set<string>} chosen */
  #drawBatch(chosen) {
    show(this.#batch, chosen.size ? batchBar([...chosen], () => { chosen.clear(); this.#drawBatch(chosen); void this.attempt(() => this.#load()); }) : '');
  }
}
customElements.define('hf-invocations', Invocations);
