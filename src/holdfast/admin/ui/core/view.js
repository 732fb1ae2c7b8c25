// @ts-check
/**
 * What views have in common. A view is a custom element; the app makes a new one for each place.
 *
 * `signal` ends everything the view has under way when it goes: pass it to each call and listener.
 */
import { element, html } from './html.js';
import { live } from './live.js';
import { ApiError } from './api.js';

export class View extends HTMLElement {
  #abort = new AbortController();
  /** @type {(() => void)[]} */
  #leaving = [];
  /** @type {Element | null} */
  #problem = null;

  /** Where the view is; set by the app before it is shown. @type {import('./router.js').Place} */
  place = { path: [], query: new URLSearchParams() };
  /** Of the tab; empty: the path. */
  title = '';

  get signal() {
    return this.#abort.signal;
  }

  connectedCallback() {
    this.begin();
  }

  disconnectedCallback() {
    this.#abort.abort();
    for (const leave of this.#leaving) leave();
  }

  /** Draw, and ask for what is to be shown. */
  begin() {}

  /** Take a moved query of the same place; return false to be made anew. @param {import('./router.js').Place} place */
  moved(place) {
    return false;
  }

  /** @param {() => void} leave called when the view goes */
  onLeave(leave) {
    this.#leaving.push(leave);
  }

  /** @param {import('./live.js').Listener} listener */
  follow(listener) {
    this.onLeave(live.listen(listener));
  }

  /** Call again and again while the view is there. @param {() => void} act @param {number} ms */
  every(act, ms) {
    const timer = setInterval(act, ms);
    this.onLeave(() => clearInterval(timer));
  }

  /**
   * Run what asks the server: a failure is shown above what was there before, with a button that
   * tries again.
   * @param {() => Promise<void>} act
   */
  async attempt(act) {
    try {
      await act();
      if (this.#problem) this.#problem.remove();
      this.#problem = null;
    } catch (error) {
      if (this.signal.aborted) return;
      if (!(error instanceof ApiError)) throw error;
      const box = problemBox(error, () => this.attempt(act));
      if (this.#problem) this.#problem.replaceWith(box);
      else this.prepend(box);
      this.#problem = box;
    }
  }
}

/** @param {ApiError} error @param {() => void} [retry] */
export function problemBox(error, retry) {
  return element`<div class="problem" role="alert">
    <strong>${error.message}</strong>
    <span>${error.call}${error.code ? html` · <code>${error.code}</code>` : ''}</span>
    ${error.hint ? html`<span>${error.hint}</span>` : ''}
    ${retry ? html`<button type="button" @click=${retry}>Try again</button>` : ''}
  </div>`;
}

/** What an empty view says. @param {string} text @param {string} [command] */
export function emptyBox(text, command) {
  return element`<div class="empty"><p>${text}</p>${command ? html`<pre tabindex="0">${command}</pre>` : ''}</div>`;
}
