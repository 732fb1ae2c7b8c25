// @ts-check
/** What serves handlers: workers that dial in, and endpoints that are dialled. */
import { element, html, show } from '../core/html.js';
import { ask, get } from '../core/api.js';
import { link } from '../core/router.js';
import { emptyBox, View } from '../core/view.js';
import { copyButton, time } from '../parts/bits.js';
import { confirm, openDialog, toast } from '../parts/dialog.js';
import { block } from '../parts/payload.js';

export default class Deployments extends View {
  title = 'Deployments';
  #body = element`<div class="stack"></div>`;

  begin() {
    show(this, element`<div class="stack"><div class="row spread"><h1>Deployments</h1><button type="button" @click=${() => this.#register()}>Register an endpoint</button></div>${this.#body}</div>`);
    void this.attempt(() => this.#load());
  }

  async #load() {
    const { deployments } = await get('/deployments', this.signal);
    const wanted = this.place.path[1];
    const shown = wanted ? deployments.filter((/** @type {any} */ each) => each.id === wanted) : [...deployments].reverse();
    if (!shown.length) return show(this.#body, emptyBox('Nothing is deployed here.', 'holdfast deployments register http://localhost:9080'));
    show(this.#body, ...shown.map((/** @type {any} */ each) => this.#card(each)));
  }

  /** @param {any} each */
  #card(each) {
    return element`<section class="card stack">
      <div class="row spread"><h2><a class="mono" href=${link(['deployments', each.id])}>${each.id}</a> ${copyButton(each.id, 'id')}</h2>
        <button type="button" class="danger" @click=${() => this.#remove(each)}>Remove</button></div>
      <dl class="facts"><dt>Address</dt><dd class="mono">${each.uri}</dd><dt>Registered</dt><dd>${time(Date.parse(each.created_at))}</dd>
        <dt>Protocol</dt><dd>${each.protocol_type}, ${each.http_version}, versions ${each.min_protocol_version}–${each.max_protocol_version}</dd>
        ${each.sdk_version ? html`<dt>SDK</dt><dd>${each.sdk_version}</dd>` : ''}
        <dt>Services</dt><dd>${each.services.map((/** @type {any} */ s) => element`<span class="chip"><a href=${link(['services', s.name])}>${s.name}</a> revision ${s.revision}</span> `)}</dd></dl>
    </section>`;
  }

  /** @param {any} each */
  #remove(each) {
    confirm(`Remove ${each.id}?`, 'It is refused while open invocations need it.', 'Remove', async () => {
      await ask('DELETE', `/deployments/${each.id}`);
      toast('Removed');
      void this.attempt(() => this.#load());
    }, { command: `holdfast deployments rm ${each.id}`, danger: true });
  }

  #register() {
    const uri = /** @type {HTMLInputElement} */ (element`<input size="40" placeholder="http://localhost:9080" aria-label="Address">`);
    const is11 = /** @type {HTMLInputElement} */ (element`<input type="checkbox">`);
    const found = element`<div class="stack"></div>`;
    const body = (/** @type {boolean} */ isDry) => ({ uri: uri.value, use_http_11: is11.checked, dry_run: isDry });
    const dialog = openDialog('Register an endpoint', html`<label>Address ${uri}</label><label class="row">${is11} HTTP/1.1</label>
      <div class="row"><button type="button" @click=${() => tried(true)}>Look at it first</button><button type="button" class="primary" @click=${() => tried(false)}>Register</button></div>${found}`);
    const view = this;
    async function tried(/** @type {boolean} */ isDry) {
      try {
        const said = await ask('POST', '/deployments', body(isDry));
        if (isDry) return show(found, block('It serves', said.services.map((/** @type {any} */ s) => s.name)));
        toast('Registered');
        dialog.close();
        void view.attempt(() => view.#load());
      } catch (error) {
        show(found, element`<p role="alert">${/** @type {Error} */ (error).message}</p>`);
      }
    }
  }
}
customElements.define('hf-deployments', Deployments);
