// @ts-check
/** How it goes: what needs somebody first. */
import { element, html, show } from '../core/html.js';
import { get } from '../core/api.js';
import { count } from '../core/format.js';
import { link } from '../core/router.js';
import { View } from '../core/view.js';
import { runLink, target, time } from '../parts/bits.js';

const LOOK = 500;

export default class Overview extends View {
  #body = element`<div class="stack"></div>`;

  begin() {
    show(this, element`<div class="stack"><h1>Overview</h1>${this.#body}</div>`);
    let waiting = 0;
    this.follow({
      ready: () => void this.attempt(() => this.#load()),
      frame: () => {
        clearTimeout(waiting);
        waiting = setTimeout(() => this.isConnected && void this.attempt(() => this.#load()), 1000);
      },
    });
  }

  async #load() {
    const of = (/** @type {string} */ states) => get(`/holdfast/v1/invocations?view=summary&limit=${LOOK}&status=${states}`, this.signal);
    const [open, done, health, approvals] = await Promise.all([of('running,suspended,backing-off,paused,pending'), of('completed'), get('/health', this.signal), get('/holdfast/v1/approvals?status=open&limit=100', this.signal)]);
    const rows = open.invocations;
    const failed = done.invocations.filter((/** @type {any} */ row) => row.state === 'failed');
    const by = (/** @type {string} */ state) => rows.filter((/** @type {any} */ row) => row.state === state);
    const most = (/** @type {any[]} */ found) => (found.length >= LOOK ? `${count(LOOK)}+` : count(found.length));
    const tile = (/** @type {string} */ label, /** @type {string} */ number, /** @type {string} */ hash) => element`<a class="card" href=${hash}><div class="number">${number}</div><div class="quiet">${label}</div></a>`;
    if (!rows.length && !done.invocations.length) return show(this.#body, welcome());
    show(
      this.#body,
      element`<div class="cards">
        ${tile('running', most(by('running')), link(['invocations'], { status: 'running' }))}
        ${tile('waiting for a person', count(approvals.approvals.length), link(['approvals']))}
        ${tile('waiting', most(by('suspended')), link(['invocations'], { status: 'suspended' }))}
        ${tile('retrying', most(by('backing-off')), link(['invocations'], { status: 'backing-off' }))}
        ${tile('paused', most(by('paused')), link(['invocations'], { status: 'paused' }))}
        ${tile('failed', most(failed), link(['invocations'], { status: 'failed' }))}
      </div>`,
      errors(rows),
      oldest(rows),
      element`<section class="card"><h2>Engine</h2><dl class="facts">${Object.entries(health).map(([name, value]) => html`<dt>${name.replace(/_/g, ' ')}</dt><dd>${String(value)}</dd>`)}</dl></section>`,
    );
  }
}
customElements.define('hf-overview', Overview);

/** @param {any[]} rows */
function errors(rows) {
  /** @type {Map<string, any[]>} */
  const groups = new Map();
  for (const row of rows) {
    if (!row.error || !['backing-off', 'paused'].includes(row.state)) continue;
    const text = `${row.service}/${row.handler}: ${row.error}`;
    groups.set(text, [...(groups.get(text) || []), row]);
  }
  if (!groups.size) return '';
  const sorted = [...groups].sort((a, b) => b[1].length - a[1].length).slice(0, 8);
  return element`<section class="card"><h2>What fails</h2><ul>${sorted.map(([text, found]) => element`<li>${found.length} × ${text} ${runLink(found[0].id)} <span class="quiet">${time(found[0].modified)}</span></li>`)}</ul></section>`;
}

/** @param {any[]} rows */
function oldest(rows) {
  const waiting = rows.filter((row) => row.state === 'suspended').sort((a, b) => a.modified - b.modified).slice(0, 5);
  if (!waiting.length) return '';
  return element`<section class="card"><h2>Waiting longest</h2><ul>${waiting.map((row) => element`<li>${runLink(row.id)} ${target(row)} <span class="quiet">since</span> ${time(row.modified)}</li>`)}</ul></section>`;
}

function welcome() {
  return element`<section class="card stack"><h2>Nothing has run yet</h2><ol class="stack">
    <li>Serve handlers: <pre tabindex="0">holdfast dev agent.py:app</pre></li>
    <li>Try one: <a href=${link(['services'])}>Services</a>, or <pre tabindex="0">holdfast call SERVICE/HANDLER '{"prompt": "hello"}'</pre></li>
    <li>See it happen: <a href=${link(['invocations'])}>Invocations</a></li>
    <li>Or let the demo show it all, with a crash and an approval: <pre tabindex="0">holdfast demo</pre></li></ol></section>`;
}
