// @ts-check
/** Which services there are, and what they can do. */
import { element, html, show } from '../core/html.js';
import { get } from '../core/api.js';
import { link } from '../core/router.js';
import { emptyBox, View } from '../core/view.js';

export default class Services extends View {
  title = 'Services';
  #body = element`<div class="stack"></div>`;

  begin() {
    show(this, element`<div class="stack"><h1>Services</h1>${this.#body}</div>`);
    void this.attempt(() => this.#load());
  }

  async #load() {
    const { services } = await get('/services', this.signal);
    if (!services.length) return show(this.#body, emptyBox('No services are registered.', 'holdfast dev agent.py:app'));
    show(this.#body, ...services.map((/** @type {any} */ service) => element`<section class="card stack">
      <div class="row spread"><h2>${service.name} <span class="quiet">${kindOf(service.ty)}</span></h2>
      <span class="row"><a href=${link(['invocations'], { service: service.name })}>invocations</a>${service.ty === 'Service' ? '' : html`<a href=${link(['state', service.name])}>state</a>`}<a class="mono" href=${link(['deployments', service.deployment_id])}>revision ${service.revision}</a></span></div>
      ${service.documentation ? element`<p class="quiet">${service.documentation}</p>` : ''}
      <div class="scroll" tabindex="0" role="region" aria-label=${`Handlers of ${service.name}`}><table class="table"><thead><tr><th scope="col">Handler</th><th scope="col">What</th><th scope="col"><span class="visually-hidden">Try</span></th></tr></thead><tbody>
      ${service.handlers.map((/** @type {any} */ handler) => element`<tr><td><a href=${link(['services', service.name, handler.name])}>${handler.name}</a> ${handler.public === false ? element`<span class="quiet">private</span>` : ''}</td><td>${handler.documentation || ''}</td><td><a href=${link(['services', service.name, handler.name])}>Try it</a></td></tr>`)}
      </tbody></table></div></section>`));
  }
}
customElements.define('hf-services', Services);

/** @param {string} ty */
export const kindOf = (ty) => /** @type {Record<string, string>} */ ({ Service: 'service', VirtualObject: 'virtual object', Workflow: 'workflow' })[ty] || ty;
