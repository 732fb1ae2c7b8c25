// @ts-check
/** Conversations: keys of virtual objects, by what ran for them last. */
import { element, show } from '../core/html.js';
import { get } from '../core/api.js';
import { link } from '../core/router.js';
import { emptyBox, View } from '../core/view.js';
import { runLink, status, time } from '../parts/bits.js';

const LOOK = 500;

export default class Sessions extends View {
  title = 'Sessions';
  #body = element`<div></div>`;

  begin() {
    show(this, element`<div class="stack"><h1>Sessions</h1>${this.#body}</div>`);
    this.follow({ ready: () => void this.attempt(() => this.#load()), frame: (frame) => {
      if (frame.rows.some((row) => row.key !== null)) void this.attempt(() => this.#load());
    } });
  }

  async #load() {
    const { invocations } = await get(`/holdfast/v1/invocations?view=summary&limit=${LOOK}`, this.signal);
    /** @type {Map<string, any[]>} */
    const sessions = new Map();
    for (const row of invocations) {
      if (row.kind !== 'virtual_object' || row.service.startsWith('Holdfast')) continue;
      const name = `${row.service}\n${row.key}`;
      sessions.set(name, [...(sessions.get(name) || []), row]);
    }
    if (!sessions.size) return show(this.#body, emptyBox('No object was called yet.', 'chat = hf.VirtualObject("Chat")'));
    show(this.#body, element`<div class="scroll" tabindex="0" role="region" aria-label="Sessions"><table class="table"><thead><tr><th scope="col">Session</th><th scope="col">Last turn</th><th scope="col">Status</th><th scope="col" class="right">Turns</th><th scope="col">State</th></tr></thead><tbody>
      ${[...sessions.values()].map((rows) => element`<tr><td>${rows[0].service} / <strong>${rows[0].key}</strong></td><td>${runLink(rows[0].id)} ${rows[0].handler} ${time(rows[0].created)}</td><td>${status(rows[0].state)}</td><td class="right">${rows.length}</td><td><a href=${link(['state', rows[0].service, rows[0].key])}>state</a></td></tr>`)}
    </tbody></table></div>`);
  }
}
customElements.define('hf-sessions', Sessions);
