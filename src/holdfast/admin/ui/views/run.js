// @ts-check
/** One run: why it is where it is, what it did and when, and what was said in each step. */
import { element, html, show } from '../core/html.js';
import { get } from '../core/api.js';
import { count, duration, money, serverNow } from '../core/format.js';
import { amend, go, link } from '../core/router.js';
import { onKey } from '../core/keys.js';
import { emptyBox, View } from '../core/view.js';
import { copyButton, runLink, status, target, time } from '../parts/bits.js';
import { ACTIONS, askFor } from '../parts/batch.js';
import { block, payloadBlock } from '../parts/payload.js';
import { llmPanel } from '../parts/llm.js';
import { kindWord, Waterfall } from '../parts/waterfall.js';

const TABS = ['timeline', 'io', 'journal'];
const TAB_LABELS = /** @type {Record<string, string>} */ ({ timeline: 'Timeline', io: 'Input and output', journal: 'Raw journal' });
const PAYLOAD_BYTES = 262_144;
const ENDED = ['succeeded', 'failed'];

export default class Run extends View {
  /** @type {any} */
  #run = null;
  /** @type {any[]} */
  #operations = [];
  #head = element`<div class="stack"></div>`;
  #tabs = element`<div class="tabs" role="tablist" aria-label="Parts of the run"></div>`;
  #body = element`<div></div>`;
  #side = element`<aside class="wf-side stack" aria-label="Chosen operation" tabindex="-1"></aside>`;
  #waterfall = new Waterfall((operation) => this.#choose(operation));
  #isQuietHidden = false;
  #loading = false;
  #isStale = false;

