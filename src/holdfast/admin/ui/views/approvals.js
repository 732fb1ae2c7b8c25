// @ts-check
/** The inbox: what waits for a person, with its context; and what was decided, by whom. */
import { element, html, show } from '../core/html.js';
import { ApiError, ask, get } from '../core/api.js';
import { amend } from '../core/router.js';
import { onKey } from '../core/keys.js';
import { emptyBox, View } from '../core/view.js';
import { runLink, time } from '../parts/bits.js';
import { openDialog, toast } from '../parts/dialog.js';
import { block } from '../parts/payload.js';
import { SchemaForm } from '../parts/schema_form.js';
import { RowList } from '../parts/list.js';

/** @typedef {any} Approval */

export default class Approvals extends View {
  title = 'Approvals';
  #list = new RowList({
    label: 'Approvals',
    keyOf: (/** @type {Approval} */ row) => row.id,
    open: (row) => this.#open(row.id),
    columns: [
      { label: 'Asked', show: (row) => time(Date.parse(row.asked_at)) },
      { label: 'What', show: (row) => element`<strong>${row.title}</strong>` },
      { label: 'Of whom', show: (row) => row.assignees.join(', ') || 'anybody' },
      { label: 'By', show: (row) => html`${row.service}/${row.handler} ${runLink(row.invocation_id)}` },
      { label: 'Deadline', show: (row) => (row.expires_at ? html`${time(Date.parse(row.expires_at))} <span class="quiet">then ${row.on_timeout}</span>` : 'none') },
      { label: 'Decision', show: (row) => (row.status === 'open' ? '' : html`${row.status}${row.by ? ` by ${row.by}` : ''} ${row.decided_at ? time(Date.parse(row.decided_at)) : ''}`) },
    ],
  });
  #tabs = element`<div class="row" role="group" aria-label="Which"></div>`;
  #body = element`<div></div>`;
  #detail = element`<div></div>`;
  /** @type {Approval | null} */
  #shown = null;

  begin() {
    show(this, element`<div class="stack"><h1>Approvals</h1>${this.#tabs}${this.#body}${this.#detail}</div>`);
    for (const [key, label, act] of /** @type {[string, string, () => void][]} */ ([
      ['j', 'Next approval', () => this.#move(1)],
      ['k', 'Previous approval', () => this.#move(-1)],
      ['Enter', 'Open', () => this.#list.openCurrent()],
      ['a', 'Approve', () => this.#decide(true)],
      ['r', 'Reject', () => this.#decide(false)],
    ])) this.onLeave(onKey(key, label, act));
    this.#drawTabs();
    let waiting = 0;
    this.follow({
      ready: () => void this.attempt(() => this.#load()),
      frame: () => {
        clearTimeout(waiting);
        waiting = setTimeout(() => this.isConnected && void this.attempt(() => this.#load()), 300);
      },
    });
    if (this.place.path[1]) void this.attempt(() => this.#open(this.place.path[1]));
  }

  get #which() {
    return this.place.query.get('status') || 'open';
  }

  #drawTabs() {
    show(this.#tabs, ...['open', 'closed'].map((name) => element`<button type="button" class="chip" aria-pressed=${String(name === this.#which)} @click=${() => this.#choose(name)}>${name === 'open' ? 'Waiting' : 'History'}</button>`));
  }

  /** @param {string} name */
  #choose(name) {
    amend({ status: name === 'open' ? null : name });
    this.place.query.set('status', name);
    this.#drawTabs();
    void this.attempt(() => this.#load());
  }

  async #load() {
    const { approvals } = await get(`/holdfast/v1/approvals?status=${this.#which}&limit=100`, this.signal);
    this.#list.show(approvals);
    show(this.#body, approvals.length ? this.#list.table : emptyBox(this.#which === 'open' ? 'Nobody waits for a decision.' : 'Nothing was decided yet.', 'decision = await ctx.approve("Pay the claim?")'));
  }

  /** @param {number} step */
  #move(step) {
    this.#list.move(step);
    if (this.#list.current) void this.attempt(() => this.#open(this.#list.current.id));
  }

  /** @param {string} id */
  async #open(id) {
    const approval = await get(`/holdfast/v1/approvals/${encodeURIComponent(id)}`, this.signal);
    this.#shown = approval;
    const isOpen = approval.status === 'open';
    show(
      this.#detail,
      element`<div class="card stack">
        <h2>${approval.title}</h2>
        ${approval.why ? element`<p>${approval.why}</p>` : ''}
        <dl class="facts"><dt>Id</dt><dd class="mono">${approval.id}</dd><dt>Run</dt><dd>${runLink(approval.invocation_id, approval.invocation_id)}</dd>
        ${isOpen ? '' : html`<dt>Decision</dt><dd>${approval.status}${approval.by ? ` by ${approval.by}` : ''}</dd>`}</dl>
        ${approval.payload === null ? '' : block('What to look at', approval.payload)}
        ${approval.arguments === null ? '' : block('Arguments', approval.arguments)}
        ${isOpen ? element`<div class="row"><button type="button" class="primary" @click=${() => this.#decide(true)}>Approve…</button><button type="button" class="danger" @click=${() => this.#decide(false)}>Reject…</button></div>` : ''}
        <pre tabindex="0">holdfast approvals approve ${approval.id}</pre>
      </div>`,
    );
    this.#detail.scrollIntoView({ block: 'nearest' });
  }

  /** @param {boolean} isApproved */
  #decide(isApproved) {
    const approval = this.#shown;
    if (!approval || approval.status !== 'open') return;
    const comment = /** @type {HTMLTextAreaElement} */ (element`<textarea aria-label="Comment" rows="2"></textarea>`);
    const who = /** @type {HTMLInputElement} */ (element`<input aria-label="Your name" .value=${localStorage.getItem('holdfast.name') || ''}>`);
    const form = isApproved && approval.form ? new SchemaForm(approval.form, undefined) : null;
    const changed = isApproved && approval.arguments_schema ? new SchemaForm(approval.arguments_schema, approval.arguments) : null;
    const problem = element`<p role="alert"></p>`;
    const dialog = openDialog(`${isApproved ? 'Approve' : 'Reject'}: ${approval.title}`, html`
      ${form ? html`<h2>To fill in</h2>${form.element}` : ''}
      ${changed ? html`<h2>Arguments</h2>${changed.element}` : ''}
      <label>Your name ${who}</label><label>Comment ${comment}</label>${problem}
      <div class="row"><button type="button" class=${isApproved ? 'primary' : 'danger'} @click=${act}>${isApproved ? 'Approve' : 'Reject'}</button></div>`);
    const view = this;
    async function act() {
      const body = /** @type {Record<string, unknown>} */ ({ comment: comment.value, by: who.value });
      localStorage.setItem('holdfast.name', who.value);
      try {
        if (form) body.value = form.value();
        if (changed) body.arguments = changed.value();
        await ask('POST', `/holdfast/v1/approvals/${encodeURIComponent(approval.id)}/${isApproved ? 'approve' : 'reject'}`, body);
        toast(isApproved ? 'Approved' : 'Rejected');
      } catch (error) {
        if (!(error instanceof ApiError || error instanceof SyntaxError)) throw error;
        if (!(error instanceof ApiError && error.status === 409)) {
          problem.textContent = error.message;
          return;
        }
        // Somebody was faster: that is news, and no error.
        toast(error.message);
      }
      dialog.close();
      void view.attempt(() => view.#load());
      void view.attempt(() => view.#open(approval.id));
    }
  }
}
customElements.define('hf-approvals', Approvals);

