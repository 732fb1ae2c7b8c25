// @ts-check
/** The state of objects: services, keys, values; edited against the version that was seen. */
import { element, html, show } from '../core/html.js';
import { ask, get } from '../core/api.js';
import { size } from '../core/format.js';
import { link } from '../core/router.js';
import { emptyBox, View } from '../core/view.js';
import { confirm, openDialog, toast } from '../parts/dialog.js';
import { block, payloadBlock } from '../parts/payload.js';

export default class State extends View {
  title = 'State';
  #body = element`<div class="stack"></div>`;

  begin() {
    const [, service, key] = this.place.path;
    show(this, element`<div class="stack"><h1>State${service ? html` of <a href=${link(['state', service])}>${service}</a>` : ''}${key === undefined ? '' : html` / ${key}`}</h1>${this.#body}</div>`);
    void this.attempt(() => (key !== undefined ? this.#loadValues(service, key) : service ? this.#loadKeys(service) : this.#loadServices()));
  }

  async #loadServices() {
    const { services } = await get('/services', this.signal);
    const keyed = services.filter((/** @type {any} */ each) => each.ty !== 'Service');
    show(this.#body, keyed.length ? element`<ul class="card">${keyed.map((/** @type {any} */ each) => element`<li><a href=${link(['state', each.name])}>${each.name}</a></li>`)}</ul>` : emptyBox('No service here keeps state.', 'chat = hf.VirtualObject("Chat")'));
  }

  /** @param {string} service @param {string} [after] */
  async #loadKeys(service, after = '') {
    const query = after ? `?after=${encodeURIComponent(after)}` : '';
    const page = await get(`/holdfast/v1/state/${encodeURIComponent(service)}${query}`, this.signal);
    const keys = /** @type {string[]} */ (page.keys);
    const rows = keys.map((key) => element`<li><a href=${link(['state', service, key])}>${key}</a></li>`);
    if (!after && !keys.length) return show(this.#body, emptyBox('No key of this service has state.', `holdfast state ls ${service}`));
    if (!after) show(this.#body, element`<ul class="card"></ul>`);
    const list = /** @type {Element} */ (this.#body.querySelector('ul'));
    list.append(...rows);
    for (const old of this.#body.querySelectorAll('button')) old.remove();
    if (page.next) this.#body.append(element`<button type="button" @click=${() => this.attempt(() => this.#loadKeys(service, page.next))}>More</button>`);
  }

  /** @param {string} service @param {string} key */
  async #loadValues(service, key) {
    const path = `/holdfast/v1/state/${encodeURIComponent(service)}/${encodeURIComponent(key)}`;
    const { entries: found, version } = await get(path, this.signal);
    const entries = Object.fromEntries(found.map((/** @type {any} */ each) => [each.name, each.payload || each]));
    const names = Object.keys(entries);
    const reload = () => void this.attempt(() => this.#loadValues(service, key));
    show(
      this.#body,
      html`<div class="row"><button type="button" @click=${() => this.#edit(path, version, '', null, reload)}>New entry</button>
        ${names.length ? element`<button type="button" class="danger" @click=${() => this.#clear(path, version, service, key, reload)}>Clear all</button>` : ''}
        <a href=${link(['invocations'], { service })}>invocations</a></div>`,
      names.length
        ? names.map((name) => element`<section class="card stack"><div class="row spread"><h2>${name}</h2><span class="row"><span class="quiet">${size(entries[name].size)}</span>
            <button type="button" @click=${() => this.#edit(path, version, name, entries[name], reload)}>Edit</button></span></div>${payloadBlock('Value', entries[name])}</section>`)
        : emptyBox('This key has no state.'),
    );
  }

  /** @param {string} path @param {string} version @param {string} name @param {any} entry @param {() => void} reload */
  #edit(path, version, name, entry, reload) {
    const before = entry ? JSON.stringify(entry.value, null, 2) : 'null';
    const field = /** @type {HTMLInputElement} */ (element`<input aria-label="Name" .value=${name}>`);
    const area = /** @type {HTMLTextAreaElement} */ (element`<textarea aria-label="Value as JSON" rows="12" spellcheck="false"></textarea>`);
    area.value = before;
    if (entry && entry.encoding !== 'json') area.disabled = true;
    const dialog = openDialog(entry ? `Edit ${name}` : 'New entry', html`${entry ? '' : element`<label>Name ${field}</label>`}${area}
      ${area.disabled ? element`<p class="quiet">This value is no JSON, so it cannot be edited here.</p>` : ''}
      <div class="row"><button type="button" class="primary" @click=${review}>Look at the change</button></div>`);
    function review() {
      let value;
      try {
        value = JSON.parse(area.value);
      } catch (error) {
        return toast(`That is no JSON: ${/** @type {Error} */ (error).message}`);
      }
      dialog.close();
      const chosen = entry ? name : field.value;
      confirm(`Change ${chosen}?`, html`${block('Before', before)}${block('After', JSON.stringify(value, null, 2))}
        <p class="quiet">It is applied only if nobody changed the state since you read it. While a run holds the key, it waits its turn.</p>`, 'Change it', async () => {
        const said = await ask('PATCH', path, { set: { [chosen]: value }, version });
        toast(said && said.status === 'queued' ? 'Queued: a run holds the key.' : 'Changed');
        reload();
      }, { command: `holdfast state set …` });
    }
  }

  /** @param {string} path @param {string} version @param {string} service @param {string} key @param {() => void} reload */
  #clear(path, version, service, key, reload) {
    confirm(`Clear all state of ${service}/${key}?`, 'All entries of this key are removed.', 'Clear', async () => {
      await ask('PATCH', path, { replace: true, version });
      toast('Cleared');
      reload();
    }, { command: `holdfast state clear ${service} ${key}`, danger: true });
  }
}
customElements.define('hf-state', State);