  get #id() {
    return this.place.path[1];
  }

  begin() {
    this.title = this.#id;
    show(this, element`<div class="stack">${this.#head}${this.#tabs}${this.#body}</div>`);
    for (const [key, label, act] of /** @type {[string, string, () => void][]} */ ([
      ['j', 'Next operation', () => this.#waterfall.move(1)],
      ['k', 'Previous operation', () => this.#waterfall.move(-1)],
      ['e', 'Next failed operation', () => this.#waterfall.moveToError(1)],
      ['E', 'Previous failed operation', () => this.#waterfall.moveToError(-1)],
      ['z', 'Fit rows', () => this.#toggle('isFitting')],
    ])) this.onLeave(onKey(key, label, act));
    this.#drawTabs();
    this.follow({
      ready: () => void this.attempt(() => this.#load()),
      frame: (frame) => {
        if (frame.rows.some((row) => row.id === this.#id)) void this.attempt(() => this.#load());
      },
    });
    // An open operation grows while one looks at it.
    this.every(() => {
      if (this.#run && !ENDED.includes(this.#run.state)) this.#draw();
    }, 1000);
  }

  /** @param {import('../core/router.js').Place} place */
  moved(place) {
    this.place = place;
    this.#drawTabs();
    this.#drawBody();
    return true;
  }

  get #tab() {
    const wanted = this.place.query.get('tab') || 'timeline';
    return TABS.includes(wanted) ? wanted : 'timeline';
  }

  async #load() {
    // One at a time; what came meanwhile is one more.
    if (this.#loading) {
      this.#isStale = true;
      return;
    }
    this.#loading = true;
    try {
      do {
        this.#isStale = false;
        const found = await get(`/holdfast/v1/invocations/${encodeURIComponent(this.#id)}/operations`, this.signal);
        const isFirst = this.#run === null;
        this.#run = found.invocation;
        this.#operations = found.operations;
        this.#drawHead();
        if (isFirst) this.#drawBody();
        else this.#draw();
      } while (this.#isStale);
    } finally {
      this.#loading = false;
    }
  }

  #drawHead() {
    const run = this.#run;
    const models = this.#operations.filter((o) => o.detail && o.detail.kind === 'model').map((o) => o.detail);
    const tokens = models.reduce((sum, m) => sum + ((m.usage && (m.usage.input || 0) + (m.usage.output || 0)) || 0), 0);
    const isPriced = models.every((m) => m.cost);
    const cost = models.reduce((sum, m) => sum + Number((m.cost && m.cost.amount) || 0), 0);
    const isOver = ENDED.includes(run.state);
    const actions = ACTIONS.filter((action) => (isOver ? ['restart-as-new', 'purge'].includes(action.verb) : !['restart-as-new', 'purge'].includes(action.verb)));
    show(
      this.#head,
      element`<div class="row spread"><div class="row"><h1 class="mono">${run.id}</h1>${copyButton(run.id, 'id')}${status(run.state)}</div>
        <div class="row">${actions.map((action) => element`<button type="button" class=${action.danger ? 'danger' : null} @click=${() => askFor(action, [run.id], (answers) => this.#after(answers))}>${action.label}</button>`)}</div></div>`,
      element`<p class="why">${this.#why()}</p>`,
      element`<dl class="facts card">
        <dt>Target</dt><dd>${target(run)}</dd>
        <dt>Created</dt><dd>${time(run.created)}${isOver ? ` · took ${duration(run.completed - run.created)}` : ''}</dd>
        <dt>Attempts</dt><dd>${run.attempts}</dd>
        <dt>Operations</dt><dd>${count(this.#operations.length)}</dd>
        ${models.length ? html`<dt>Model calls</dt><dd>${models.length} · ${count(tokens)} tokens · ${isPriced ? money(String(cost)) : '?'}</dd>` : ''}
        ${run.parent ? html`<dt>Called by</dt><dd>${runLink(run.parent, run.parent)}</dd>` : ''}
        ${run.deployment ? html`<dt>Deployment</dt><dd class="mono"><a href=${link(['deployments', run.deployment])}>${run.deployment}</a></dd>` : ''}
        ${run.error ? html`<dt>Last error</dt><dd>${run.error}</dd>` : ''}
      </dl>`,
    );
  }

  /** @param {any[]} answers */
  #after(answers) {
    const made = answers[0] && answers[0].new_invocation_id;
    if (made) go(link(['invocations', made]));
    else void this.attempt(() => this.#load());
  }

  /** One sentence. */
  #why() {
    const run = this.#run;
    const open = this.#operations.filter((o) => o.state === 'open');
    const first = open[0];
    if (run.state === 'succeeded') return `Done after ${duration(run.completed - run.created)}.`;
    if (run.state === 'failed') return 'Failed. The output says why.';
    if (run.state === 'paused') return `Paused${run.error ? ` after: ${run.error}` : ''}. Resume it when that is mended.`;
    if (run.state === 'backing-off') return `Tries again ${run.retry_at > serverNow() ? `in ${duration(run.retry_at - serverNow())}` : 'now'}: ${run.error || 'the last attempt failed'}.`;
    if (run.state === 'pending') return `Queued behind another invocation of ${run.service}/${run.key}.`;
    if (run.state === 'scheduled') return `Starts in ${duration(run.scheduled - serverNow())}.`;
    const approval = open.find((o) => o.kind === 'AskApproval');
    if (approval) return html`Waits for a person since ${duration(serverNow() - approval.at)}: <a href="#/approvals">${approval.name || 'approval'}</a>.`;
    if (run.state === 'running') return first ? `Runs: ${kindWord(first)} ${first.name}.` : 'Runs.';
    if (first && first.child) return html`Waits for ${runLink(first.child)} of ${first.name} since ${duration(serverNow() - first.at)}.`;
    if (first) return `Waits for ${kindWord(first)} ${first.name} since ${duration(serverNow() - first.at)}.`;
    return 'Waits for something from outside, such as an awakeable or a signal.';
  }

  #drawTabs() {
    show(this.#tabs, ...TABS.map((tab) => element`<button type="button" role="tab" aria-selected=${String(tab === this.#tab)} @click=${() => this.#open(tab)}>${TAB_LABELS[tab]}</button>`));
  }

  /** @param {string} tab */
  #open(tab) {
    amend({ tab: tab === 'timeline' ? null : tab });
    this.place.query.set('tab', tab);
    this.#drawTabs();
    this.#drawBody();
  }

  #drawBody() {
    if (!this.#run) return;
    if (this.#tab === 'timeline') {
      const tools = element`<div class="row">
        <button type="button" class="chip" data-toggle="isFitting" aria-pressed=${String(this.#waterfall.isFitting)} @click=${() => this.#toggle('isFitting')}>Fit rows</button>
        <button type="button" class="chip" data-toggle="isFolding" aria-pressed=${String(this.#waterfall.isFolding)} @click=${() => this.#toggle('isFolding')}>Fold idle</button>
        <button type="button" class="chip" aria-pressed=${String(this.#isQuietHidden)} @click=${() => { this.#isQuietHidden = !this.#isQuietHidden; this.#drawBody(); }}>Hide state</button>
      </div>`;
      show(this.#body, tools, element`<div class="wf-split">${this.#waterfall.element}${this.#side}</div>`);
      this.#draw();
      const chosen = this.place.query.get('entry');
      const found = this.#operations.find((o) => String(o.index) === chosen);
      if (found) {
        this.#waterfall.selectIndex(found.index);
        this.#choose(found);
      } else if (!this.#side.firstChild) show(this.#side, emptyBox('Choose an operation to see what was said in it.'));
    } else if (this.#tab === 'io') void this.attempt(() => this.#drawIo());
    else void this.attempt(() => this.#drawJournal());
  }

  #draw() {
    if (this.#tab === 'timeline') this.#waterfall.show(this.#operations, serverNow(), this.#isQuietHidden);
    this.#head.querySelector('.why')?.replaceChildren(...[this.#why()].map((x) => (typeof x === 'string' ? document.createTextNode(x) : x)));
  }

  /** @param {'isFitting' | 'isFolding'} name */
  #toggle(name) {
    this.#waterfall[name] = !this.#waterfall[name];
    const button = this.#body.querySelector(`[data-toggle="${name}"]`);
    if (button) button.setAttribute('aria-pressed', String(this.#waterfall[name]));
    this.#draw();
  }

  /** @param {any} operation */
  #choose(operation) {
    amend({ entry: String(operation.index) });
    this.place.query.set('entry', String(operation.index));
    void this.attempt(() => this.#drawSide(operation));
  }

  /** @param {any} operation @param {number} [limit] */
  async #drawSide(operation, limit = PAYLOAD_BYTES) {
    const entry = (/** @type {number} */ index) => get(`/holdfast/v1/invocations/${encodeURIComponent(this.#id)}/journal/${index}?payload_size_max=${limit}`, this.signal);
    const facts = element`<dl class="facts">
      <dt>Key</dt><dd class="mono">${operation.key || '–'}</dd>
      ${operation.site ? html`<dt>In the code</dt><dd class="mono">${operation.site}</dd>` : ''}
      <dt>Began</dt><dd>${time(operation.at)}</dd>
      <dt>Took</dt><dd>${operation.end === null ? 'open' : duration(operation.end - operation.at)}</dd>
      ${operation.child ? html`<dt>Invocation</dt><dd>${runLink(operation.child, operation.child)}</dd>` : ''}
    </dl>`;
    // Another one may be chosen while this one is asked for.
    const isChosen = () => this.place.query.get('entry') === String(operation.index);
    const title = element`<h2>${kindWord(operation)} ${operation.name}</h2>`;
    if (operation.detail && operation.detail.kind === 'model') {
      const of = (/** @type {any} */ o) => get(`/holdfast/v1/invocations/${encodeURIComponent(this.#id)}/model-calls/${o.completion_id}`, this.signal);
      const models = this.#operations.filter((o) => o.detail && o.detail.kind === 'model');
      const before = models[models.findIndex((o) => o.index === operation.index) - 1];
      const [call, previous] = await Promise.all([of(operation), before ? of(before) : null]);
      if (!isChosen()) return;
      show(this.#side, title, llmPanel(call, previous && previous.messages), facts);
      return;
    }
    const parts = [await entry(operation.index)];
    if (operation.end_index !== undefined && operation.end_index !== null) parts.push(await entry(operation.end_index));
    if (!isChosen()) return;
    const all = () => void this.attempt(() => this.#drawSide(operation, 1 << 30));
    show(
      this.#side,
      title,
      facts,
      ...parts.flatMap((part) => [
        part.failure ? block('Failure', part.failure) : null,
        'payload' in part ? payloadBlock(part.kind.includes('Notification') ? 'Result' : 'Value', part.payload, all) : null,
        'parameter' in part ? payloadBlock('Argument', part.parameter, all) : null,
      ]),
    );
  }

  async #drawIo() {
    const found = [];
    for (const operation of this.#operations.filter((o) => o.kind === 'Input' || o.kind === 'Output')) {
      const entry = await get(`/holdfast/v1/invocations/${encodeURIComponent(this.#id)}/journal/${operation.index}?payload_size_max=${PAYLOAD_BYTES}`, this.signal);
      found.push(entry.failure ? block('Failure', entry.failure) : payloadBlock(operation.kind, entry.payload));
    }
    // Another tab may be open by now.
    if (this.#tab === 'io') show(this.#body, element`<div class="stack card">${found}</div>`);
  }

  async #drawJournal() {
    const { entries } = await get(`/holdfast/v1/invocations/${encodeURIComponent(this.#id)}/journal?payload_size_max=2000`, this.signal);
    if (this.#tab !== 'journal') return;
    const rows = entries.slice(0, 300).map((/** @type {any} */ entry) => element`<details class="card"><summary><span class="mono">${entry.index}</span> ${entry.kind} <span class="quiet">${entry.name || ''}</span></summary>${block('Entry', entry)}</details>`);
    show(this.#body, element`<div class="stack">${rows}${entries.length > 300 ? emptyBox(`${count(entries.length - 300)} more entries.`, `holdfast invocations journal ${this.#id}`) : ''}</div>`);
  }
}
customElements.define('hf-run', Run);
